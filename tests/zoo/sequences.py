"""Windows, sinks, prefixes, strides and segments along one axis."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from functools import cache

from tests.zoo.cases import At, Case, Sees, over


def streaming_llm(at: At, sinks: int = 4, recent: int = 2000) -> Sees:
    """The cache itself: room is made before a token comes in, sinks stay, then the most recent ones."""

    @cache
    def seen(q: int) -> frozenset[int]:
        kept: list[int] = []
        for token in range(q + 1):
            if len(kept) + 1 > sinks + recent:
                first, rest = kept[:sinks], kept[sinks:]
                kept = first + rest[len(rest) - (recent - 1) :]
            kept.append(token)
        return frozenset(kept)

    return lambda q, k: k in seen(q)


def mistral(at: At, window: int = 4096) -> Sees:
    """Every token is written over the one that came `window` tokens before it."""

    def sees(q: int, k: int) -> bool:
        buffer = {token % window: token for token in range(q + 1)}
        return k in buffer.values()

    return sees


def prefix_lm(at: At, length: int) -> Sees:
    return lambda q, k: k <= q or k < length


def prefix_lm_rows(at: At, length: list[int]) -> Sees:
    return lambda q, k: k <= q or k < length[at.b]


def longformer(
    at: At, window: int = 256, dilation: int = 1, is_global: Callable[[int], bool] = lambda i: i < 1
) -> Sees:
    def sees(q: int, k: int) -> bool:
        band = [q + step * dilation for step in range(-window, window + 1)]
        return k in band or is_global(q) or is_global(k)

    return sees


def sparse_transformer_local(at: At, stride: int = 128) -> Sees:
    return lambda q, k: k in [q - back for back in range(stride)]


def sparse_transformer_strided(at: At, stride: int = 128) -> Sees:
    return lambda q, k: k in range(q, -1, -stride)


def sparse_transformer_fixed(
    at: At, stride: int = 128, block: int = 32, groups: int = 4, summary: int = 1
) -> Sees:
    """Each head's layout of blocks, then single keys on the diagonal."""
    per = stride // block
    ends = [per - 1 - number for number in range(per)]
    chosen = ends[at.h % groups * summary :][:summary]

    def sees(q: int, k: int) -> bool:
        row, column = q // block, k // block
        own = row // per * per <= column < row // per * per + per
        return k <= q and (own or column % per in chosen)

    return sees


