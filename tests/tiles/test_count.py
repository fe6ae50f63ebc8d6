"""Counts of attended pairs, by rows and by partial tiles, against the dense mask."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

import attnmask as am
from attnmask.tiles.count import partial_counts, row_counts
from attnmask.tiles.profile import Profiles
from attnmask.tiles.thresholds import row_thresholds
from tests.strategies import Case, cases


@settings(max_examples=150)
@given(cases())
def test_counts_are_those_of_the_dense_mask(case: Case) -> None:
    dense = case.mask.dense(*case.call.lengths, **case.call.options)
    tiles = case.mask.tiles(*case.call.lengths, block=case.call.block, **case.call.options)
    partial = partial_counts(tiles)
    assert not partial.sampled
    bq, bk = tiles.block
    for b, h in np.ndindex(*tiles.plane_of.shape):
        plane = int(tiles.plane_of[b, h])
        np.testing.assert_array_equal(row_counts(tiles, plane), dense[b, h].sum(axis=1))
        for row in range(tiles.rows):
            number = plane * tiles.rows + row
            found = partial.values[tiles.partial.indptr[number] : tiles.partial.indptr[number + 1]]
            band = dense[b, h, row * bq : (row + 1) * bq]
            expected = [band[:, col * bk : (col + 1) * bk].sum() for col in tiles.partial.row(number)]
            np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    "text",
    [
        "causal & (window(9) | sink(3))",
        "abs(q - k) + k - q == 0",
        "abs(2 * q - k) - k <= -q",
        "min(q - k, 5) + max(k - 8, q) == 9",
        "abs(q // 3 - k // 5) == 2 ^ k < q",
        "max(q - k, k - q, 3) * -2 != -8",
        "t[k] - q == 0 | t[k] < q",
    ],
)
@pytest.mark.parametrize("offset", [0, 11])
def test_masks_of_intervals_are_counted_by_rows(text: str, offset: int) -> None:
    steps = np.sort(np.random.default_rng(1).integers(-5, 40, 50))[::-1]
    mask = am.compile(text, **({"t": steps} if "t[" in text else {}))
    tiles = mask.tiles(45, 50, block=(4, 7), q_offset=offset)
    assert row_thresholds(tiles.planes[0], Profiles(tiles.grid, tiles.tables)) is not None
    np.testing.assert_array_equal(row_counts(tiles), mask.dense(45, 50, q_offset=offset).sum(axis=1))
