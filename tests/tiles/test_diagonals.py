"""Counting by diagonals agrees with the dense definition, and is used where k cancels out."""

from __future__ import annotations

import numpy as np
import pytest

import attnmask as am
from attnmask.tiles.count import row_counts
from attnmask.tiles.diagonals import by_distance

RELATIVE = np.random.default_rng(5).random(200) < 0.4


@pytest.mark.parametrize(
    "text", ["strided(5)", "causal & dilated(4, 3)", "near[q - k + 60]", "abs(q - k) % 7 == 2"]
)
@pytest.mark.parametrize(("q_len", "kv_len", "q_offset"), [(40, 33, 0), (7, 50, 9), (50, 50, 0), (1, 1, 3)])
def test_counts(text: str, q_len: int, kv_len: int, q_offset: int) -> None:
    mask = am.compile(text)
    mask = mask.bind(near=RELATIVE) if mask.unbound else mask
    tiles = mask.tiles(q_len, kv_len, q_offset=q_offset, block=(8, 5))
    assert by_distance(tiles.planes[0]) is not None
    dense = mask.dense(q_len, kv_len, q_offset=q_offset)
    np.testing.assert_array_equal(row_counts(tiles), dense.sum(axis=1))


@pytest.mark.parametrize("text", ["sink(3)", "q * k % 7 == 1", "strided(3) | q < 4", "(q + k) % 2 == 0"])
def test_other_masks_are_left_alone(text: str) -> None:
    assert by_distance(am.compile(text).tiles(8).planes[0]) is None
