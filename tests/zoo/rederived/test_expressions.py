"""Systems and modes without an entry of their own, written in the language, against plain loops over their rules."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import attnmask as am
from tests.zoo.choosing_row import Row
from tests.zoo.rederived import gates, lines, vision
from tests.zoo.test_choosing_decode import (
    DIM,
    Shape,
    System,
    compare,
    dense,
    drawn,
    expected,
    floats,
    whole,
)
from tests.zoo.test_choosing_prefill import boxes, columns
from tests.zoo.test_choosing_prefill import gates as gates_of_heads

PROMPTS = (
    Shape(2, 4, 2, 23, 23),
    Shape(1, 3, 1, 5, 5),
    Shape(1, 1, 1, 1, 1),
    Shape(1, 2, 2, 32, 32),
    Shape(1, 4, 1, 13, 29, 16),  # the end of a prompt
)
ENDS = (*PROMPTS[:3], Shape(1, 6, 2, 1, 40, 39), Shape(2, 2, 1, 6, 37, 31), Shape(1, 4, 1, 7, 30, 5))
REAL = (floats,)

POOLS = "concat(max, min, mean)"
PROJECTED = f"pool=linear(k_gate, {POOLS})"
GATE = f"blocks(4, {PROJECTED}, q_block=4, q_pool=linear(q_gate, {POOLS}), scale=sqrt)"
DECODE_GATE = (
    f"blocks(4, {PROJECTED}, q_pool=linear(q_gate, mean), scale=sqrt, norm=softmax, proxy=GROUP), "
    "among=k // 4 < q // 4"
)


def gates_of_groups(shape: Shape, n: np.random.Generator) -> dict[str, NDArray[np.float64]]:
    """A single query is not pooled: its projection has a row for each channel."""
    return {
        "q_gate": n.standard_normal((shape.kv_heads, DIM, 3)),
        "k_gate": n.standard_normal((shape.kv_heads, 3 * DIM, 3)),
    }


def seer_by_ratio(ratio: float) -> System:
    chosen = f"top(ratio_causal={ratio}, score={GATE}, among=k // 4 <= q // 4)"
    return System(
        f"causal & ({chosen} | q // 4 >= (K + 3) // 4 - 2)",
        lambda row: gates.seer_by_ratio(row, ratio, 4),
        REAL,
        gates_of_heads,
    )


def vmoba(text: str, cell: Callable[[int], int], n: int, over: str) -> System:
    return System(
        f"top({n}, blocks({text}), among=all, count=same({text}), over={over})",
        lambda row: gates.vmoba_by_number(row, cell, n, over),
        # Whole numbers hold over rows alone: elsewhere the order of equal pairs of cells and queries is not fixed.
        (whole, floats) if over == "row" else REAL,
    )


def draft(sparsity: float) -> System:
    """Three tokens of text have a cell of their own, which no image token is in."""
    pooled = "blocks((i + 1) // 4, q_block=(i + 1) // 4, scale=sqrt, norm=softmax)"
    images = "q >= 3 & k >= 3"
    return System(
        f"q < 3 | k < 3 | above({sparsity}, {pooled}, quantile=true, over=head, among={images})",
        lambda row: vision.draft_beside_text(row, 3, lambda i: (i + 1) // 4, sparsity),
    )


SAMPLED = "exact(4, q_block=4, stride=2, causal=false)"
BANDS = {
    1: f"top(ratio=0.25, score={SAMPLED}, among=all)",
    2: f"top(ratio=0.5, score={SAMPLED}, among=all) - top(ratio=0.25, score={SAMPLED}, among=all)",
    4: f"top(ratio=0.75, score={SAMPLED}, among=all) - top(ratio=0.5, score={SAMPLED}, among=all)",
    0: f"~top(ratio=0.75, score={SAMPLED}, among=all)",
}
# Numbers of blocks that are cut in four without a remainder.
WHOLE_BANDS = (Shape(2, 4, 2, 32, 32), Shape(1, 2, 1, 30, 30), Shape(1, 3, 1, 14, 14))


def psa(level: int) -> System:
    return System(BANDS[level], lambda row: vision.psa(row, level, 4, 2), REAL)


CALLS = [
    (system, shape)
    for system in (
        System("top(2, blocks(4), among=all)", lambda row: gates.flash_moba_both_ways(row, 2, 4)),
        vmoba("i // 4", lambda i: i // 4, 2, "row"),
        vmoba("i // 8 * 2 + i % 4 // 2", columns, 2, "head"),
        vmoba("i // 12 * 3 + i % 6 // 2", boxes, 3, "head"),
        vmoba("i // 5", lambda i: i // 5, 2, "all"),
        draft(0.6),
        draft(0.9),
        *(seer_by_ratio(ratio) for ratio in (0.3, 0.5, 0.75)),
    )
    for shape in PROMPTS
]
CALLS += [
    (system, shape)
    for system in (
        System(
            f"causal & (k // 4 == q // 4 | above(0.15, {DECODE_GATE}))",
            lambda row: gates.seer_learned_decode(row, 4, threshold=0.15),
            REAL,
            gates_of_groups,
        ),
        System(
            f"causal & (k // 4 == q // 4 | top(2, {DECODE_GATE}))",
            lambda row: gates.seer_learned_decode(row, 4, tokens=11),
            REAL,
            gates_of_groups,
        ),
    )
    for shape in ENDS
]
CALLS += [(psa(level), shape) for level in BANDS for shape in WHOLE_BANDS]


@pytest.mark.parametrize(("system", "shape"), CALLS, ids=str)
def test_expression_is_its_rule(system: System, shape: Shape) -> None:
    for draw in system.draws:
        compare(system, shape, draw, seed=shape.kv_len)


LINES = (
    "top(columns, probe(5, block=4), count=k < 4)"
    " | top(distances, probe(5, along=diagonals, block=4), count=0 <= q - k < 4)"
)


@pytest.mark.parametrize("gamma", [0.5, 0.9])
@pytest.mark.parametrize("shape", [shape for shape in PROMPTS if shape.batch == 1], ids=str)
def test_verticals_and_slashes_of_flex_prefill(shape: Shape, gamma: float) -> None:
    """With the authors' numbers of blocks. Their slashes are diagonals of blocks, here of tokens: the same where the
    distance of two tokens, in blocks, is that of their blocks; and nothing is seen that no block of theirs has, next
    to the diagonal that a block of distances also crosses.
    """
    system = System(f"causal & ({LINES})", lambda row: lines.flex_vertical_slash(row, gamma, 4, 5), REAL)
    call = drawn(system, shape, floats, shape.kv_len)
    row = Row(call.q[0].tolist(), call.k[0].tolist(), shape.q_offset, {})
    numbers = [lines.flex_numbers(row, h, gamma, 4, 5) for h in range(shape.heads)]
    columns_of, distances_of = (torch.tensor(of_kind) for of_kind in zip(*numbers, strict=True))
    mask = am.compile(system.text)
    choices = mask.choose(call.q, call.k, q_offset=shape.q_offset, columns=columns_of, distances=distances_of)
    found, authors = dense(mask, shape, choices), expected(system, shape, call)
    q, k = np.arange(shape.q_len)[:, None] + shape.q_offset, np.arange(shape.kv_len)
    agree = (q - k) // 4 == q // 4 - k // 4
    np.testing.assert_array_equal(found & agree, authors & agree)
    assert agree.any()


@pytest.mark.parametrize("shape", WHOLE_BANDS, ids=str)
def test_pyramid_sparse_attention_from_q_k_and_v(shape: Shape) -> None:
    """Levels are read off the bands, a pair of blocks at a time; attention over cells is a loop."""
    call = drawn(psa(1), shape, floats, 3)
    v = torch.from_numpy(floats(np.random.default_rng(4), tuple(call.k.shape)))
    levels = torch.zeros(
        shape.batch, shape.heads, -(-shape.q_len // 4), -(-shape.kv_len // 4), dtype=torch.int64
    )
    for level, text in BANDS.items():
        mask = am.compile(text)
        levels += level * torch.from_numpy(dense(mask, shape, mask.choose(call.q, call.k))[:, :, ::4, ::4])
    found, _ = am.programs.pyramid_attention(call.q, call.k, v, levels, unit=4, sizes=(1, 2, 4))
    for b in range(shape.batch):
        row = Row(call.q[b].tolist(), call.k[b].tolist(), 0, {})
        wanted = vision.attention_by_levels(row, v[b].tolist(), 4, 2)
        torch.testing.assert_close(found[b], torch.tensor(wanted, dtype=found.dtype))
