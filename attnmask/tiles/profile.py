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
from attnmask.tiles.grid import Grid, Ints
from attnmask.tiles.lookup import RangeBounds, RectangleCounts, range_bounds, rectangle_counts

# Sets of single blocks take a bit a value; with more values than this, elements are looked at instead.
_MOST_VALUES = 8192
_PORTION = 1 << 18

Axis = Literal["q", "k"]
Levels = list[NDArray[Any]]


def pyramid(values: NDArray[Any], block: int, levels: int, reduce: np.ufunc) -> Levels:
    """`reduce` of the values over blocks of block × 2**level positions, for each level from 0."""
    found: Levels = [reduce.reduceat(values, np.arange(0, len(values), block))]
    for _ in range(levels):
        last = found[-1]
        pairs = reduce(last[: len(last) // 2 * 2 : 2], last[1::2])
        found.append(np.concatenate([pairs, last[-1:]]) if len(last) % 2 else pairs)
    return found


@dataclass(frozen=True, slots=True, eq=False)
class Profile:
    """An integer over one axis: minima and maxima per cell, and where neighbours differ by more than one."""

    low: Levels
    high: Levels
    breaks: NDArray[np.int32] | None  # running count of breaks; None when there are none

    def unbroken(self, first: Ints, last: Ints) -> NDArray[np.bool_] | bool:
        """Whether the value goes in steps of at most one from `first` to `last`: then it skips no integer."""
        return True if self.breaks is None else self.breaks[first] == self.breaks[last]


@dataclass(frozen=True, slots=True, eq=False)
class TruthProfile:
    """A predicate over one axis: per cell, whether it holds somewhere and whether it holds everywhere."""

    some: Levels
    every: Levels


@dataclass(frozen=True, slots=True, eq=False)
class ValueSets:
    """An integer over one axis: per cell, the values that occur, as bits of their rank.

    `exact` tells whether every value has a bit of its own; else values share bits, and only disjoint sets
    can be told apart. `words` holds the sets of single blocks exactly, uint64 [blocks, words], unless there
    are very many values.
    """

    profile: Profile
    bits: Levels
    exact: bool
    words: NDArray[np.uint64] | None


@dataclass(slots=True)
class Profiles:
    """The profiles of one call, made when first asked for and shared by all planes."""

    grid: Grid
    tables: Mapping[str, NDArray[Any]]
    integers: dict[tuple[Index, Axis], Profile] = field(default_factory=dict)
    truths: dict[tuple[Predicate, Axis], TruthProfile] = field(default_factory=dict)
    matches: dict[Predicate, tuple[ValueSets, ValueSets]] = field(default_factory=dict)
    ranges: dict[tuple[str, tuple[int, ...]], RangeBounds] = field(default_factory=dict)
    rectangles: dict[tuple[str, tuple[int, ...]], RectangleCounts] = field(default_factory=dict)

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

    def block(self, axis: Axis) -> int:
        return self.grid.block_q if axis == "q" else self.grid.block_k

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
            self.integers[node, axis] = self.profile(self.values(node, axis), axis)
        return self.integers[node, axis]

    def profile(self, values: NDArray[Any], axis: Axis) -> Profile:
        low = pyramid(values, self.block(axis), self.grid.top, np.minimum)
        high = pyramid(values, self.block(axis), self.grid.top, np.maximum)
        return Profile(low, high, _breaks(values))

    def match(self, equation: Predicate, lhs: Index, rhs: Index) -> tuple[ValueSets, ValueSets]:
        """The q-side and the k-side of `lhs == rhs`, with values replaced by their ranks on both sides.

        Ranks keep equality and order, and leave no integer out, so ranges of sorted ids are dense.
        """
        if equation not in self.matches:
            q, k = self.values(lhs, "q"), self.values(rhs, "k")
            (q_ranks, k_ranks), count = _ranks(q, k)
            rows = self._value_sets(q_ranks, count, "q")
            # Mostly both sides are one function of positions that are the same.
            same = self.block("q") == self.block("k") and np.array_equal(q_ranks, k_ranks)
            self.matches[equation] = rows, rows if same else self._value_sets(k_ranks, count, "k")
        return self.matches[equation]

    def _value_sets(self, ranks: NDArray[np.int32], count: int, axis: Axis) -> ValueSets:
        exact = count <= 64
        words = None if exact or count > _MOST_VALUES else _block_sets(ranks, self.block(axis), count)
        bits = _bit_levels(ranks, self.block(axis), self.grid.top)
        return ValueSets(self.profile(ranks, axis), bits, exact, words)

    def truth(self, node: Predicate, axis: Axis) -> TruthProfile:
        if (node, axis) not in self.truths:
            values = np.ascontiguousarray(self.values(node, axis))
            block, top = self.block(axis), self.grid.top
            some = pyramid(values, block, top, np.logical_or)
            self.truths[node, axis] = TruthProfile(some, pyramid(values, block, top, np.logical_and))
        return self.truths[node, axis]


def _breaks(values: NDArray[Any]) -> NDArray[np.int32] | None:
    """The running count of neighbours that differ by more than one, or None where none do."""
    steps = np.diff(values)
    jumps = (steps > 1) | (steps < -1)
    if not jumps.any():
        return None
    breaks = np.zeros(len(values), np.int32)
    np.cumsum(jumps, out=breaks[1:])
    return breaks


def _bit_levels(ranks: NDArray[np.int32], block: int, levels: int) -> Levels:
    """The pyramid of sets of ranks modulo 64; its lowest level is made in portions, to save memory."""
    step = block * max(1, _PORTION // block)
    parts = []
    for first in range(0, len(ranks), step):
        bits = np.left_shift(np.uint64(1), (ranks[first : first + step] % 64).astype(np.uint64))
        parts.append(pyramid(bits, block, 0, np.bitwise_or)[0])
    return pyramid(np.concatenate(parts), 1, levels, np.bitwise_or)


def _block_sets(ranks: NDArray[np.int32], block: int, count: int) -> NDArray[np.uint64]:
    """For each block the set of ranks that occur in it, a bit each."""
    sets = np.zeros((-(-len(ranks) // block), -(-count // 64)), np.uint64)
    step = block * max(1, _PORTION // block)
    for first in range(0, len(ranks), step):
        part = ranks[first : first + step]
        bits = np.left_shift(np.uint64(1), (part % 64).astype(np.uint64))
        np.bitwise_or.at(sets, ((first + np.arange(len(part))) // block, part // 64), bits)
    return sets


def _ranks(*sides: NDArray[Any]) -> tuple[list[NDArray[np.int32]], int]:
    """Each value's rank among the distinct values of all sides, and their number."""
    low, high = min(int(side.min()) for side in sides), max(int(side.max()) for side in sides)
    if high - low < 4 * sum(len(side) for side in sides):  # a table of what occurs is cheaper than sorting
        occurs = np.zeros(high - low + 1, np.int32)
        for side in sides:
            occurs[side - low if low else side] = 1
        ranks = np.cumsum(occurs, dtype=np.int32)
        ranks -= 1
        return [ranks[side - low if low else side] for side in sides], int(ranks[-1]) + 1
    distinct = np.unique(np.concatenate(sides))
    return [np.searchsorted(distinct, side).astype(np.int32) for side in sides], len(distinct)
