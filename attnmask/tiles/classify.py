"""Outcomes of a predicate over cells: each leaf by bounds, the rest by logic on sets of outcomes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from attnmask.ir import index, predicate
from attnmask.ir.nodes import (
    And,
    BoolTable,
    Compare,
    CompareOp,
    Index,
    Not,
    Or,
    Predicate,
    Truth,
    Xor,
)
from attnmask.tiles import outcome
from attnmask.tiles.bounds import Bounds, Flags, Range
from attnmask.tiles.grid import Cells
from attnmask.tiles.lookup import LARGEST_RECTANGLE
from attnmask.tiles.outcome import ANY, EMPTY, FULL, PARTIAL, Outcomes
from attnmask.tiles.profile import Axis, Profiles, ValueSets
from attnmask.tiles.structure import Structure, is_affine, leading_constants

# For each outcome: itself, then full, empty, empty; at [outcome, always + 2 * never].
_CHOICES = np.array([[other, FULL, EMPTY, EMPTY] for other in range(8)], np.uint8)

Rule = Callable[[Outcomes, Outcomes], Outcomes]


class Classifier:
    """One predicate, prepared for being asked about cells. The predicate has no variables but q and k."""

    def __init__(self, root: Predicate, profiles: Profiles) -> None:
        self.profiles = profiles
        self.root = root
        self.structure = Structure()
        self.parts: dict[Predicate, tuple[Predicate, ...]] = {}
        self.order = self._plan()

    def outcomes(self, cells: Cells) -> Outcomes:
        """The set of outcomes that each cell may still have, uint8 [cells]."""
        bounds = Bounds(self.profiles, self.structure, cells)
        found: dict[Predicate, Outcomes] = {}
        for node in self.order:
            found[node] = self._connective(node, found) if self.parts[node] else self._leaf(node, bounds)
        return np.broadcast_to(found[self.root], cells.i.shape)

    # ---- plan ----------------------------------------------------------------------------------------

    def _plan(self) -> list[Predicate]:
        """The predicates to classify, parts before wholes."""
        order: dict[Predicate, None] = {}
        stack = [(self.root, False)]
        while stack:
            node, expanded = stack.pop()
            if expanded:
                order[node] = None
            elif node not in order:
                self.parts[node] = self._split(node)
                stack.append((node, True))
                stack.extend((part, False) for part in self.parts[node])
        return list(order)

    def _split(self, node: Predicate) -> tuple[Predicate, ...]:
        """What a predicate is classified from; one-sided predicates are leaves, and known exactly."""
        if self.structure.side(node) != "qk":
            return ()
        match node:
            case And(args):
                return self._grouped(args, predicate.and_)
            case Or(args):
                return self._grouped(args, predicate.or_)
            case Xor(lhs, rhs):
                return lhs, rhs
            case Not(arg):
                return (arg,)
            case Truth() | Compare() | BoolTable():
                return ()
            case _:
                assert_never(node)

    def _grouped(self, args: Sequence[Predicate], join: Callable[..., Predicate]) -> tuple[Predicate, ...]:
        """The arguments, with those on q alone joined into one, and those on k alone into another."""
        one_sided = [[arg for arg in args if self.structure.side(arg) == side] for side in ("q", "k")]
        joined = [join(*group) for group in one_sided if group]
        return *joined, *(arg for arg in args if self.structure.side(arg) == "qk")

    # ---- logic ---------------------------------------------------------------------------------------

    def _connective(self, node: Predicate, found: dict[Predicate, Outcomes]) -> Outcomes:
        parts = self.parts[node]
        match node:
            case And():
                return self._joined(parts, found, outcome.and_independent, outcome.and_)
            case Or():
                return self._joined(parts, found, outcome.or_independent, outcome.or_)
            case Xor():
                return outcome.xor(found[parts[0]], found[parts[1]])
            case Not():
                return outcome.not_(found[parts[0]])
            case _:
                raise AssertionError(node)

    def _joined(
        self, parts: Sequence[Predicate], found: dict[Predicate, Outcomes], independent: Rule, dependent: Rule
    ) -> Outcomes:
        """At most one part depends on q alone and one on k alone: two such parts always meet."""
        alone = [found[part] for part in parts if self.structure.side(part) != "qk"]
        rest = [found[part] for part in parts if self.structure.side(part) == "qk"]
        return reduce(dependent, ([reduce(independent, alone)] if alone else []) + rest)

    # ---- leaves --------------------------------------------------------------------------------------

    def _leaf(self, node: Predicate, bounds: Bounds) -> Outcomes:
        side = self.structure.side(node)
        if isinstance(node, Truth):
            return np.asarray(FULL if node.value else EMPTY, np.uint8)
        if isinstance(node, Compare):
            difference = self.structure.difference(node)
            if side == "qk" or is_affine(difference):
                return self._compare(node, difference, bounds)
        if side == "q" or side == "k":
            return self._one_sided(node, "q" if side == "q" else "k", bounds.cells)
        return _some_entries(node, bounds) if isinstance(node, BoolTable) else np.asarray(ANY, np.uint8)

    def _one_sided(self, node: Predicate, axis: Axis, cells: Cells) -> Outcomes:
        truth = self.profiles.truth(node, axis)
        at = cells.i if axis == "q" else cells.j
        some, every = truth.some[cells.level][at], truth.every[cells.level][at]
        return np.where(every, np.uint8(FULL), np.where(some, np.uint8(PARTIAL), np.uint8(EMPTY)))

    def _compare(self, node: Compare, difference: Index, bounds: Bounds) -> Outcomes:
        if node.op == "==" or node.op == "!=":
            found = self._equal(node, difference, bounds)
            return found if node.op == "==" else outcome.not_(found)
        return _ordered(bounds.of(difference), node.op)

    def _equal(self, node: Compare, difference: Index, bounds: Bounds) -> Outcomes:
        equation = predicate.compare(node.lhs, "==", node.rhs)
        two_sides = self._separated(difference)
        if two_sides is None:
            return _zero(bounds.of(difference))
        rows, columns = self.profiles.match(equation, *two_sides)
        return _same_value(rows, columns, bounds.cells, self.profiles.grid.q_offset)

    def _separated(self, difference: Index) -> tuple[Index, Index] | None:
        """`f(q) - g(k)` as (f, g), where it has that form and is not affine (then its bounds are exact)."""
        parts = self.structure.parts(difference)
        if parts.q is None or parts.k is None or parts.mixed or is_affine(difference):
            return None
        return index.add(parts.q, index.const(parts.constant)), index.neg(parts.k)


def _some_entries(node: BoolTable, bounds: Bounds) -> Outcomes:
    """A table over pairs: all of the entries in reach are true, or none, or it takes a look at them."""
    fixed = leading_constants(node.indices)
    varying = node.indices[len(fixed) :]
    sizes = bounds.profiles.tables[node.name].shape[len(fixed) :]
    ends = [bounds.reach(item, size) for item, size in zip(varying, sizes, strict=True)]
    if len(varying) == 1:
        low, high = bounds.profiles.ranges_of(node.name, fixed).over(*ends[0])
        return _decided(high == 0, low == 1, np.asarray(ANY, np.uint8))
    if len(varying) == 2 and bounds.profiles.tables[node.name].size <= LARGEST_RECTANGLE:
        (top, bottom), (left, right) = ends
        counts = bounds.profiles.rectangles_of(node.name, fixed)
        true, every = counts.over((top, left), (bottom, right))
        return _decided(true == 0, true == every, np.asarray(ANY, np.uint8))
    return np.asarray(ANY, np.uint8)


def _ordered(part: Range, op: CompareOp) -> Outcomes:
    """`value < 0` or `value <= 0`."""
    if op == "<":
        never, always = part.low >= 0, part.high < 0
    else:
        never, always = part.low > 0, part.high <= 0
    return _decided(never, always, _either(part.tight, PARTIAL, ANY))


def _zero(part: Range) -> Outcomes:
    """`value == 0`."""
    never = (part.low > 0) | (part.high < 0)
    always = (part.low == 0) & (part.high == 0)
    reached = part.dense | (part.tight & ((part.low == 0) | (part.high == 0)))
    # Where both ends are reached and differ, not every value is zero; where zero is reached, some are.
    otherwise = _either(part.tight, EMPTY | PARTIAL, ANY)
    return _decided(never, always, np.where(reached & part.tight, np.uint8(PARTIAL), otherwise))


def _either(flags: Flags, then: int, other: int) -> Outcomes:
    if isinstance(flags, bool):
        return np.asarray(then if flags else other, np.uint8)
    return np.where(flags, np.uint8(then), np.uint8(other))


def _decided(never: Flags, always: Flags, otherwise: Outcomes) -> Outcomes:
    """Empty where `never`, else full where `always`, else `otherwise`."""
    if otherwise.ndim:
        return np.where(never, np.uint8(EMPTY), np.where(always, np.uint8(FULL), otherwise))
    # One look-up is cheaper than two choices where the third outcome is the same for all cells.
    choice = np.asarray(always, np.uint8) + 2 * np.asarray(never, np.uint8)
    return np.take(_CHOICES[int(otherwise)], choice)


def _same_value(rows: ValueSets, columns: ValueSets, cells: Cells, q_offset: int) -> Outcomes:
    """`f(q) == g(k)` from the values that occur on either side of the cell."""
    level, i, j = cells.level, cells.i, cells.j
    low_q, high_q = rows.profile.low[level][i], rows.profile.high[level][i]
    low_k, high_k = columns.profile.low[level][j], columns.profile.high[level][j]
    common = rows.bits[level][i] & columns.bits[level][j]
    never = (high_q < low_k) | (high_k < low_q) | (common == 0)
    always = (low_q == high_q) & (low_k == high_k) & (low_q == low_k)
    if rows.exact and columns.exact:
        shared: Flags = True
    elif level == 0 and rows.words is not None and columns.words is not None:
        common_words: NDArray[np.bool_] = np.any(rows.words[i] & columns.words[j], axis=1)
        shared, never = common_words, never | ~common_words
    else:
        unbroken_q = rows.profile.unbroken(cells.q_first - q_offset, cells.q_last - q_offset)
        unbroken_k = columns.profile.unbroken(cells.k_first, cells.k_last)
        # Ranges that overlap share a value when neither skips one, or when they meet in an end.
        shared = (unbroken_q & unbroken_k) | (low_q == low_k) | (high_q == high_k)
        shared = shared | (high_q == low_k) | (high_k == low_q)
    return _decided(never, always, _either(shared, PARTIAL, EMPTY | PARTIAL))
