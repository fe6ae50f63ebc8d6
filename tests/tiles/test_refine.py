"""Tiles below which cells are cut on: exactly those of the dense mask, whichever way they are found."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import attnmask as am
from attnmask.ir.check import check
from attnmask.tiles import refine
from attnmask.tiles.build import planes
from attnmask.tiles.classify import Classifier
from attnmask.tiles.grid import Grid, cells, first_cells
from attnmask.tiles.outcome import ANY, EMPTY, FULL, PARTIAL
from attnmask.tiles.profile import Profiles
from attnmask.tiles.refine import Refiner
from tests.strategies import Case, cases
from tests.tiles.grids import ORDERS, GridCase, grid_case, grid_cases
from tests.tiles.reference import tiles_of

blocks = st.one_of(st.integers(1, 24), st.sampled_from([32, 64, 100, 128]))


@contextmanager
def cutting(everything: bool = True, least_settled: float = 1 / 8) -> Iterator[None]:
    """Nothing is told by probes, or looked at whole because it is small: all is cut."""
    with ExitStack() as patches:
        if everything:
            patches.enter_context(patch.object(refine, "_PROBES", ()))
            patches.enter_context(patch.object(refine, "_ELEMENTS_A_POSITION", 0))
        patches.enter_context(patch.object(refine, "_LEAST_SETTLED", least_settled))
        yield


@settings(max_examples=150)
@given(grid_cases(), blocks, blocks, st.integers(0, 30), st.booleans(), st.data())
def test_neighbourhoods(
    case: GridCase, bq: int, bk: int, offset: int, cut: bool, data: st.DataObject
) -> None:
    mask, offset = case.mask, min(offset, case.tokens - 1)
    q_len = data.draw(st.integers(1, case.tokens - offset))
    kv_len = data.draw(st.sampled_from([case.tokens, max(1, case.tokens - 7)]))
    with cutting(cut):
        found = mask.tiles(q_len, kv_len, block=(bq, bk), q_offset=offset).dense()
    np.testing.assert_array_equal(found, tiles_of(mask.dense(q_len, kv_len, q_offset=offset), (bq, bk)))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kind", ["cut", "inward", "ball"])
@pytest.mark.parametrize("shape", [(52, 46), (14, 12, 10), (32, 32), (8, 8, 8)])
def test_neighbourhoods_of_more_tokens(order: str, kind: str, shape: tuple[int, ...]) -> None:
    if order == "morton" and len(set(shape)) > 1:
        shape = (32, 32) if len(shape) == 2 else (8, 8, 8)
    case = grid_case(shape, order, kind, 3)
    dense = case.mask.dense(case.tokens)
    for block in ((128, 128), (256, 64), (100, 37)):
        found = case.mask.tiles(case.tokens, block=block).dense()
        np.testing.assert_array_equal(found, tiles_of(dense, block))


@settings(max_examples=150)
@given(cases(), st.sampled_from([0, 0.5, 2]))
def test_any_mask_is_decided_by_cutting_alone(case: Case, least_settled: float) -> None:
    """From nothing known, with no probes; and with cutting given up after two cuts, or never."""
    domain, tables = case.call.domain, dict(case.mask.tables)
    grid = Grid(*case.call.lengths, *case.call.block, domain.q_offset)
    narrow = check(case.mask.predicate, domain, tables, {})
    arrays = {name: data.array for name, data in tables.items()}
    dense = case.mask.dense(*case.call.lengths, **case.call.options)
    distinct, plane_of = planes(case.mask.predicate, domain, tables)
    at = cells(grid, 0, *first_cells(grid, 0))
    for number, plane in enumerate(distinct):
        b, h = np.argwhere(plane_of == number)[0]
        refiner = Refiner(Classifier(plane, Profiles(grid, arrays)), narrow)
        with cutting(least_settled=least_settled):
            found = refiner.outcomes(at, np.full(len(at), ANY, np.uint8))
        expected = tiles_of(dense[b, h], case.call.block).ravel()
        np.testing.assert_array_equal(found, np.array([EMPTY, PARTIAL, FULL])[expected])


@pytest.mark.parametrize(
    "text",
    [
        "same(t) & u[q] < u[k]",
        "t[q] < u[k] & u[q] < t[k]",
        "(t[q] + u[k]) % 7 == 3 & t[k] < 20",
        "same(t) | same(u) | t[q] != u[k] + 1",
        "pairs[t[q], u[k]] & abs(q - k) < 300",
    ],
)
def test_tables_without_any_order(text: str) -> None:
    """Cutting does not help here, and is given up."""
    random = np.random.default_rng(9)
    known = {
        "t": random.integers(0, 40, 900),
        "u": random.integers(0, 40, 900),
        "pairs": random.random((40, 40)) < 0.01,
    }
    unbound = am.compile(text)
    mask = unbound.bind(**{name: known[name] for name in unbound.unbound})
    found = mask.tiles(900, 800, block=(64, 128)).dense()
    np.testing.assert_array_equal(found, tiles_of(mask.dense(900, 800), (64, 128)))


def test_a_single_element_makes_a_tile_partial() -> None:
    """Attended, or not, wherever it stands in the tile."""
    for q, k in [(0, 0), (127, 255), (300, 129), (211, 383)]:
        one = f"abs(y[q] - {q}) + abs(y[k] - {k}) < 1"
        for text in (one, f"~({one})"):
            mask = am.compile(text, y=np.arange(384))
            with cutting():
                found = mask.tiles(384).dense()
            np.testing.assert_array_equal(found, tiles_of(mask.dense(384), (128, 128)))


def test_what_a_call_tabulates_is_freed_when_it_ends() -> None:
    """Arrays over all positions must not wait for the collector of cycles."""
    mask = grid_case((52, 46), "raster", "cut", 3).mask
    mask.tiles(52 * 46)
    gc.collect()
    gc.disable()
    try:
        mask.tiles(52 * 46)
        assert gc.collect() == 0
    finally:
        gc.enable()
