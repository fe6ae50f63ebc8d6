"""Rows without keys (and columns without queries), found by evaluation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from attnmask.algebra.claims import NoneEmpty
from attnmask.algebra.guess import guesses
from attnmask.algebra.scope import Scope
from attnmask.algebra.search import (
    NAMES,
    Arrays,
    Point,
    random_points,
    settled,
    small_calls,
    smallest_sizes,
    valid,
)
from attnmask.ir.evaluate import evaluate
from attnmask.ir.tables import TableData
from attnmask.ir.walk import variables

Tables = Mapping[str, TableData]
_LONGEST_ROW = 1 << 22
_ROWS, _WIDEST = 48, 1 << 14


def row_is_empty(claim: NoneEmpty, point: Point, tables: Tables) -> bool:
    """Whether the query (or the key) of a point of a call that is not refused is empty, by the definition."""
    known = {**tables, **point.tables}
    first, length = (0, point["K"]) if claim.along == "k" else (point["O"], point["Q"])
    if length > _LONGEST_ROW:
        return False
    arrays: dict[str, Any] = {name: np.asarray(value) for name, value in point.values.items()}
    arrays[claim.along] = np.arange(first, first + length)
    truth = evaluate(claim.mask, arrays, {name: data.array for name, data in known.items()})
    return not truth.any()


def small_row(claim: NoneEmpty, scope: Scope, tables: Tables) -> Point | None:
    """An empty row of a small call; looks at every call of up to 12 × 12."""
    axis = NAMES.index(claim.along)
    # The length along the row matters, whether the mask names it or not.
    grid = small_calls(claim.mask, scope, lengths=True)
    for guess in guesses((claim.mask,), tables):
        arrays: dict[str, Any] = {name: data.array for name, data in tables.items()}
        for values in _empty_rows(claim, grid, {**arrays, **guess}, scope, axis):
            point = settled(values, claim, guess, scope, tables)
            if point is not None and row_is_empty(claim, point, tables):
                return point
    return None


def _empty_rows(
    claim: NoneEmpty, grid: Arrays, tables: Mapping[str, Any], scope: Scope, axis: int
) -> Iterator[dict[str, int]]:
    along = grid[claim.along].reshape(-1)
    # A long call has only its ends in the grid, which says nothing about its rows.
    if len(along) and int(along[-1] - along[0]) != len(along) - 1:
        return
    try:
        with np.errstate(all="raise"):
            truth = evaluate(claim.mask, grid, tables)
    except (IndexError, FloatingPointError):
        return
    shape = np.broadcast_shapes(*(array.shape for array in grid.values()))
    inside = valid(grid, scope)
    seen = (np.broadcast_to(truth, shape) & inside).any(axis=axis, keepdims=True)
    empty = np.broadcast_to(inside, shape) & ~seen
    places = np.flatnonzero(empty)
    if not len(places):
        return
    values = np.stack([np.broadcast_to(grid[name], shape).reshape(-1)[places] for name in NAMES])
    kept = {"Q", "K"} if claim.along == "q" else {"K"}
    values = smallest_sizes(values, scope, variables(claim.mask) | kept)
    order = np.lexsort((*values[::-1], values[0] + values[1]))
    for place in order[:3]:
        yield {name: int(value) for name, value in zip(NAMES, values[:, place], strict=True)}


def large_row(claim: NoneEmpty, scope: Scope, tables: Tables) -> Point | None:
    """An empty row among some dozens of larger calls, at positions near the numbers that the mask names."""
    points = random_points(claim.mask, scope)
    fits = np.flatnonzero((points["K"] <= _WIDEST) & (points["Q"] <= _WIDEST))[:_ROWS]
    for guess in guesses((claim.mask,), tables)[:4]:
        for place in fits:
            values = {name: int(points[name][place]) for name in NAMES}
            point = settled(values, claim, guess, scope, tables)
            if point is not None and row_is_empty(claim, point, tables):
                return point
    return None
