"""Bounds and outcomes on cells of every level, against all pairs of the cell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from attnmask.ir.check import check
from attnmask.ir.evaluate import evaluate
from attnmask.ir.index import absolute, add, const, floordiv, maximum, minimum, mod, mul, table, var
from attnmask.ir.kinds import is_index
from attnmask.ir.nodes import Expr, Index, Predicate
from attnmask.ir.predicate import compare, not_
from attnmask.ir.walk import children, postorder
from attnmask.tiles.bounds import Bounds
from attnmask.tiles.build import planes
from attnmask.tiles.classify import Classifier
from attnmask.tiles.grid import Cells, Grid, cells, first_cells
from attnmask.tiles.outcome import EMPTY, FULL, PARTIAL
from attnmask.tiles.profile import Profiles
from attnmask.tiles.structure import Structure
from tests.strategies import ARRAYS, Call, Case, calls, cases, indices, sound, tables_of

Values = NDArray[np.int64] | NDArray[np.bool_]


def grid_of(call: Call) -> Grid:
    return Grid(*call.lengths, *call.block, call.domain.q_offset)


def levels(grid: Grid) -> Iterator[Cells]:
    """All cells of the grid, level by level, up to the one that covers everything."""
    for level in range(grid.top + 1):
        yield cells(grid, level, *first_cells(grid, level))


def values_on(root: Expr, grid: Grid, tables: Mapping[str, NDArray[Any]] = ARRAYS) -> Values:
    """The value of an expression in q and k at every pair, [q_len, kv_len]."""
    q = np.arange(grid.q_len)[:, None] + grid.q_offset
    k = np.arange(grid.kv_len)[None, :]
    found: Values = np.broadcast_to(evaluate(root, {"q": q, "k": k}, tables), (grid.q_len, grid.kv_len))
    return found


def part(values: Values, at: Cells, number: int, offset: int) -> Values:
    """The values on one of the cells."""
    q = slice(int(at.q_first[number]) - offset, int(at.q_last[number]) - offset + 1)
    return values[q, int(at.k_first[number]) : int(at.k_last[number]) + 1]


def assert_sound_bounds(root: Index, grid: Grid) -> None:
    values = values_on(root, grid)
    profiles = Profiles(grid, ARRAYS)
    for at in levels(grid):
        found = Bounds(profiles, Structure(), at).of(root)
        low, high, tight, dense, gap = (
            np.broadcast_to(x, at.i.shape)
            for x in (found.low, found.high, found.tight, found.dense, found.gap)
        )
        for number in range(len(at)):
            reached = np.unique(part(values, at, number, grid.q_offset))
            what = f"{root} on cell {at.i[number]}, {at.j[number]} of level {at.level}: {found}"
            assert low[number] <= reached[0] and reached[-1] <= high[number], what
            if tight[number]:
                assert low[number] == reached[0] and high[number] == reached[-1], what
            if dense[number]:
                assert len(reached) == high[number] - low[number] + 1, what
            if gap[number] > 0 and len(reached) > 1:
                assert np.diff(reached).max() <= gap[number], what


@settings(max_examples=120)
@given(indices, calls(most=26, planes=False))
def test_bounds_hold_all_values_and_claim_no_more_than_is_reached(root: Index, call: Call) -> None:
    domain = call.domain
    assume(sound(root, domain))
    plane = planes(compare(root, "<", var("k")), domain, tables_of(root))[0][0]
    for node in postorder(plane):
        if is_index(node):
            assert_sound_bounds(node, grid_of(call))  # type: ignore[arg-type]  # is_index says so


affine = st.builds(
    lambda a, b, c: add(mul(const(a), var("q")), mul(const(b), var("k")), const(c)),
    st.one_of(st.sampled_from([-1, 1]), st.integers(-6, 6)),
    st.one_of(st.sampled_from([-1, 1]), st.integers(-6, 6)),
    st.integers(-40, 40),
)


@settings(max_examples=80)
@given(affine, st.integers(1, 9), calls(most=16, planes=False))
def test_affine_forms_their_remainders_and_their_sizes(form: Index, divisor: int, call: Call) -> None:
    """The forms that most masks are made of, with gaps between their values."""
    for root in (
        form,
        mod(form, const(divisor)),
        floordiv(form, const(divisor)),
        floordiv(form, const(-divisor)),
        absolute(form),
        absolute(mod(form, const(divisor))),
        mul(const(-3), floordiv(form, const(divisor))),
        floordiv(mul(const(3), absolute(form)), const(divisor)),
        mod(mul(const(-3), absolute(form)), const(divisor)),
        absolute(add(mul(const(3), absolute(form)), const(-4))),
        minimum(form, const(5)),
        maximum(form, const(-5)),
        mul(form, form),
        minimum(var("q"), mul(const(2), var("k"))),
        add(floordiv(var("q"), const(divisor)), mul(const(divisor), var("k"))),
    ):
        assert_sound_bounds(root, grid_of(call))


@settings(max_examples=150)
@given(cases(most=26))
def test_outcomes_hold_the_true_one_on_every_level(case: Case) -> None:
    """For the whole predicate and for every part that it is classified from."""
    grid, tables = grid_of(case.call), dict(case.mask.tables)
    check(case.mask.predicate, case.call.domain, tables, {})
    arrays = {name: data.array for name, data in tables.items()}
    for plane in planes(case.mask.predicate, case.call.domain, tables)[0]:
        profiles = Profiles(grid, arrays)
        for node in postorder(plane):
            if not is_index(node):
                _assert_sound_outcomes(node, grid, profiles)  # type: ignore[arg-type]  # what is no index is a predicate


@settings(max_examples=60)
@given(
    st.integers(0, 2**32),
    st.sampled_from([3, 64, 65, 200, 10**6]),
    st.integers(1, 20),
    st.booleans(),
    calls(most=200, planes=False),
)
def test_equal_values_are_found_however_many_there_are(
    seed: int, distinct: int, repeats: int, ascending: bool, call: Call
) -> None:
    """Past 64 values, sets of them are no longer exact, and ranges must not claim what they skip."""
    random, grid = np.random.default_rng(seed), grid_of(call)
    arrays = {}
    for name, length in (("t", grid.q_offset + grid.q_len), ("u", grid.kv_len)):
        drawn = np.repeat(random.integers(0, distinct, -(-length // repeats)), repeats)[:length]
        arrays[name] = np.sort(drawn) if ascending else drawn
    root = compare(table("t", (var("q"),)), "==", table("u", (var("k"),)))
    for equation in (root, not_(root)):
        _assert_sound_outcomes(equation, grid, Profiles(grid, arrays))


def _assert_sound_outcomes(root: Predicate, grid: Grid, profiles: Profiles) -> None:
    values = values_on(root, grid, profiles.tables)
    classifier = Classifier(root, profiles)
    for at in levels(grid):
        possible = classifier.outcomes(at)
        assert possible.shape == at.i.shape
        for number in range(len(at)):
            cell = part(values, at, number, grid.q_offset)
            true = FULL if cell.all() else PARTIAL if cell.any() else EMPTY
            what = (
                f"{root}, with parts {children(root)}, on {at.i[number]}, {at.j[number]} of level {at.level}"
            )
            assert possible[number] & true, what
