"""Equations of values that stand in no order: exactly the tiles of the dense mask, without looking at elements."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import attnmask as am
from attnmask.tiles import matches
from attnmask.tiles.matches import ranks
from attnmask.tiles.refine import Refiner
from tests.tiles.reference import tiles_of

KNOWN_AT_ONCE = [
    "same(t)",
    "t[q] != t[k]",
    "t[q] == u[k] + 1",
    "same(t) & same(u)",
    "k < 320 & same(t) & q < 640 & same(u)",
    "t[q] != u[k] | u[q] != t[k]",
    "same(t) & same(u) & same(i // 5)",
    "~(same(t) & same(u))",
]
OTHERS = ["same(t) | same(u)", "causal & same(t) & same(u)", "same(t) & t[q] != u[k]", "same(t) ^ same(u)"]


@settings(max_examples=200)
@given(
    st.sampled_from(KNOWN_AT_ONCE + OTHERS),
    st.integers(1, 300),
    st.integers(1, 300),
    st.one_of(st.integers(1, 30), st.just(128)),
    st.one_of(st.integers(1, 30), st.just(128)),
    st.sampled_from([0, 0, 5]),
    st.sampled_from([2, 60, 64, 66, 300, 10**12]),
    st.integers(0, 2**32),
    st.sampled_from([1, 2, 1 << 18]),
)
def test_tiles_of_tables_in_no_order(
    text: str, q_len: int, kv_len: int, bq: int, bk: int, offset: int, distinct: int, seed: int, words: int
) -> None:
    random = np.random.default_rng(seed)
    t, u = random.integers(-distinct, distinct, (2, 310)) // 2
    unbound = am.compile(text)
    mask = unbound.bind(
        **{name: table for name, table in {"t": t, "u": u}.items() if name in unbound.unbound}
    )
    with patch.multiple(matches, _MOST_WORDS=words, _PORTION=words):
        found = mask.tiles(q_len, kv_len, block=(bq, bk), q_offset=offset).dense()
    np.testing.assert_array_equal(found, tiles_of(mask.dense(q_len, kv_len, q_offset=offset), (bq, bk)))


@pytest.mark.parametrize("text", KNOWN_AT_ONCE)
@pytest.mark.parametrize("distinct", [3, 500, 10**9])
def test_no_tile_is_looked_at(text: str, distinct: int) -> None:
    t, u = np.random.default_rng(2).integers(0, distinct, (2, 3000))
    unbound = am.compile(text)
    mask = unbound.bind(
        **{name: table for name, table in {"t": t, "u": u}.items() if name in unbound.unbound}
    )
    with patch.object(Refiner, "outcomes", side_effect=AssertionError("a tile was undecided")):
        found = mask.tiles(3000, 2900, block=(64, 32)).dense()
    np.testing.assert_array_equal(found, tiles_of(mask.dense(3000, 2900), (64, 32)))


@given(
    st.lists(
        st.tuples(
            st.lists(st.integers(-5, 5), min_size=6, max_size=6),
            st.lists(st.integers(-(2**60), 2**60), min_size=6, max_size=6),
        ),
        min_size=1,
        max_size=3,
    )
)
def test_ranks_keep_the_order_of_tuples_and_skip_none(equations: list[tuple[list[int], list[int]]]) -> None:
    sides, count = ranks([(np.array(a), np.array(b)) for a, b in equations])
    tuples = [*zip(*(a for a, _ in equations), strict=True), *zip(*(b for _, b in equations), strict=True)]
    numbers = {values: rank for rank, values in enumerate(sorted(set(tuples)))}
    assert np.concatenate(sides).tolist() == [numbers[values] for values in tuples]
    assert count == len(numbers)
