"""Masks of monotone comparisons: the few keys at which each row's truth can change, and what it is between.

Every comparison that mixes q and k is taken apart until it reads f(q) + g(k) < 0 with g monotone in k; then it
changes at one key a row, found by bisection. Between neighbouring changes the whole mask is constant, so one
evaluation a stretch tells all. Exact, and linear in the number of rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from attnmask.ir import index, predicate
from attnmask.ir.evaluate import evaluate
from attnmask.ir.index import split_coefficient
from attnmask.ir.nodes import (
    Abs,
    Add,
    BoolTable,
    Compare,
    Index,
    Max,
    Min,
    Predicate,
    Truth,
)
from attnmask.ir.walk import postorder
from attnmask.tiles.grid import Ints
from attnmask.tiles.profile import Profiles
from attnmask.tiles.runs import Runs, joined
from attnmask.tiles.structure import Structure

# Past these numbers the mask is not one of few intervals, and looking at tiles is cheaper.
_MOST_CHANGES = 64
_PORTION = 1 << 20


@dataclass(frozen=True, slots=True, eq=False)
class Stretches:
    """Consecutive queries; stretch i of a query covers keys edges[i] to edges[i + 1] and is attended or not."""

    first: int
    edges: Ints  # [queries, stretches + 1], ascending from 0 to kv_len
    attended: NDArray[np.bool_]  # [queries, stretches]

    def runs(self) -> Runs:
        """The attended stretches, those without keys left out."""
        start, end = self.edges[:, :-1], self.edges[:, 1:]
        kept = self.attended & (start < end)
        rows = np.repeat(np.arange(len(kept)), np.count_nonzero(kept, axis=1))
        return joined(self.first, len(kept), rows, start[kept], end[kept])


@dataclass(frozen=True, slots=True)
class _Threshold:
    """The comparison f(q) + g(k) < 0 (or <= 0), g monotone: it changes at one key of each row."""

    f: Ints  # over rows
    g: Ints  # over keys, ascending
    descending: bool
    inclusive: bool

    def changes(self, rows: slice) -> Ints:
        # The keys with g(k) < -f(q) (or <=) are the first ones, or the last ones where g descends.
        side: Literal["left", "right"] = "right" if self.inclusive else "left"
        number: Ints = np.searchsorted(self.g, -self.f[rows], side=side).astype(np.int64)
        return len(self.g) - number if self.descending else number


class RowThresholds:
    """A predicate in q and k with the changes of its comparisons."""

    def __init__(
        self, root: Predicate, profiles: Profiles, thresholds: list[_Threshold], fixed: Ints
    ) -> None:
        self.root = root
        self.profiles = profiles
        self.thresholds = thresholds
        self.fixed = fixed

    def runs(self) -> Iterator[Runs]:
        """The attended keys of all rows, in portions of bounded memory."""
        grid = self.profiles.grid
        width = len(self.thresholds) + len(self.fixed) + 1
        step = max(1, _PORTION // (width * len(postorder(self.root))))
        for first in range(0, grid.q_len, step):
            yield self.stretches(slice(first, min(first + step, grid.q_len))).runs()

    def stretches(self, rows: slice) -> Stretches:
        grid = self.profiles.grid
        count = rows.stop - rows.start
        columns = [threshold.changes(rows)[:, None] for threshold in self.thresholds]
        columns += [np.broadcast_to(edge, (count, 1)) for edge in (0, *self.fixed, grid.kv_len)]
        edges = np.sort(np.concatenate(columns, axis=1), axis=1)
        queries = np.arange(rows.start, rows.stop, dtype=np.int64)[:, None] + grid.q_offset
        # Stretches without keys may start past the end; what they evaluate to does not matter.
        keys = np.minimum(edges[:, :-1], grid.kv_len - 1)
        attended = evaluate(self.root, {"q": queries, "k": keys}, self.profiles.tables)
        return Stretches(rows.start, edges, np.broadcast_to(attended, keys.shape))


def row_thresholds(root: Predicate, profiles: Profiles) -> RowThresholds | None:
    """The changes of a predicate, or None where they are not few or not known this way."""
    structure = Structure()
    thresholds: list[_Threshold] = []
    fixed: set[int] = set()
    for node in postorder(root):
        if structure.side(node) == "qk":
            if isinstance(node, BoolTable):
                return None
            if isinstance(node, Compare):
                found = _thresholds(node, profiles, structure)
                if found is None:
                    return None
                thresholds += found
        elif structure.side(node) == "k" and isinstance(node, Compare | BoolTable):
            values = profiles.values(node, "k")
            fixed.update((np.flatnonzero(values[1:] != values[:-1]) + 1).tolist())
        if len(thresholds) + len(fixed) > _MOST_CHANGES:
            return None
    return RowThresholds(root, profiles, thresholds, np.array(sorted(fixed), np.int64))


def _thresholds(node: Compare, profiles: Profiles, structure: Structure) -> list[_Threshold] | None:
    """The comparison as changes, or None where it has another form."""
    found: list[_Threshold] = []
    for simple in _taken_apart(node, structure):
        if isinstance(simple, Truth):
            continue
        separated = _separated(simple, profiles, structure)
        if separated is None:
            return None
        found += separated
    return found


def _taken_apart(node: Compare, structure: Structure) -> list[Predicate]:
    """Comparisons at which the truth of `node` can change, free of abs, min and max as far as these stand alone.

    `abs(x) + r < 0` is `x + r < 0 & -x + r < 0`, `min(x, y) + r < 0` is `x + r < 0 | y + r < 0`, and so on; for
    the places of change it does not matter whether the parts are joined by and or by or.
    """
    pending: list[Predicate] = [node]
    simple: list[Predicate] = []
    while pending:
        part = pending.pop()
        cases = _cases(index.sub(part.lhs, part.rhs), structure) if isinstance(part, Compare) else None
        if cases is None:
            simple.append(part)
        else:
            op = part.op if isinstance(part, Compare) else "<"
            pending += [predicate.compare(case, op, index.const(0)) for case in cases]
        if len(pending) + len(simple) > _MOST_CHANGES:
            return [node]
    return simple


def _cases(difference: Index, structure: Structure) -> list[Index] | None:
    """The forms that a sum takes on the branches of its first abs, min or max of both q and k."""
    terms = difference.terms if isinstance(difference, Add) else (difference,)
    for term in terms:
        factor, base = split_coefficient(term)
        match base:
            case Abs(arg):
                branches: tuple[Index, ...] = (arg, index.neg(arg))
            case Min(args) | Max(args):
                branches = args
            case _:
                continue
        if structure.side(base) == "qk":
            rest = index.sub(difference, term)
            return [index.add(index.mul(index.const(factor), branch), rest) for branch in branches]
    return None


def _separated(node: Predicate, profiles: Profiles, structure: Structure) -> list[_Threshold] | None:
    """`f(q) + g(k) op 0` with monotone g as one change a row, or two for == and !=."""
    assert isinstance(node, Compare)
    difference = index.sub(node.lhs, node.rhs)
    parts = structure.parts(difference)
    if parts.mixed:
        return None
    count = profiles.grid.q_len
    f = np.full(count, parts.constant, np.int64)
    if parts.q is not None:
        f = f + profiles.values(parts.q, "q")
    if parts.k is None:
        return []  # the truth depends on the row alone
    g = np.ascontiguousarray(profiles.values(parts.k, "k"), np.int64)
    steps = np.diff(g)
    if (steps >= 0).all():
        ascending, descending = g, False
    elif (steps <= 0).all():
        ascending, descending = g[::-1], True
    else:
        return None
    kinds = {"<": (False,), "<=": (True,), "==": (False, True), "!=": (False, True)}[node.op]
    return [_Threshold(f, ascending, descending, inclusive) for inclusive in kinds]
