"""Blocks, groups of heads, layers and documents."""

from __future__ import annotations

from tests.zoo.cases import ONE_AXIS, SQUARE, At, Case, Lengths, Sees, over


def bigbird_without_draw(at: At, block: int = 64, random: int = 0) -> Sees:
    """First, last and neighbouring blocks; see test_bigbird for the random ones."""
    assert random == 0
    last = -(-at.n_keys // block) - 1

    def sees(q: int, k: int) -> bool:
        row, column = q // block, k // block
        return row in (0, last) or column in (0, last) or column in (row - 1, row, row + 1)

    return sees


def longlora_roll(at: At, group: int = 0) -> Sees:
    """Roll, cut into groups, causal inside by the order after the roll."""
    n = at.n_keys
    group = group or max(n // 4, 1)
    shift = group // 2 if at.h >= at.heads // 2 else 0
    rolled = list(range(n))[shift:] + list(range(n))[:shift]
    place = {token: number for number, token in enumerate(rolled)}

    def sees(q: int, k: int) -> bool:
        return place[q] // group == place[k] // group and place[k] <= place[q]

    return sees


def longlora_flash(at: At, group: int = 0) -> Sees:
    """Sequences between cut points: whole groups, or moved by half with a half at either end."""
    group = group or max(at.n_keys // 4, 1)
    first = group - group // 2 if at.h >= at.heads // 2 else group
    cuts: list[int] = [0, *range(first, 1000, group)]

    def sees(q: int, k: int) -> bool:
        begin = max(cut for cut in cuts if cut <= q)
        return begin <= k <= q

    return sees


def blockrank(at: At, block: int, valid: list[bool] | None = None) -> Sees:
    """Instruction, documents and query apart, as the code computes them."""
    n_blocks = -(-at.n_keys // block)

    def sees(q: int, k: int) -> bool:
        row, column = q // block, k // block
        if valid is not None and not (valid[q] and valid[k]):
            return False
        if row == column:
            return k % block <= q % block
        if row == 0:
            return False
        if row == n_blocks - 1:
            return column < row
        return column == 0

    return sees


def gemma2(at: At, layer: int, window: int = 4096) -> Sees:
    local = (["local", "global"] * 21)[layer] == "local"
    return lambda q, k: (max(0, q - window + 1) if local else 0) <= k <= q


def gemma3(at: At, layer: int, window: int = 1024, pattern: int = 6) -> Sees:
    local = ((["local"] * (pattern - 1) + ["global"]) * 20)[layer] == "local"
    return lambda q, k: (max(0, q - window + 1) if local else 0) <= k <= q


def llama4(at: At, layer: int, chunk: int = 8192, pattern: int = 4) -> Sees:
    chunked = ((["chunked"] * (pattern - 1) + ["full"]) * 20)[layer] == "chunked"
    return lambda q, k: (q - q % chunk if chunked else 0) <= k <= q


def packed_documents(at: At, doc: list[int]) -> Sees:
    def sees(q: int, k: int) -> bool:
        begin = doc.index(doc[q])
        return begin <= k <= q

    return sees


def packed_rows(at: At, doc: list[list[int]]) -> Sees:
    return packed_documents(at, doc[at.b])


def shared_prefix(at: At, doc: list[int], prefix: list[int] | None = None) -> Sees:
    """Each continuation as the logical text prefix + continuation, causal in the order of that text."""

    def sees(q: int, k: int) -> bool:
        document = doc[q]
        before = 0 if prefix is None else prefix[q]
        tokens = [i for i in range(len(doc)) if doc[i] == document]
        if before != document:
            tokens = [i for i in range(len(doc)) if doc[i] == before] + tokens
        return k in tokens[: tokens.index(q) + 1]

    return sees


def hdt(at: At, sentence: list[int], section: list[int], document: list[int]) -> Sees:
    groups = [
        {i for i in range(len(level)) if level[i] == number}
        for level in (sentence, section, document)
        for number in set(level) - {-1}
    ]
    return lambda q, k: any(q in group and k in group for group in groups)


def some_document() -> tuple[list[int], list[int], list[int]]:
    """<doc> <sec> [CLS] w w [CLS] w <sec> [CLS] w w w [PAD]: levels of an HDT input."""
    tokens = list("DSCwwCwSCwwwP")
    sentence, section, document = [], [], []
    at_sentence = at_section = -1
    for token in tokens:
        at_section += token == "S"
        at_sentence += token == "C"
        sentence.append(at_sentence if token in "Cw" else -1)
        section.append(at_section if token in "SC" else -1)
        document.append(0 if token in "DS" else -1)
    return sentence, section, document


SENTENCE, SECTION, DOCUMENT = some_document()
DOC = [0, 0, 0, 0, 1, 1, 2, 3, 3, 3, 3, 3, 3]
# Two prompts with two continuations each; and the same with the prompts last.
CONTINUED = [0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5]
PREFIX = [0, 0, 0, 0, 0, 0, 0, 3, 3, 3, 3, 3]
LATER = [1, 1, 2, 0, 0, 0]
LEFT_PADDED = [position % 4 >= (1, 0, 3, 4, 2, 0)[position // 4] for position in range(24)]
MULTIPLES_OF_8 = tuple(Lengths(n, n) for n in (8, 16, 24, 64))

CASES: tuple[Case, ...] = (
    *over(
        "bigbird",
        bigbird_without_draw,
        {"random": 0},
        {"random": 0, "block": 1},
        {"random": 0, "block": 4},
        {"random": 0, "block": 5},
        heads=2,
    ),
    *over("longlora_roll", longlora_roll, {}, {"group": 4}, {"group": 8}, lengths=MULTIPLES_OF_8, heads=4),
    *over("longlora_roll", longlora_roll, {"group": 5}, lengths=SQUARE, heads=3),
    *over("longlora_flash", longlora_flash, {}, {"group": 4}, {"group": 5}, heads=4),
    *over("longlora_flash", longlora_flash, {"group": 1}, {"group": 7}, heads=1),
    *over("blockrank", blockrank, {"block": 1}, {"block": 4}, {"block": 5}, lengths=ONE_AXIS[:-1]),
    Case(
        "blockrank",
        blockrank,
        {"block": 4, "valid": LEFT_PADDED},
        lengths=(Lengths(24, 24), Lengths(12, 12), Lengths(23, 23), Lengths(8, 24, 16)),
    ),
    *over("gemma2", gemma2, *({"layer": layer, "window": 6} for layer in range(4)), {"layer": 0}),
    *over("gemma3", gemma3, *({"layer": layer, "window": 6} for layer in (0, 4, 5, 6, 11)), {"layer": 2}),
    *over("gemma3", gemma3, *({"layer": layer, "window": 3, "pattern": 2} for layer in range(3))),
    Case("gemma3", gemma3, {"window": 6}, {"layer": 4}, {"layer": 4}),
    *over("llama4", llama4, *({"layer": layer, "chunk": 6} for layer in (0, 2, 3, 4, 7)), {"layer": 1}),
    Case("packed_documents", packed_documents, {"doc": DOC}, lengths=(Lengths(13, 13), Lengths(4, 13, 9))),
    Case(
        "packed_documents", packed_documents, {"doc": "doc"}, {"doc": DOC}, {"doc": DOC}, (Lengths(11, 11),)
    ),
    Case(
        "packed_documents",
        packed_rows,
        {"doc": [DOC, DOC[::-1]]},
        lengths=(Lengths(13, 13),),
        batch=2,
    ),
    Case("shared_prefix", shared_prefix, {"doc": CONTINUED, "prefix": PREFIX}, lengths=(Lengths(12, 12),)),
    Case("shared_prefix", shared_prefix, {"doc": DOC}, lengths=(Lengths(13, 13), Lengths(3, 13, 10))),
    Case("shared_prefix", shared_prefix, {"doc": LATER}, lengths=(Lengths(6, 6),)),
    Case(
        "hdt",
        hdt,
        {"sentence": SENTENCE, "section": SECTION, "document": DOCUMENT},
        lengths=(Lengths(13, 13), Lengths(6, 13, 7)),
    ),
)
