"""Outcomes of a predicate over cells: each leaf by bounds, the rest by logic on sets of outcomes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import assert_never

import numpy as np

from attnmask.ir.index import is_affine
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
from attnmask.tiles.grid import Axis, Cells
from attnmask.tiles.lookup import LARGEST_RECTANGLE
from attnmask.tiles.matches import same_value
from attnmask.tiles.outcome import ANY, EMPTY, FULL, PARTIAL, Outcomes
from attnmask.tiles.profile import Profiles
from attnmask.tiles.steps import steps
from attnmask.tiles.structure import leading_constants

# For each outcome: itself, then full, empty, empty; at [outcome, always + 2 * never].
_CHOICES = np.array([[other, FULL, EMPTY, EMPTY] for other in range(8)], np.uint8)

Rule = Callable[[Outcomes, Outcomes], Outcomes]


class Classifier:
    """One predicate, prepared for being asked about cells. The predicate has no variables but q and k."""

    def __init__(self, root: Predicate, profiles: Profiles) -> None:
        self.profiles = profiles
        self.root = root
        self.steps = steps(root)
        self.structure = self.steps.structure

    def outcomes(self, cells: Cells) -> Outcomes:
        """The set of outcomes that each cell may still have, uint8 [cells]."""
        bounds = Bounds(self.profiles, self.structure, cells)
        found: dict[Predicate, Outcomes] = {}
        for node in self.steps.order:
            parts = self.steps.parts[node]
            found[node] = self._connective(node, parts, found) if parts else self._leaf(node, bounds)
        return np.broadcast_to(found[self.root], cells.i.shape)

    # ---- logic ---------------------------------------------------------------------------------------

    def _connective(
        self, node: Predicate, parts: Sequence[Predicate], found: dict[Predicate, Outcomes]
    ) -> Outcomes:
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
        if side == "q" or side == "k":
            if isinstance(node, Compare) and is_affine(self.structure.difference(node)):
                return self._compare(node, bounds)
            return self._one_sided(node, "q" if side == "q" else "k", bounds.cells)
        if (distance := self.structure.distance(node)) is not None:
            return self.profiles.counts_of(distance).outcomes(bounds.cells)
        if equations := self.structure.equations(node):
            return self._equal(node, equations, bounds.cells)
        if isinstance(node, Compare):
            return self._compare(node, bounds)
        return _some_entries(node, bounds) if isinstance(node, BoolTable) else np.asarray(ANY, np.uint8)

    def _one_sided(self, node: Predicate, axis: Axis, cells: Cells) -> Outcomes:
        truth = self.profiles.truth(node, axis)
        at = cells.i if axis == "q" else cells.j
        some, every = truth.some.at(cells.level)[at], truth.every.at(cells.level)[at]
        return np.where(every, np.uint8(FULL), np.where(some, np.uint8(PARTIAL), np.uint8(EMPTY)))

    def _equal(self, node: Predicate, equations: tuple[tuple[Index, Index], ...], cells: Cells) -> Outcomes:
        found = same_value(*self.profiles.match(equations), cells, self.profiles.grid.q_offset)
        complement = isinstance(node, Or) or (isinstance(node, Compare) and node.op == "!=")
        return outcome.not_(found) if complement else found

    def _compare(self, node: Compare, bounds: Bounds) -> Outcomes:
        part = bounds.of(self.structure.difference(node))
        match node.op:
            case "<" | "<=":
                return _ordered(part, node.op)
            case "==":
                return _zero(part)
            case "!=":
                return outcome.not_(_zero(part))
            case _:
                assert_never(node.op)


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
