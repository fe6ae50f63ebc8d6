"""One-sided parts of a mask, tabulated over all positions of their axis.

What depends on q alone (or on k alone) has one value a position. Its minima and maxima over blocks, level by
level, bound it exactly on every cell; `doc[q]`, `(q // 64) % 2` and a permutation are all the same here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnmask.ir import index
from attnmask.ir.evaluate import evaluate
from attnmask.ir.nodes import BoolTable, Index, Predicate, Table, Var
from attnmask.ir.walk import transform
from attnmask.tiles.cuts import Cuts, jumps
from attnmask.tiles.diagonals import DistanceCounts, distance_counts
from attnmask.tiles.grid import Axis, Grid
from attnmask.tiles.lookup import RangeBounds, RectangleCounts, range_bounds, rectangle_counts
from attnmask.tiles.matches import ValueSets, ranks, value_sets
from attnmask.tiles.pyramid import Profile, TruthProfile, profile, truth_profile
from attnmask.tiles.structure import Equations, leading_constants

Side = Index | Predicate


@dataclass(slots=True)
class Profiles:
    """The profiles of one call, made when first asked for and shared by all planes."""

    grid: Grid
    tables: Mapping[str, NDArray[Any]]
    known_values: dict[tuple[Side, Axis], NDArray[Any]] = field(default_factory=dict)
    known_cuts: dict[Axis, Cuts] = field(default_factory=dict)
    integers: dict[tuple[Side, Axis], Profile] = field(default_factory=dict)
    truths: dict[tuple[Side, Axis], TruthProfile] = field(default_factory=dict)
    matches: dict[Equations, tuple[ValueSets, ValueSets]] = field(default_factory=dict)
    ranges: dict[tuple[str, tuple[int, ...]], RangeBounds] = field(default_factory=dict)
    rectangles: dict[tuple[str, tuple[int, ...]], RectangleCounts] = field(default_factory=dict)
    distances: dict[Predicate, DistanceCounts] = field(default_factory=dict)

    @property
    def nbytes(self) -> int:
        """Bytes of what is kept for every position."""
        kept = sum(values.nbytes for values in self.known_values.values())
        kept += sum(counts.sums.nbytes for counts in self.distances.values())
        return kept + sum(side.ranks.nbytes for sides in self.matches.values() for side in sides)

    def ranges_of(self, name: str, fixed: tuple[int, ...]) -> RangeBounds:
        """Range queries on a table whose indices but the last are fixed."""
        if (name, fixed) not in self.ranges:
            self.ranges[name, fixed] = range_bounds(self.tables[name][fixed])
        return self.ranges[name, fixed]

    def rectangles_of(self, name: str, fixed: tuple[int, ...]) -> RectangleCounts:
        """Rectangle queries on a table whose indices but the last two are fixed."""
        if (name, fixed) not in self.rectangles:
            self.rectangles[name, fixed] = rectangle_counts(self.tables[name][fixed])
        return self.rectangles[name, fixed]

    def counts_of(self, distance: Predicate) -> DistanceCounts:
        """Counts of a predicate on distances (see `by_distance`) over any range of them."""
        if distance not in self.distances:
            self.distances[distance] = distance_counts(distance, self.grid, self.tables)
        return self.distances[distance]

    def cuts(self, axis: Axis) -> Cuts:
        """The cells of an axis."""
        if self.grid.symmetric:
            axis = "k"
        if axis not in self.known_cuts:
            grid = self.grid
            length, block = (grid.q_len, grid.block_q) if axis == "q" else (grid.kv_len, grid.block_k)
            self.known_cuts[axis] = Cuts(length, block)
        return self.known_cuts[axis]

    def weigh_cuts(self) -> None:
        """From now on blocks are cut where the values profiled so far jump, unless they have been cut before."""
        for axis, cuts in self.known_cuts.items():
            if cuts.weights is None:
                used = [found.low.values for (_, where), found in self.integers.items() if where == axis]
                cuts.weights = jumps(used, cuts.length)

    def _shared(self, node: Side, axis: Axis) -> tuple[Side, Axis]:
        """`f(q)` as `f(k)`, where both axes are the same."""
        return (_on_keys(node), "k") if axis == "q" and self.grid.symmetric else (node, axis)

    def values(self, node: Side, axis: Axis) -> NDArray[Any]:
        """The value of a one-sided expression at every position of its axis; read-only."""
        key = self._shared(node, axis)
        if key not in self.known_values:
            self.known_values[key] = self._evaluated(*key)
        return self.known_values[key]

    def _evaluated(self, node: Side, axis: Axis) -> NDArray[Any]:
        first, length = (self.grid.q_offset, self.grid.q_len) if axis == "q" else (0, self.grid.kv_len)
        if isinstance(node, Table | BoolTable) and isinstance(node.indices[-1], Var):
            fixed = leading_constants(node.indices)
            if len(fixed) == len(node.indices) - 1:
                entries: NDArray[Any] = self.tables[node.name][fixed][first : first + length]
                return entries
        positions = np.arange(first, first + length, dtype=np.int64)
        return np.broadcast_to(evaluate(node, {axis: positions}, self.tables), positions.shape)

    def integer(self, node: Index, axis: Axis) -> Profile:
        key = self._shared(node, axis)
        if key not in self.integers:
            self.integers[key] = profile(self.values(node, axis), self.cuts(axis))
        return self.integers[key]

    def truth(self, node: Predicate, axis: Axis) -> TruthProfile:
        key = self._shared(node, axis)
        if key not in self.truths:
            self.truths[key] = truth_profile(self.values(node, axis), self.cuts(axis))
        return self.truths[key]

    def match(self, equations: Equations) -> tuple[ValueSets, ValueSets]:
        """The q-side and the k-side of a conjunction of `lhs == rhs`, with values replaced by their ranks.

        Ranks keep equality and order, and leave no integer out, so ranges of sorted ids are dense.
        """
        if equations not in self.matches:
            sides = [(self.values(lhs, "q"), self.values(rhs, "k")) for lhs, rhs in equations]
            if all(q is k for q, k in sides):
                (same,), count = ranks([(q,) for q, _ in sides])
                rows = columns = value_sets(same, count, self.cuts("k"))
            else:
                (q, k), count = ranks(sides)
                rows, columns = (value_sets(q, count, self.cuts("q")), value_sets(k, count, self.cuts("k")))
            self.matches[equations] = rows, columns
        return self.matches[equations]


@lru_cache(maxsize=1024)
def _on_keys(node: Side) -> Side:
    return transform(node, lambda part: index.var("k") if part is index.var("q") else part)  # type: ignore[type-var]  # an index stays one