def moa(at: At, alpha: int, beta_numerator: int = 0, beta_denominator: int = 1, block: int = 64) -> Sees:
    blocks = at.n_keys // block
    width = max(int(alpha // block + Fraction(beta_numerator, beta_denominator) * blocks), 1)

    def sees(q: int, k: int) -> bool:
        back = q // block - k // block
        return k <= q and (k < block or back < width)

    return sees


def moa_per_head(at: At, alpha: list[int], beta_numerator: list[int], **rest: int) -> Sees:
    return moa(at, alpha[at.h], beta_numerator[at.h], **rest)


def orion_msp(at: At, special: int = 6, window: int = 4) -> Sees:
    return lambda q, k: q < special or k < special or abs(q - k) <= window or q == k


def infini_attention(at: At, segment: int = 2048) -> Sees:
    def sees(q: int, k: int) -> bool:
        own = range(q - q % segment, q + 1)
        return k in own

    return sees


def landmark(at: At, mem_freq: int = 50) -> Sees:
    """Sections by counting landmarks, which come after every `mem_freq` ordinary tokens."""
    landmarks = []
    ordinary = 0
    for position in range(200):
        if ordinary == mem_freq:
            landmarks.append(position)
            ordinary = 0
        else:
            ordinary += 1

    def section(position: int) -> int:
        return len([landmark for landmark in landmarks if landmark < position])

    return lambda q, k: k <= q and not (k in landmarks and section(k) == section(q))


def star_attention(at: At, block: int = 32768, anchor: int = -1, context: int = -1) -> Sees:
    """Block by block, with the anchor in front; then the question."""
    length = at.n_keys if context < 0 else context
    first = range(block if anchor < 0 else anchor)

    def sees(q: int, k: int) -> bool:
        if q >= length:
            return k <= q
        begin = q // block * block
        return k <= q and (k in first or k in range(begin, begin + block))

    return sees


def longlive(at: At, frame: int = 1560, chunk: int = 3, window: int = 12, sink: int = 3) -> Sees:
    """The frames in the cache while a chunk is made: the first ones, and the last ones of what is left."""

    def sees(q: int, k: int) -> bool:
        end = 0
        while end * frame <= q:
            end += chunk
        frames = list(range(end))
        local = frames[max(0, end - (window - sink)) :]
        return k // frame in set(frames[:sink] + local)

    return sees


CASES: tuple[Case, ...] = (
    *over("streaming_llm", streaming_llm, {}, {"sinks": 0, "recent": 5}, {"sinks": 3, "recent": 1}),
    *over("streaming_llm", streaming_llm, {"sinks": 4, "recent": 8}, {"sinks": 1, "recent": 16}),
    *over("mistral", mistral, {}, {"window": 1}, {"window": 8}),
    *over("prefix_lm", prefix_lm, {"length": 0}, {"length": 5}, {"length": 100}),
    Case(
        "prefix_lm",
        prefix_lm_rows,
        {"length": "n[b]"},
        {"length": [3, 0, 12]},
        {"n": [3, 0, 12]},
        batch=3,
    ),
    *over("longformer", longformer, {}, {"window": 3}, {"window": 0}, {"window": 2, "dilation": 3}),
    Case(
        "longformer",
        longformer,
        {"window": 2, "dilation": 2, "is_global": "i % 10 == 4"},
        {"is_global": lambda i: i % 10 == 4},
    ),
    Case(
        "longformer",
        longformer,
        {"window": 2, "is_global": [i in (0, 5) for i in range(64)]},
        {"is_global": lambda i: i in (0, 5)},
    ),
    *over("sparse_transformer_local", sparse_transformer_local, {}, {"stride": 1}, {"stride": 6}),
    *over("sparse_transformer_strided", sparse_transformer_strided, {}, {"stride": 1}, {"stride": 6}),
    *over(
        "sparse_transformer_fixed",
        sparse_transformer_fixed,
        {"stride": 8, "block": 2},
        {"stride": 16, "block": 2, "groups": 2, "summary": 2},
        {"stride": 6, "block": 3, "groups": 1, "summary": 2},
        {"stride": 4, "block": 1, "groups": 2},
        heads=8,
    ),
    *over(
        "moa",
        moa,
        {"alpha": 128},
        {"alpha": 0, "block": 4},
        {"alpha": 9, "block": 4},
        {"alpha": 4, "beta_numerator": 1, "beta_denominator": 3, "block": 4},
        {"alpha": -8, "beta_numerator": 7, "beta_denominator": 10, "block": 2},
    ),
    Case(
        "moa",
        moa_per_head,
        {"alpha": "alpha[h]", "beta_numerator": "beta[h]", "beta_denominator": 8, "block": 2},
        {"alpha": [0, 6, 2], "beta_numerator": [4, 0, 1]},
        {"alpha": [0, 6, 2], "beta": [4, 0, 1]},
        heads=3,
    ),
    *over("orion_msp", orion_msp, {}, {"special": 0, "window": 1}, {"special": 2, "window": 0}),
    *over("infini_attention", infini_attention, {}, {"segment": 1}, {"segment": 6}),
    *over("landmark", landmark, {}, {"mem_freq": 1}, {"mem_freq": 4}, {"mem_freq": 63}),
    *over(
        "star_attention",
        star_attention,
        {},
        {"block": 4},
        {"block": 6, "anchor": 2},
        {"block": 6, "anchor": 0},
        {"block": 4, "context": 13},
        {"block": 5, "anchor": 3, "context": 0},
    ),
    *over(
        "longlive",
        longlive,
        {"frame": 1},
        {"frame": 1, "chunk": 1, "window": 4, "sink": 1},
        {"frame": 2, "chunk": 3, "window": 6, "sink": 3},
        {"frame": 3, "chunk": 2, "window": 5, "sink": 0},
    ),
)
