"""One-sided parts of a mask, tabulated over all positions of their axis.

What depends on q alone (or on k alone) has one value a position. Its minima and maxima over blocks, level by
level, bound it exactly on every cell; `doc[q]`, `(q // 64) % 2` and a permutation are all the same here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from attnmask.ir.evaluate import evaluate
from attnmask.ir.nodes import Expr, Index, Predicate
from attnmask.tiles.cuts import Cuts, jumps
from attnmask.tiles.diagonals import DistanceCounts, distance_counts
from attnmask.tiles.grid import Grid, Ints
from attnmask.tiles.lookup import RangeBounds, RectangleCounts, range_bounds, rectangle_counts
from attnmask.tiles.matches import ValueSets, ranks, value_sets
from attnmask.tiles.pyramid import Profile, TruthProfile, profile, truth_profile

Axis = Literal["q", "k"]


@dataclass(slots=True)
class Profiles:
    """The profiles of one call, made when first asked for and shared by all planes."""

    grid: Grid
    tables: Mapping[str, NDArray[Any]]
    known_cuts: dict[Axis, Cuts] = field(default_factory=dict)
    integers: dict[tuple[Index, Axis], Profile] = field(default_factory=dict)
    truths: dict[tuple[Predicate, Axis], TruthProfile] = field(default_factory=dict)
    matches: dict[tuple[tuple[Index, Index], ...], tuple[ValueSets, ValueSets]] = field(default_factory=dict)
    ranges: dict[tuple[str, tuple[int, ...]], RangeBounds] = field(default_factory=dict)
    rectangles: dict[tuple[str, tuple[int, ...]], RectangleCounts] = field(default_factory=dict)
    distances: dict[Predicate, DistanceCounts] = field(default_factory=dict)

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
        """The cells of an axis. Below the blocks, cuts go where the values profiled so far jump."""
        if axis not in self.known_cuts:
            length, block = (
                (self.grid.q_len, self.grid.block_q) if axis == "q" else (self.grid.kv_len, self.grid.block_k)
            )
            self.known_cuts[axis] = Cuts(length, block, lambda: self._weights(axis, length))
        return self.known_cuts[axis]

    def _weights(self, axis: Axis, length: int) -> Ints:
        used = [found.low.values for (_, where), found in self.integers.items() if where == axis]
        return jumps(used, length)

    def positions(self, axis: Axis) -> Ints:
        if axis == "q":
            return np.arange(self.grid.q_offset, self.grid.q_offset + self.grid.q_len, dtype=np.int64)
        return np.arange(self.grid.kv_len, dtype=np.int64)

    def values(self, node: Expr, axis: Axis) -> NDArray[Any]:
        """The value of a one-sided expression at every position of its axis."""
        positions = self.positions(axis)
        return np.broadcast_to(evaluate(node, {axis: positions}, self.tables), positions.shape)

    def integer(self, node: Index, axis: Axis) -> Profile:
        if (node, axis) not in self.integers:
            self.integers[node, axis] = profile(self.values(node, axis), self.cuts(axis))
        return self.integers[node, axis]

    def truth(self, node: Predicate, axis: Axis) -> TruthProfile:
        if (node, axis) not in self.truths:
            self.truths[node, axis] = truth_profile(self.values(node, axis), self.cuts(axis))
        return self.truths[node, axis]

    def match(self, equations: tuple[tuple[Index, Index], ...]) -> tuple[ValueSets, ValueSets]:
        """The q-side and the k-side of a conjunction of `lhs == rhs`, with values replaced by their ranks.

        Ranks keep equality and order, and leave no integer out, so ranges of sorted ids are dense.
        """
        if equations not in self.matches:
            sides = [(self.values(lhs, "q"), self.values(rhs, "k")) for lhs, rhs in equations]
            (q, k), count = ranks(sides)
            rows = value_sets(q, count, self.cuts("q"))
            # Mostly both sides are one function of positions that are the same.
            same = self.grid.block_q == self.grid.block_k and np.array_equal(q, k)
            self.matches[equations] = rows, rows if same else value_sets(k, count, self.cuts("k"))
        return self.matches[equations]
