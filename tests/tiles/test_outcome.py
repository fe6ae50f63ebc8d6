"""The logic of outcomes, against every pair of predicates on a few elements."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest

from attnmask.tiles import outcome
from attnmask.tiles.outcome import ANY, EMPTY, FULL, PARTIAL, Outcomes

Rule = Callable[[Outcomes, Outcomes], Outcomes]
Operator = Callable[[bool, bool], bool]

SETS = range(1, 8)
BITS = [np.array(bits) for bits in product([False, True], repeat=4)]


def of(values: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> int:
    return FULL if values.all() else PARTIAL if values.any() else EMPTY


def lifted(join: Callable[..., np.ndarray[tuple[int, ...], np.dtype[np.bool_]]], a: int, b: int) -> int:
    """All outcomes that joining a predicate of set `a` with one of set `b` can have, on four elements."""
    found = 0
    for x, y in product(BITS, BITS):
        if of(x) & a and of(y) & b:
            found |= of(join(x, y))
    return found


@pytest.mark.parametrize(
    ("rule", "join"),
    [(outcome.and_, np.logical_and), (outcome.or_, np.logical_or), (outcome.xor, np.logical_xor)],
)
def test_rules_allow_what_can_happen_and_nothing_else(rule: Rule, join: np.ufunc) -> None:
    for a, b in product(SETS, SETS):
        assert rule(np.uint8(a), np.uint8(b)) == lifted(join, a, b), (a, b)  # type: ignore[arg-type]  # numpy scalars do


@pytest.mark.parametrize(
    ("rule", "join"), [(outcome.and_independent, np.logical_and), (outcome.or_independent, np.logical_or)]
)
def test_independent_sides_always_meet(rule: Rule, join: np.ufunc) -> None:
    """One side depends on the rows of a cell, the other on its columns."""
    for a, b in product(SETS, SETS):
        assert rule(np.uint8(a), np.uint8(b)) == lifted(join.outer, a, b), (a, b)  # type: ignore[arg-type]  # numpy scalars do


def test_complement_swaps_empty_and_full() -> None:
    for a in SETS:
        expected = 0
        for x in BITS:
            expected |= of(~x) if of(x) & a else 0
        assert outcome.not_(np.uint8(a)) == expected  # type: ignore[arg-type]  # numpy scalars do


def test_rules_work_on_arrays_and_broadcast() -> None:
    a, b = np.arange(1, 8, dtype=np.uint8)[:, None], np.arange(1, 8, dtype=np.uint8)[None, :]
    found = outcome.and_(a, b)
    assert found.shape == (7, 7) and found.dtype == np.uint8
    assert found[EMPTY - 1, ANY - 1] == EMPTY and found[FULL - 1, PARTIAL - 1] == PARTIAL
