"""Counterexamples by evaluation: small calls one and all, then points of large ones near what the mask names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnmask.algebra.claims import Claim, Question
from attnmask.algebra.guess import guesses, written_out
from attnmask.algebra.scope import Scope
from attnmask.errors import MaskError
from attnmask.ir.check import check
from attnmask.ir.domain import Domain
from attnmask.ir.evaluate import evaluate
from attnmask.ir.nodes import Const, Predicate
from attnmask.ir.tables import TableData, fit
from attnmask.ir.walk import postorder, variables

Ints = NDArray[np.int64]
Arrays = dict[str, Ints]
NAMES = ("Q", "K", "B", "H", "O", "q", "k", "b", "h")
_SMALL = 12
_POINTS = 4096
_LARGEST = 1 << 20
# Whether a call is refused may take an evaluation at all of its positions: of many candidates, so of few positions.
_MOST_EVALUATED = 1 << 16


@dataclass(frozen=True, slots=True)
class Point:
    """One pair of a call; `tables` are arrays for the tables that the mask leaves open."""

    values: Mapping[str, int]
    tables: Mapping[str, TableData]

    def __getitem__(self, name: str) -> int:
        return self.values[name]

    @property
    def domain(self) -> Domain:
        """The call."""
        at = self.values
        return Domain(at["Q"], at["K"], at["O"], at["B"], at["H"])


def truth_at(root: Predicate, point: Point, tables: Mapping[str, TableData]) -> bool:
    """The truth of a predicate at a point of a call that is not refused, by the definition."""
    known = {**tables, **point.tables}
    arrays = {name: np.asarray(value) for name, value in point.values.items()}
    return bool(evaluate(root, arrays, {name: data.array for name, data in known.items()}))


def small(claim: Claim, scope: Scope, tables: Mapping[str, TableData]) -> Point | None:
    """The first pair of a small call that contradicts a claim; looks at every call of up to 12 × 12."""
    # Bound tables may be too short for the larger of these calls, which are then refused.
    for most in (_SMALL, 6, 3, 1) if tables else (_SMALL,):
        point = _first(claim, scope, tables, small_calls(claim.contradiction, scope, most=most))
        if point is not None:
            return point
    return None


def large(claim: Claim, scope: Scope, tables: Mapping[str, TableData]) -> Point | None:
    """A pair that contradicts a claim, among some thousands near the numbers that it names."""
    return _first(claim, scope, tables, random_points(claim.contradiction, scope))


def _first(claim: Claim, scope: Scope, tables: Mapping[str, TableData], grid: Arrays) -> Point | None:
    for guess in guesses(claim.roots, tables):
        arrays: dict[str, Any] = {name: data.array for name, data in tables.items()}
        for values in _where(claim.contradiction, grid, {**arrays, **guess}, scope):
            point = settled(values, claim, guess, scope, tables)
            if point is not None and truth_at(claim.contradiction, point, tables):
                return point
    return None


def _where(
    root: Predicate, grid: Arrays, tables: Mapping[str, Any], scope: Scope
) -> Iterator[dict[str, int]]:
    """Some places of the grid where the predicate is true, smallest calls first."""
    try:
        with np.errstate(all="raise"):
            truth = evaluate(root, grid, tables)
    except (IndexError, FloatingPointError):
        return  # a table is too short, or a divisor zero: such calls are refused
    shape = np.broadcast_shapes(*(array.shape for array in grid.values()))
    places = np.flatnonzero(np.broadcast_to(truth, shape) & valid(grid, scope))
    if not len(places):
        return
    values = np.stack([np.broadcast_to(grid[name], shape).reshape(-1)[places] for name in NAMES])
    smallest = smallest_sizes(values, scope, variables(root))
    order = np.lexsort((*smallest[::-1], smallest[0] + smallest[1]))
    for place in order[:3]:
        yield {name: int(value) for name, value in zip(NAMES, smallest[:, place], strict=True)}


def valid(grid: Arrays, scope: Scope) -> NDArray[np.bool_]:
    inside: NDArray[np.bool_] = (
        (grid["O"] <= grid["q"])
        & (grid["q"] < grid["O"] + grid["Q"])
        & (grid["k"] < grid["K"])
        & (grid["b"] < grid["B"])
        & (grid["h"] < grid["H"])
    )
    if scope.square:
        inside = inside & (grid["Q"] == grid["K"])
    return inside


def smallest_sizes(values: Ints, scope: Scope, used: frozenset[str]) -> Ints:
    """The same positions in calls no larger than they need, as far as the sizes do not matter: [9, places]."""
    q_len, kv_len, batch, heads, offset, q, k, b, h = values.copy()
    if "Q" not in used and scope.q_len is None and not (scope.square and "K" in used):
        q_len = q - offset + 1
    if "K" not in used and scope.kv_len is None and not (scope.square and "Q" in used):
        kv_len = k + 1
    if scope.square:
        q_len = kv_len = np.maximum(q_len, kv_len)
    b, h = b if "b" in used else np.zeros_like(b), h if "h" in used else np.zeros_like(h)
    if "B" not in used and scope.batch is None:
        batch = b + 1
    if "H" not in used and scope.heads is None:
        heads = h + 1
    return np.stack([q_len, kv_len, batch, heads, offset, q, k, b, h])


def settled(
    values: dict[str, int],
    claim: Question,
    guess: Mapping[str, Any],
    scope: Scope,
    tables: Mapping[str, TableData],
) -> Point | None:
    """The point with guessed tables written out, if its call is one of those in question and is not refused."""
    if not scope.holds(values):
        return None
    point = Point(values, {})
    if guess:
        made = written_out(guess, claim.roots, point.domain, tables)
        if made is None:
            return None
        point = replace(point, tables=made)
    try:
        for root in claim.calls:
            fitted, _ = fit(root, point.tables, {})  # as the mask that binds them would be
            check(fitted, point.domain, {**tables, **point.tables}, {}, most=_MOST_EVALUATED)
    except MaskError:
        return None
    return point


def small_calls(root: Predicate, scope: Scope, *, lengths: bool = False, most: int = _SMALL) -> Arrays:
    """Arrays that broadcast to every pair of every small call in question, sizes first.

    Lengths that the predicate does not name are as large as they get here, unless `lengths` asks for all.
    """
    used = variables(root) | ({"Q", "K"} if lengths else set())
    most = most if not {"b", "h"} <= used else min(most, 6)
    sizes = {
        "Q": _lengths(scope.q_len, "Q" in used or scope.square, most),
        "K": _lengths(scope.kv_len, "K" in used or scope.square, most),
        "B": _counts(scope.batch, "B" in used, "b" in used),
        "H": _counts(scope.heads, "H" in used, "h" in used),
        "O": [0, 1, 3] if scope.q_offset is None else [scope.q_offset],
    }
    q = sorted({offset + at for offset in sizes["O"] for at in _ends(max(sizes["Q"]), most)})
    positions = {
        "q": q,
        "k": _ends(max(sizes["K"]), most),
        "b": list(range(min(max(sizes["B"]), 2))) if "b" in used else [0],
        "h": list(range(min(max(sizes["H"]), 4))) if "h" in used else [0],
    }
    both = {**sizes, **positions}
    return {
        name: np.array(both[name], np.int64).reshape([-1 if at == axis else 1 for at in range(len(NAMES))])
        for axis, name in enumerate(NAMES)
    }


def _lengths(given: int | None, used: bool, most: int) -> list[int]:
    if given is not None:
        return [given]
    return list(range(1, most + 1)) if used else [most]


def _counts(given: int | None, size_used: bool, position_used: bool) -> list[int]:
    if given is not None:
        return [given]
    return [1, 2, 4] if size_used else [4 if position_used else 1]


def _ends(length: int, most: int) -> list[int]:
    """The first positions and, of a longer call, the last."""
    return sorted({*range(min(length, most)), *range(max(length - 4, 0), length)})


def random_points(root: Predicate, scope: Scope) -> Arrays:
    """Points of large calls: positions at, before and after the numbers of the mask and their sums."""
    random = np.random.default_rng(20_07_14)
    named = {abs(node.value) for node in postorder(root) if isinstance(node, Const)}
    marks = np.array(sorted({0, 1, *(value for value in named if value < _LARGEST)}), np.int64)

    def some() -> Ints:
        near = random.choice(marks, _POINTS) * random.integers(1, 4, _POINTS) + random.integers(
            -1, 2, _POINTS
        )
        wide = (2.0 ** random.uniform(0, 15, _POINTS)).astype(np.int64)
        return np.maximum(np.where(random.random(_POINTS) < 0.6, near, wide), 0)

    offset = np.full(_POINTS, scope.q_offset or 0) if scope.q_offset is not None else some()
    q = offset + some()
    near_q = np.maximum(q + np.where(random.random(_POINTS) < 0.5, 1, -1) * some(), 0)
    k = np.where(random.random(_POINTS) < 0.6, near_q, some())
    if scope.q_len is not None:
        q = offset + (q - offset) % scope.q_len
    if scope.kv_len is not None:
        k = k % scope.kv_len
    slack = [np.where(random.random(_POINTS) < 0.5, 0, some()) for _ in range(2)]
    q_len = np.full(_POINTS, scope.q_len) if scope.q_len else q - offset + 1 + slack[0]
    kv_len = np.full(_POINTS, scope.kv_len) if scope.kv_len else k + 1 + slack[1]
    if scope.square:
        q_len = kv_len = np.maximum(q_len, kv_len)
    heads = np.full(_POINTS, scope.heads) if scope.heads else random.choice([1, 2, 8, 32], _POINTS)
    batch = np.full(_POINTS, scope.batch) if scope.batch else random.choice([1, 2, 3], _POINTS)
    b, h = random.integers(0, 1 << 30, _POINTS) % batch, random.integers(0, 1 << 30, _POINTS) % heads
    return dict(zip(NAMES, (q_len, kv_len, batch, heads, offset, q, k, b, h), strict=True))
