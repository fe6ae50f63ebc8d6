"""Bounds of integer expressions over cells, and how much of the interval between them is reached."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnmask.ir import index
from attnmask.ir.evaluate import evaluate
from attnmask.ir.nodes import (
    Abs,
    Add,
    BitOp,
    Const,
    FloorDiv,
    Index,
    Max,
    Min,
    Mod,
    Mul,
    Table,
    Var,
    Where,
)
from attnmask.tiles.grid import Axis, Cells, Ints
from attnmask.tiles.profile import Profiles
from attnmask.tiles.structure import Structure, leading_constants

Flags = NDArray[np.bool_] | bool


@dataclass(frozen=True, slots=True, eq=False)
class Range:
    """low <= value <= high on every pair of a cell; arrays hold one entry a cell.

    `tight`: both ends are reached by some pair. `gap`: the largest step between neighbouring values that are
    reached is at most this (1: every integer between the ends is reached); 0 where nothing is known of it.
    """

    low: Ints
    high: Ints
    tight: Flags
    gap: Ints | int

    @property
    def dense(self) -> Flags:
        """Whether every integer from low to high is reached."""
        if isinstance(self.gap, int):
            return self.gap == 1 or self.single
        dense: Flags = (self.gap == 1) | self.single
        return dense

    @property
    def single(self) -> Flags:
        """Whether the value is the same on the whole cell."""
        single: Flags = self.tight & (self.low == self.high)
        return single


@dataclass(slots=True)
class Bounds:
    """Bounds over one list of cells; each node is bounded once."""

    profiles: Profiles
    structure: Structure
    cells: Cells
    known: dict[Index, Range] = field(default_factory=dict)

    def of(self, root: Index) -> Range:
        if root not in self.known:
            for node in self.structure.order(root):
                if node not in self.known:
                    self.known[node] = self._range(node)
        return self.known[root]

    # ---- one-sided ------------------------------------------------------------------------------------

    def _range(self, node: Index) -> Range:
        side = self.structure.side(node)
        if side == "":
            value = np.asarray(evaluate(node, {}, self.profiles.tables), np.int64)
            return Range(value, value, True, 1)
        if side != "qk":
            return self._one_sided(node, "q" if side == "q" else "k")
        return self._mixed(node)

    def _ends(self, axis: Axis) -> tuple[Ints, Ints]:
        cells = self.cells
        return (cells.q_first, cells.q_last) if axis == "q" else (cells.k_first, cells.k_last)

    def _one_sided(self, node: Index, axis: Axis) -> Range:
        first, last = self._ends(axis)
        match node:
            case Var():
                return Range(first, last, True, 1)
            case Mul((Const(factor), Var())):
                return _scaled(Range(first, last, True, 1), factor)
            case Add((Var() | Mul((Const(), Var())) as term, Const(shift))):
                return _shifted(self._one_sided(term, axis), shift)
        factor, base = self.structure.signed(node)
        return _scaled(self._profiled(base, axis), factor)

    def _profiled(self, node: Index, axis: Axis) -> Range:
        profile = self.profiles.integer(node, axis)
        level, at = self.cells.level, self.cells.i if axis == "q" else self.cells.j
        low, high = profile.low.at(level)[at], profile.high.at(level)[at]
        if profile.breaks is None:
            return Range(low, high, True, 1)
        first, last = self._ends(axis)
        start = self.profiles.grid.q_offset if axis == "q" else 0
        return Range(low, high, True, profile.unbroken(first - start, last - start).astype(np.int64))

    # ---- two-sided ------------------------------------------------------------------------------------

    def _mixed(self, node: Index) -> Range:
        match node:
            case Add():
                return self._sum(node)
            case Mul((Const(factor), *rest)):
                return _scaled(self.known[index.mul(*rest)], factor)
            case Mul((first, second)) if first is second:
                return _squared(self.known[first])
            case Mul(factors):
                return reduce(_product, (self.known[factor] for factor in factors))
            case FloorDiv(lhs, Const(divisor)) if divisor > 0:
                return _divided(self.known[lhs], divisor)
            case Mod(lhs, Const(divisor)) if divisor > 0:
                return _remainder(self.known[lhs], divisor)
            case FloorDiv(lhs, rhs):
                return _quotient(self.known[lhs], self.known[rhs])
            case Mod(lhs, rhs):
                return _any_remainder(self.known[lhs], self.known[rhs])
            case Abs(arg):
                return _absolute(self.known[arg])
            case Min(args) | Max(args):
                return self._extreme(node, args)
            case BitOp(_, lhs, rhs):
                return _bits(self.known[lhs], self.known[rhs])
            case Where(_, then, other):
                parts = self.known[then], self.known[other]
                return _loose(
                    np.minimum(parts[0].low, parts[1].low), np.maximum(parts[0].high, parts[1].high)
                )
            case Table(name, indices):
                return self._entries(name, indices)
            case Const() | Var():
                raise AssertionError(node)

    def _sum(self, node: Add) -> Range:
        """The q-part and the k-part are independent of each other, so their ends are reached together."""
        parts = self.structure.parts(node)
        ranges = [self.known[part] for part in (parts.q, parts.k) if part is not None]
        total = reduce(_independent_sum, ranges) if ranges else None
        for term in parts.mixed:
            mixed = self.known[term]
            if total is None:
                total = mixed
            else:
                total = _loose(total.low + mixed.low, total.high + mixed.high)
        assert total is not None, "a sum has terms"
        return _shifted(total, parts.constant)

    def _entries(self, name: str, indices: tuple[Index, ...]) -> Range:
        """Entries that the indices can reach; a table of several varying indices is bounded as a whole."""
        fixed = leading_constants(indices)
        if len(fixed) < len(indices) - 1:
            entries = self.profiles.tables[name][fixed]
            return _loose(np.int64(entries.min()), np.int64(entries.max()))
        first, last = self.reach(indices[-1], self.profiles.tables[name].shape[len(fixed)])
        return _loose(*self.profiles.ranges_of(name, fixed).over(first, last))

    def reach(self, item: Index, size: int) -> tuple[Ints, Ints]:
        """The first and the last entry of `size` that an index can reach on each cell.

        Every index is known to be in range; bounds over a cell may be wider, and are cut.
        """
        at = self.of(item)
        first, last = np.broadcast_arrays(at.low, at.high, np.empty(len(self.cells)))[:2]
        return np.clip(first, 0, size - 1), np.clip(last, 0, size - 1)

    def _extreme(self, node: Min | Max, args: tuple[Index, ...]) -> Range:
        choose = np.minimum if isinstance(node, Min) else np.maximum
        ranges = [self.known[arg] for arg in args]
        low = reduce(choose, [part.low for part in ranges])
        high = reduce(choose, [part.high for part in ranges])
        used = "".join(self.structure.side(arg) for arg in args)
        if len(args) == 2 and len(set(used)) == len(used):  # independent, or one is constant
            tight = ranges[0].tight & ranges[1].tight
            dense = ranges[0].dense & ranges[1].dense
            return Range(low, high, tight, np.where(dense, 1, 0))
        return _loose(low, high)


# ---- interval arithmetic ----------------------------------------------------------------------------


def _loose(low: Any, high: Any) -> Range:
    return Range(low, high, False, 0)


def _shifted(part: Range, constant: int) -> Range:
    if constant == 0:
        return part
    return Range(part.low + constant, part.high + constant, part.tight, part.gap)


def _scaled(part: Range, factor: int) -> Range:
    if factor == 1:
        return part
    ends = part.low * factor, part.high * factor
    low, high = ends if factor >= 0 else (ends[1], ends[0])
    return Range(low, high, part.tight, part.gap * abs(factor))


def _independent_sum(left: Range, right: Range) -> Range:
    """Sums of every value of one side with every value of the other."""
    low, high, tight = left.low + right.low, left.high + right.high, left.tight & right.tight
    if _goes_by_one(left) and _goes_by_one(right):
        return Range(low, high, tight, 1)
    fills = _reaches_over(left, right) | _reaches_over(right, left)
    return Range(low, high, tight, np.where(fills, 1, 0))


def _goes_by_one(part: Range) -> bool:
    """The common case, told without looking at cells: every integer between the ends is reached on all of them."""
    return isinstance(part.gap, int) and part.gap == 1


def _reaches_over(dense: Range, other: Range) -> Flags:
    """Whether the dense side is at least as wide as every gap of the other, so that no integer is skipped."""
    gap = np.where(other.single, 1, other.gap)
    return dense.dense & (gap > 0) & (dense.high - dense.low + 1 >= gap)


def _divided(part: Range, divisor: int) -> Range:
    gap = np.where((part.gap > 0) & (part.gap <= divisor), 1, 0)
    return Range(part.low // divisor, part.high // divisor, part.tight, gap)


def _remainder(part: Range, divisor: int) -> Range:
    """Within one period the order is kept; a dense range of a period or more takes every remainder."""
    inside = part.low // divisor == part.high // divisor
    everything = part.dense & (part.high - part.low + 1 >= divisor)
    return Range(
        np.where(inside, part.low % divisor, 0),
        np.where(inside, part.high % divisor, divisor - 1),
        np.where(inside, part.tight, everything),
        np.where(inside, part.gap, np.where(everything, 1, 0)),
    )


def _quotient(left: Range, right: Range) -> Range:
    """By a divisor that is never zero (checked beforehand) but may have either sign."""
    divisors = [np.where(right.low > 0, right.low, 1), np.where(right.high < 0, right.high, -1)]
    divisors += [right.low, right.high]
    corners = []
    for divisor in divisors:
        usable = (divisor != 0) & (divisor >= right.low) & (divisor <= right.high)
        safe = np.where(usable, divisor, np.where(right.low != 0, right.low, right.high))
        corners += [left.low // safe, left.high // safe]
    return _loose(reduce(np.minimum, corners), reduce(np.maximum, corners))


def _any_remainder(left: Range, right: Range) -> Range:
    """By a divisor that varies: below it, and not above a numerator that is never negative."""
    low, high = np.minimum(right.low + 1, 0), np.maximum(right.high - 1, 0)
    plain = (left.low >= 0) & (right.low > 0)
    return _loose(low, np.where(plain, np.minimum(high, left.high), high))


def _absolute(part: Range) -> Range:
    crosses = (part.low < 0) & (part.high > 0)
    near = np.where(crosses, 0, np.minimum(np.abs(part.low), np.abs(part.high)))
    far = np.maximum(np.abs(part.low), np.abs(part.high))
    if _goes_by_one(part):
        return Range(near, far, part.tight, 1)
    dense = part.dense
    return Range(
        near, far, part.tight & (~crosses | dense), np.where(crosses, np.where(dense, 1, 0), part.gap)
    )


def _squared(part: Range) -> Range:
    size = _absolute(part)
    return Range(size.low * size.low, size.high * size.high, size.tight, 0)


def _product(left: Range, right: Range) -> Range:
    corners = [a * b for a in (left.low, left.high) for b in (right.low, right.high)]
    return _loose(reduce(np.minimum, corners), reduce(np.maximum, corners))


def _bits(left: Range, right: Range) -> Range:
    """Within the bits that either side has; negative numbers have all of them."""
    ends = [np.abs(end) for end in (left.low, left.high, right.low, right.high)]
    largest = reduce(np.maximum, ends)
    # The float exponent may come out one too large, never too small.
    width = np.frexp(largest.astype(np.float64))[1].astype(np.int64)
    high = np.where(width < 63, np.left_shift(np.int64(1), np.minimum(width, 62)) - 1, np.int64(2**63 - 1))
    signed = (left.low < 0) | (right.low < 0)
    return _loose(np.where(signed, -high - 1, 0), high)
