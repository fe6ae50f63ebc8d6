"""Counts and tiles by diagonals agree with the dense definition, and are used where k cancels out."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import attnmask as am
from attnmask.tiles.count import row_counts
from attnmask.tiles.diagonals import by_distance
from attnmask.tiles.refine import Refiner
from tests.strategies import Call, calls
from tests.tiles.reference import tiles_of

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


POWERS = np.isin(np.arange(400), [0, *(2**i for i in range(9))])
PARTS = (
    "(q - k) % 7 == 3",
    "abs(q - k) % 64 < 2",
    "(q - k & q - k - 1) == 0",
    "powers[abs(q - k)]",
    "where(q < k, k - q, q - k) // 9 % 2 == 0",
    "(q - k) * (q - k) % 5 < 2",
    "k <= q",
    "window(40)",
)
OTHER_PARTS = ("k < 9", "q % 3 != 1", "same(i // 20)", "true", "false")


@settings(max_examples=150)
@given(
    st.lists(st.sampled_from(PARTS), min_size=1, max_size=3),
    st.sampled_from(OTHER_PARTS),
    st.sampled_from(["&", "|", "^"]),
    st.sampled_from(["&", "|"]),
    calls(most=150, planes=False),
)
def test_tiles(parts: list[str], other: str, inner: str, outer: str, call: Call) -> None:
    text = f"({f' {inner} '.join(f'({part})' for part in parts)}) {outer} {other}"
    unbound = am.compile(text)
    mask = unbound.bind(powers=POWERS) if unbound.unbound else unbound
    (q_len, kv_len), offset = call.lengths, call.domain.q_offset
    found = mask.tiles(q_len, kv_len, block=call.block, q_offset=offset).dense()
    np.testing.assert_array_equal(found, tiles_of(mask.dense(q_len, kv_len, q_offset=offset), call.block))


@pytest.mark.parametrize(
    "text",
    [
        "(q - k) % 4 == 0 & abs(q - k) <= 90",
        "causal & ((q - k) % 64 == 0 | window(64))",
        "powers[abs(q - k)]",
    ],
)
def test_no_tile_is_looked_at(text: str) -> None:
    unbound = am.compile(text)
    mask = unbound.bind(powers=POWERS) if unbound.unbound else unbound
    with patch.object(Refiner, "outcomes", side_effect=AssertionError("a tile was undecided")):
        found = mask.tiles(400, block=(32, 50)).dense()
    np.testing.assert_array_equal(found, tiles_of(mask.dense(400), (32, 50)))
