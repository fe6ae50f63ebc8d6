"""Which keys a query sees, for the functions of the suite that are about sequences.

Written down from the meaning and not from the function, of which only tables are taken. All are for sequences of
`N` keys, where windows that would be longer are 64; keys outside the sequence do not count.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable

import torch

from attnmask.lower.functions import MaskMod
from benchmarks.mask_functions.entry import drawn
from benchmarks.masks import documents

Keys = Iterable[int]
Visible = Callable[[int, int, int], Keys]  # batch row, head and query to keys
Reference = Callable[[MaskMod], Visible]
N = 517  # long enough for every radius to be more than 0, and no multiple of anything

# These need nothing of the function.
PLAIN: dict[str, Visible] = {
    "causal": lambda b, h, q: range(q + 1),
    "causal_of_several": lambda b, h, q: range(q) if q < N - 51 else (),
    "bidirectional": lambda b, h, q: range(N),
    "window_exclusive": lambda b, h, q: [q - back for back in range(64)],
    "window_inclusive": lambda b, h, q: [q - back for back in range(65)],
    "window_by_bound": lambda b, h, q: [q - back for back in range(64)],
    "window_two_sided": lambda b, h, q: range(q - 32, q + 33),
    "window_with_lookahead": lambda b, h, q: range(q - 64, q + 41),
    "window_in_place": lambda b, h, q: [q - back for back in range(64)],
    "listed_distances": lambda b, h, q: [q - back for back in (0, 1, 2, 4, 8, 64)],
    "sink_window": lambda b, h, q: {0, 1, 2, 3, *range(q - 63, q + 1)} & set(range(q + 1)),
    "prefix_lm": lambda b, h, q: range(max(q + 1, 172)),
    "chunked": lambda b, h, q: range(q - q % 64, q + 1),
    "block_causal": lambda b, h, q: range((q // 64 + 1) * 64),
    "dilated": lambda b, h, q: [q - 4 * back for back in range(64)],
    "strided": lambda b, h, q: {*range(q - 63, q + 1), *range(q, -1, -64)},
    "log_sparse": lambda b, h, q: {q, *(q - 2**power for power in range(10))},
    "cache_offset": lambda b, h, q: range(N - 64 + q + 1),
    "head_windows": lambda b, h, q: [q - back for back in range(64 >> h)],
    "head_halves": lambda b, h, q: range(q + 1) if h < 2 else range(q - 63, q + 1),
    "head_dilations": lambda b, h, q: range(q, q - q % (8 << h) - 1, -(1 << h)),
    "longformer": lambda b, h, q: range(N) if q < 16 else {*range(16), *range(q - 64, q + 65)},
}
# These take a table out of it, or prepare something.
REFERENCES: dict[str, Reference] = {}


def reference(of: Reference) -> Reference:
    REFERENCES[of.__name__] = of
    return of


def held(mask_mod: MaskMod, name: str) -> torch.Tensor:
    """A tensor that the function captured."""
    tensor = inspect.getclosurevars(mask_mod).nonlocals[name]
    assert isinstance(tensor, torch.Tensor)
    return tensor


@reference
def prefix_lm_per_row(mask_mod: MaskMod) -> Visible:
    prefix = held(mask_mod, "prefix").tolist()
    return lambda b, h, q: range(max(q + 1, prefix[b]))


@reference
def event_window(mask_mod: MaskMod) -> Visible:
    seconds = held(mask_mod, "seconds").tolist()
    return lambda b, h, q: [k for k in range(q + 1) if seconds[q] < seconds[k] + 32]


@reference
def chunked_left_padded(mask_mod: MaskMod) -> Visible:
    left = drawn(0, N // 5, (2,)).tolist()

    def visible(b: int, h: int, q: int) -> Keys:
        return [k for k in range(left[b], q + 1) if (k - left[b]) // 64 == (q - left[b]) // 64]

    return visible


@reference
def strided_fixed(mask_mod: MaskMod) -> Visible:
    def visible(b: int, h: int, q: int) -> Keys:
        summaries = [start + place for start in range(0, N, 64) for place in range(60, 64)]
        return {k for k in (*range(q - q % 64, q + 1), *summaries) if k <= q}

    return visible


@reference
def packed_ids(mask_mod: MaskMod) -> Visible:
    document = documents(N, 3).tolist()
    return lambda b, h, q: range(document.index(document[q]), q + 1)


@reference
def packed_cu_seqlens(mask_mod: MaskMod) -> Visible:
    document = documents(N, 3).tolist()
    return lambda b, h, q: range(document.index(document[q]), q + 1)


@reference
def packed_bounds(mask_mod: MaskMod) -> Visible:
    document = documents(N, 3).tolist()
    return lambda b, h, q: [k for k in range(N) if document[k] == document[q]]


@reference
def packed_prompts(mask_mod: MaskMod) -> Visible:
    document = documents(N, 3).tolist()

    def visible(b: int, h: int, q: int) -> Keys:
        members = [k for k in range(N) if document[k] == document[q]]
        return {*members[:64], *(k for k in members if k <= q)}

    return visible


@reference
def packed_to_length(mask_mod: MaskMod) -> Visible:
    document = documents(N, 3).tolist()
    return lambda b, h, q: range(document.index(document[q]), q + 1) if q < N - 73 else ()


@reference
def shared_prefix(mask_mod: MaskMod) -> Visible:
    prompt = N // 4

    def visible(b: int, h: int, q: int) -> Keys:
        own = range(prompt + (q - prompt) // 64 * 64, q + 1) if q >= prompt else ()
        return {*range(min(prompt, q + 1)), *own}

    return visible


@reference
def padded_keys(mask_mod: MaskMod) -> Visible:
    lengths = drawn(N // 2, N, (2,)).tolist()
    return lambda b, h, q: range(lengths[b])


@reference
def padded_lengths(mask_mod: MaskMod) -> Visible:
    lengths = drawn(N // 2, N, (2,)).tolist()
    return lambda b, h, q: range(lengths[b]) if q < lengths[b] else ()


@reference
def padded_causal_packed(mask_mod: MaskMod) -> Visible:
    document = documents(N, 3).tolist()

    def visible(b: int, h: int, q: int) -> Keys:
        row = document if b == 0 else document[::-1]
        return [k for k in range(0 if b else N // 9, q + 1) if row[k] == row[q]]

    return visible


@reference
def clusters(mask_mod: MaskMod) -> Visible:
    members: dict[int, list[int]] = {}
    ids = held(mask_mod, "cluster").tolist()
    for token, cluster in enumerate(ids):
        members.setdefault(cluster, []).append(token)
    return lambda b, h, q: [k for k in members[ids[q]] if k <= q]


@reference
def modalities(mask_mod: MaskMod) -> Visible:
    role = held(mask_mod, "role").tolist()
    seen = {0: (0, 1), 1: (0, 1, 2), 2: (1, 2, 3), 3: (0, 3)}
    return lambda b, h, q: [k for k in range(N) if role[k] in seen[role[q]]]


@reference
def cache_offset_per_row(mask_mod: MaskMod) -> Visible:
    seen = held(mask_mod, "seen").tolist()
    return lambda b, h, q: [seen[b] + q - back for back in range(64)]


@reference
def tree_verification(mask_mod: MaskMod) -> Visible:
    cached, ancestor = N - 64, held(mask_mod, "ancestor")
    return lambda b, h, q: [*range(cached), *(cached + int(node) for node in ancestor[q].nonzero())]


@reference
def tree_after_prefix(mask_mod: MaskMod) -> Visible:
    prompt, ancestor = N - 64, held(mask_mod, "ancestor")

    def visible(b: int, h: int, q: int) -> Keys:
        if q < prompt:
            return range(q + 1)
        return [*range(prompt), *(prompt + int(node) for node in ancestor[q - prompt].nonzero())]

    return visible


@reference
def block_diffusion(mask_mod: MaskMod) -> Visible:
    half = N // 2

    def visible(b: int, h: int, q: int) -> Keys:
        if q < half:  # noisy: the own block, and the clean blocks before it
            start = q // 16 * 16
            return [*range(start, min(start + 16, half)), *range(half, half + start)]
        return range(half, half + ((q - half) // 16 + 1) * 16)

    return visible


@reference
def head_retrieval(mask_mod: MaskMod) -> Visible:
    def visible(b: int, h: int, q: int) -> Keys:
        return range(q + 1) if h in (0, 3) else {*range(64), *range(q - 63, q + 1)} & set(range(q + 1))

    return visible


@reference
def bigbird_blocks(mask_mod: MaskMod) -> Visible:
    selected = held(mask_mod, "selected")

    def visible(b: int, h: int, q: int) -> Keys:
        blocks = selected[h, q // 64].nonzero().flatten().tolist()
        return [64 * block + place for block in blocks for place in range(64)]

    return visible


@reference
def kept_tokens(mask_mod: MaskMod) -> Visible:
    kept = [place for place, score in enumerate(held(mask_mod, "score").tolist()) if score > 0.99]
    return lambda b, h, q: {*(k for k in kept if k <= q), *range(q - 63, q + 1)}


@reference
def global_by_table(mask_mod: MaskMod) -> Visible:
    everywhere = held(mask_mod, "is_global").nonzero().flatten().tolist()
    return lambda b, h, q: range(N) if q in everywhere else {*everywhere, *range(q - 63, q + 64)}


@reference
def latest_image(mask_mod: MaskMod) -> Visible:
    latest = held(mask_mod, "latest").tolist()
    return lambda b, h, q: [latest[q] * 64 + token for token in range(64)] if latest[q] >= 0 else ()
