"""Laws of comparisons with minima, maxima and absolute values."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from attnmask.algebra.laws.known import Known, split
from attnmask.algebra.laws.rule import Rule
from attnmask.ir.index import add, const, maximum, minimum, mul, neg, sub
from attnmask.ir.nodes import Abs, Add, Compare, Index, Max, Min, Predicate
from attnmask.ir.predicate import TRUE, and_, compare, not_, truth


@dataclass(frozen=True, slots=True)
class Extreme:
    """A minimum, maximum or absolute value that is a term of one side of a comparison."""

    node: Compare
    side: Index
    term: Min | Max | Abs
    factor: int

    @property
    def args(self) -> tuple[Index, ...]:
        return (self.term.arg, neg(self.term.arg)) if isinstance(self.term, Abs) else self.term.args

    @property
    def least(self) -> bool:
        """Whether the side is the least of what it would be with each argument; else it is the greatest."""
        return isinstance(self.term, Min) == (self.factor > 0)

    @property
    def against(self) -> Index:
        return self.node.rhs if self.side is self.node.lhs else self.node.lhs

    def side_with(self, arg: Index) -> Index:
        return arg if self.side is self.term else add(self.side, mul(const(self.factor), sub(arg, self.term)))

    def with_arg(self, arg: Index) -> Predicate:
        """The comparison with something in the place of the extreme."""
        side = self.side_with(arg)
        lhs, rhs = (side, self.against) if self.side is self.node.lhs else (self.against, side)
        return compare(lhs, self.node.op, rhs)

    def of(self, args: list[Index]) -> Index:
        if isinstance(self.term, Min):
            return minimum(*args)
        return maximum(*args) if isinstance(self.term, Max) else args[0]


def extremes(node: Compare) -> Iterator[Extreme]:
    for side in (node.lhs, node.rhs):
        for base, factor in split(side)[0]:
            if isinstance(base, Min | Max | Abs):
                yield Extreme(node, side, base, factor)


def dominated(node: Compare, known: Known) -> Predicate | None:
    for extreme in extremes(node):
        reduce = _in_equality if node.op == "==" or node.op == "!=" else _in_bound
        found = reduce(extreme, known)
        if found is not None:
            return found
    return None


def _in_bound(extreme: Extreme, known: Known) -> Predicate | None:
    """min(x, y) < z is x < z or y < z; max(x, y) < z is x < z and y < z."""
    disjunction = extreme.least == (extreme.side is extreme.node.lhs)
    kept = []
    for arg in extreme.args:
        settled = _settled(extreme.with_arg(arg), known)
        if settled is disjunction:
            return truth(disjunction)
        if settled is None:
            kept.append(arg)
    return _with_fewer(extreme, kept, known) if kept else truth(not disjunction)


def _in_equality(extreme: Extreme, known: Known) -> Predicate | None:
    """min(x, y) == z, where x is never z or less: y == z."""
    kept = []
    for arg in extreme.args:
        own, against = extreme.side_with(arg), extreme.against
        inner, outer = (own, against) if extreme.least else (against, own)
        if known.settled(inner, "<", outer):
            return truth(extreme.node.op == "!=")
        if not known.settled(outer, "<", inner):
            kept.append(arg)
    return _with_fewer(extreme, kept, known) if kept else truth(extreme.node.op == "!=")


def _with_fewer(extreme: Extreme, kept: list[Index], known: Known) -> Predicate | None:
    if len(kept) == len(extreme.args):
        return None
    found = extreme.with_arg(extreme.of(kept))
    # A sum that becomes part of a sum is added term by term.
    if isinstance(found, Compare) and isinstance(kept[0], Add) and not known.fits(found.lhs, found.rhs):
        return None
    return found


def _settled(predicate: Predicate, known: Known) -> bool | None:
    if isinstance(predicate, Compare):
        return known.region(predicate).settled
    return predicate is TRUE


def attained(node: Compare, known: Known) -> Predicate | None:
    """An extreme that equals one of its own arguments."""
    if node.op != "==" and node.op != "!=":
        return None
    for extreme in extremes(node):
        if isinstance(extreme.term, Abs):
            continue
        for arg in extreme.args:
            if sub(extreme.side_with(arg), extreme.against) is const(0):
                bounds = [
                    compare(arg, "<=", other) if isinstance(extreme.term, Min) else compare(other, "<=", arg)
                    for other in extreme.args
                ]
                return and_(*bounds) if node.op == "==" else not_(and_(*bounds))
    return None


EXTREMES = (
    Rule("dominated side", (Compare,), dominated),  # max(x, 0) <= k -> x <= k where k >= 0
    Rule("attained extreme", (Compare,), attained),  # min(x, y) == x -> x <= y
)
