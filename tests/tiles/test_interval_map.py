"""Intervals of rows against the dense mask, whose rows are read key by key."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import attnmask as am
from attnmask.errors import MaskError
from attnmask.tiles import interval_map as module
from attnmask.tiles.interval_map import IntervalMap
from attnmask.tiles.runs import tile_runs
from tests.strategies import Case, cases
from tests.tiles.grids import GridCase, grid_cases


def intervals_of(row: NDArray[np.bool_]) -> list[list[int]]:
    """The stretches of attended keys, [first, one past the last] each."""
    found: list[list[int]] = []
    for key, attended in enumerate(row.tolist()):
        if attended and found and found[-1][1] == key:
            found[-1][1] += 1
        elif attended:
            found.append([key, key + 1])
    return found


def check(found: IntervalMap, dense: NDArray[np.bool_]) -> None:
    """`dense`: bool [batch, heads, q_len, kv_len]"""
    for b, h, q in np.ndindex(*dense.shape[:3]):
        assert found.row(q, b, h).tolist() == intervals_of(dense[b, h, q])
    assert found.pairs == dense.sum()
    assert found.most == max(len(intervals_of(row)) for row in dense.reshape(-1, dense.shape[-1]))
    for b, h in np.ndindex(*found.plane_of.shape):
        plane = found.plane_of[b, h]
        np.testing.assert_array_equal(found.keys[plane], dense[b, h].sum(axis=1))
        np.testing.assert_array_equal(found.counts[plane], [len(intervals_of(row)) for row in dense[b, h]])


@settings(max_examples=200)
@given(cases())
def test_intervals_are_those_of_the_dense_mask(case: Case) -> None:
    found = case.mask.row_intervals(*case.call.lengths, **case.call.options)
    check(found, case.mask.dense(*case.call.lengths, **case.call.options))
    assert (found.q_len, found.kv_len, found.q_offset) == (*case.call.lengths, case.call.domain.q_offset)


@settings(max_examples=60)
@given(cases(planes=False), st.integers(1, 400))
def test_tiles_give_the_same_in_portions_of_any_size(case: Case, portion: int) -> None:
    tiles = case.mask.tiles(*case.call.lengths, block=case.call.block, **case.call.options)
    dense = case.mask.dense(*case.call.lengths, **case.call.options)[0, 0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("attnmask.tiles.decide._PORTION", portion)
        parts = list(tile_runs(tiles, 0))
    rows = [
        np.stack([part.start[a:b], part.end[a:b]], axis=1).tolist()
        for part in parts
        for a, b in zip(part.indptr[:-1], part.indptr[1:], strict=True)
    ]
    assert rows == [intervals_of(row) for row in dense]
    assert [part.first for part in parts] == np.cumsum([0, *(len(part.indptr) - 1 for part in parts)])[
        :-1
    ].tolist()


@settings(max_examples=30)
@given(grid_cases())
def test_neighbourhoods_in_pictures(case: GridCase) -> None:
    check(case.mask.row_intervals(case.tokens), case.mask.dense(case.tokens)[None, None])


IDS = np.sort(np.random.default_rng(2).integers(0, 9, 90))
ROWS = np.random.default_rng(3).integers(0, 2, (2, 90))


@pytest.mark.parametrize(
    ("text", "tables"),
    [
        ("all", {}),
        ("none", {}),
        ("causal & (window(9) | sink(3))", {}),
        ("~causal", {}),
        ("rows(i >= 7) & causal", {}),
        ("same(doc)", {"doc": IDS}),
        ("same(doc)", {"doc": IDS[::-1] % 4}),
        ("same(doc)", {"doc": ROWS}),
        ("heads(:2) & causal | heads(2:) & same(doc)", {"doc": ROWS}),
        ("strided(3)", {}),
        ("live[k]", {"live": IDS % 2 == 0}),
    ],
)
@pytest.mark.parametrize(("q_len", "kv_len", "offset"), [(70, 70, 0), (1, 90, 20), (33, 1, 5), (70, 90, 13)])
def test_ragged_lengths_and_offsets(
    text: str, tables: dict[str, Any], q_len: int, kv_len: int, offset: int
) -> None:
    mask = am.compile(text, **tables)
    call: dict[str, Any] = {"batch": 2, "heads": 4, "q_offset": offset}
    check(mask.row_intervals(q_len, kv_len, **call), mask.dense(q_len, kv_len, **call))


def test_equal_planes_are_stored_once() -> None:
    found = am.compile("heads(:2) & causal | heads(2:) & window(3)").row_intervals(10, heads=5)
    assert found.n_planes == 2
    assert found.plane_of.tolist() == [[0, 0, 1, 1, 1]]
    assert len(found.indptr) == 21
    assert found.row(4, h=1).tolist() == [[0, 5]]
    assert found.row(4, h=4).tolist() == [[2, 7]]
    assert am.compile("causal").row_intervals(10, batch=3, heads=5).pairs == 15 * 55


def test_a_query_that_is_not_there() -> None:
    found = am.compile("causal").row_intervals(10, q_offset=5)
    for q in (-1, 10):
        with pytest.raises(IndexError, match="there is no query"):
            found.row(q)


def test_sorted_documents_are_one_interval_a_row() -> None:
    found = am.compile("same(doc)", doc=IDS).row_intervals(90)
    assert (found.counts == 1).all()
    np.testing.assert_array_equal(found.start, np.searchsorted(IDS, IDS, side="left"))
    np.testing.assert_array_equal(found.end, np.searchsorted(IDS, IDS, side="right"))


@pytest.mark.parametrize("text", ["strided(2)", "causal"])
def test_more_than_fits_into_memory(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "MOST_INTERVALS", 90)
    assert am.compile("causal").row_intervals(40).most == 1
    with pytest.raises(MaskError, match="would not fit into memory: more than 90"):
        am.compile(text).row_intervals(80)
