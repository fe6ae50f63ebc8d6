"""BigBird's random blocks: how many, which, and how they are spread."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

import attnmask as am
from attnmask import zoo


def layouts(
    n_blocks: int, *, random: int = 3, seed: int = 0, heads: int = 1, block: int = 1, cut: int = 0
) -> NDArray[np.bool_]:
    """Attended blocks [heads, n_blocks, n_blocks]; `cut` positions are missing from the last block."""
    length = n_blocks * block - cut
    dense = zoo.bigbird(block=block, random=random, seed=seed).dense(length, heads=heads)[0]
    padded = np.zeros((heads, n_blocks * block, n_blocks * block), dtype=bool)
    padded[:, :length, :length] = dense
    tiles = padded.reshape(heads, n_blocks, block, n_blocks, block)
    if not cut:
        assert (tiles.any(axis=(2, 4)) == tiles.all(axis=(2, 4))).all(), "blocks are whole"
    layout: NDArray[np.bool_] = np.any(tiles, axis=(2, 4))
    return layout


def allowed(row: int, n_blocks: int) -> list[int]:
    """Blocks that `row` may draw: neither first, nor last, nor neighbours."""
    return [column for column in range(1, n_blocks - 1) if abs(column - row) > 1]


def drawn(layout: NDArray[np.bool_]) -> Iterator[tuple[int, list[int]]]:
    """Each middle row with the allowed blocks that it attends."""
    for row in range(1, len(layout) - 1):
        yield row, [column for column in allowed(row, len(layout)) if layout[row, column]]


@pytest.mark.parametrize("n_blocks", [1, 2, 3, 4, 5, 6, 7, 8, 13, 64])
@pytest.mark.parametrize("random", [0, 1, 3, 8, 9, 20])
def test_as_many_blocks_as_asked_for(n_blocks: int, random: int) -> None:
    for layout in layouts(n_blocks, random=random, heads=2):
        for row, columns in drawn(layout):
            assert len(columns) == min(random, len(allowed(row, n_blocks)))


def bits(seed: int, head: int, row: int, run: int) -> int:
    """The 16 bits behind a draw, as the file of the mask says."""

    def fold(x: int) -> int:
        return x % 2**16 ^ x // 2**8 % 2**8

    stirred = seed + 40503
    for number in (0, head, row, run, 0):
        stirred = fold(stirred ^ number) * 29717 % 2**16
    return fold(stirred)


@pytest.mark.parametrize("random", [1, 3, 8, 9, 12])
@pytest.mark.parametrize("seed", [0, 7, -3, 2**40])
def test_each_run_of_allowed_blocks_gives_one(random: int, seed: int) -> None:
    """More than eight blocks go by another formula, of the same draw."""
    for head, layout in enumerate(layouts(24, random=random, seed=seed, heads=3)):
        for row, columns in drawn(layout):
            free = allowed(row, 24)
            runs = [
                free[run * len(free) // random : (run + 1) * len(free) // random] for run in range(random)
            ]
            assert columns == [
                blocks[bits(seed, head, row, run) % len(blocks)] for run, blocks in enumerate(runs)
            ]


def test_the_number_of_blocks_may_be_bound_later() -> None:
    for random in (7, 8, 9):
        mask = am.compile("zoo.bigbird(block=1, random=wanted)", wanted=random)
        np.testing.assert_array_equal(mask.dense(40, heads=1)[0], layouts(40, random=random))


@pytest.mark.parametrize(("block", "cut"), [(3, 0), (4, 3), (5, 1)])
def test_all_else_is_window_and_global(block: int, cut: int) -> None:
    n_blocks = 12
    layout = layouts(n_blocks, block=block, cut=cut)[0]
    for row in range(n_blocks):
        must = {column for column in range(n_blocks) if abs(row - column) <= 1} | {0, n_blocks - 1}
        if row in (0, n_blocks - 1):
            must = set(range(n_blocks))
        assert must <= set(np.flatnonzero(layout[row]))
    assert [len(columns) for _, columns in drawn(layout)] == [3] * (n_blocks - 2)


def test_the_last_block_is_global_in_short_texts() -> None:
    """Trap 8: the authors' simulated mode builds 4096 positions and loses it."""
    dense = zoo.bigbird(block=64, random=0).dense(1024, heads=1)[0, 0]
    assert dense[:, -64:].all()
    assert dense[-64:].all()


def test_the_draw_is_frozen() -> None:
    """The same call gives the same blocks, today and in the next release."""
    first, again = layouts(16, seed=3, heads=2), layouts(16, seed=3, heads=2)
    np.testing.assert_array_equal(first, again)
    columns = [columns for _, columns in drawn(layouts(12)[0])]
    assert columns[:5] == [[4, 5, 8], [5, 6, 9], [1, 7, 9], [2, 6, 8], [1, 3, 9]]


@pytest.mark.parametrize("other", [{"seed": 1}, {"seed": -1}, {"seed": 12345}])
def test_seeds_differ(other: dict[str, int]) -> None:
    ours, theirs = (dict(drawn(layouts(40, **seed)[0])) for seed in ({}, other))
    same = sum(ours[row] == theirs[row] for row in ours)
    assert same <= 2


def test_heads_differ() -> None:
    heads = [dict(drawn(layout)) for layout in layouts(40, heads=8)]
    for number, head in enumerate(heads):
        for other in heads[:number]:
            assert sum(head[row] == other[row] for row in head) <= 2


def test_rows_differ_and_do_not_follow_from_each_other() -> None:
    """First draws of neighbouring rows meet, and step on by one, about as often as chance has it."""
    firsts = [columns[0] for layout in layouts(100, heads=16) for _, columns in drawn(layout)]
    steps = Counter(after - before for before, after in pairwise(firsts))
    # 1568 pairs over runs of 32 or so: 49 expected for a step of nought, with a deviation of 7.
    assert 20 < steps[0] < 80
    assert 20 < steps[1] < 80


def test_every_allowed_block_is_about_equally_likely() -> None:
    """Chi-squared over many heads for one row: 59 degrees of freedom, mean 59, deviation 11."""
    n_blocks, heads, row = 64, 600, 30
    layout = layouts(n_blocks, heads=heads)
    counts = layout[:, row, allowed(row, n_blocks)].sum(axis=0)
    expected = heads * 3 / len(counts)
    assert ((counts - expected) ** 2 / expected).sum() < 59 + 4 * 11
