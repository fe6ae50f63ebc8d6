"""Laws of single comparisons."""

from __future__ import annotations

from typing import cast

from attnmask.algebra.laws.arithmetic import ARITHMETIC
from attnmask.algebra.laws.known import Known, split
from attnmask.algebra.laws.rule import Rule
from attnmask.algebra.laws.spelling import narrowed
from attnmask.ir.index import add, const, floordiv, mul, sub
from attnmask.ir.nodes import Compare, CompareOp, Const, FloorDiv, Index, Predicate
from attnmask.ir.predicate import compare, truth


def decided(node: Compare, known: Known) -> Predicate | None:
    settled = known.region(node).settled
    return None if settled is None else truth(settled)


def collected(node: Compare, known: Known) -> Predicate | None:
    return None if known.region(node).through else _narrowed(node, known)


def without_factor(node: Compare, known: Known) -> Predicate | None:
    return _narrowed(node, known) if set(known.region(node).through) == {"factor"} else None


def without_quotient(node: Compare, known: Known) -> Predicate | None:
    through = known.region(node).through
    return _narrowed(node, known) if "quotient" in through and "magnitude" not in through else None


def without_magnitude(node: Compare, known: Known) -> Predicate | None:
    return _narrowed(node, known) if "magnitude" in known.region(node).through else None


def _narrowed(node: Compare, known: Known) -> Predicate:
    return narrowed(node, (known.region(node).possible,), known)


def brought_together(node: Compare, known: Known) -> Predicate | None:
    """The difference of the two sides, where a law of sums makes it simpler."""
    apart = sub(node.lhs, node.rhs)
    for rule in ARITHMETIC:
        if isinstance(apart, rule.kinds):
            simpler = cast(Index | None, rule.function(apart, known))
            if simpler is not None:
                return _of_difference(simpler, node.op, known)
    return None


def whole_steps(node: Compare, known: Known) -> Predicate | None:
    """Multiples of a divisor inside of its quotients, joined with the other constants."""
    apart = sub(node.lhs, node.rhs)
    stepped = apart
    for base, factor in split(apart)[0]:
        match base:
            case FloorDiv(lhs, Const(by) as divisor) if by > 0:
                constant = split(lhs)[1]
                if constant and constant % by == 0:
                    step = add(floordiv(sub(lhs, const(constant)), divisor), const(constant // by))
                    stepped = add(stepped, mul(const(factor), sub(step, base)))
    return None if stepped is apart else _of_difference(stepped, node.op, known)


def _of_difference(apart: Index, op: CompareOp, known: Known) -> Predicate:
    found = compare(apart, op, const(0))
    return _narrowed(found, known) if isinstance(found, Compare) else found


COMPARISONS = (
    Rule("decided by bounds", (Compare,), decided),  # k >= 0 -> all
    Rule("collected terms", (Compare,), collected),  # q + 1 <= k + 3 - q ... -> 2*q - k <= 2
    Rule("common factor", (Compare,), without_factor),  # 2*q < 2*k -> q < k;  2*x < 5 -> x <= 2
    Rule("bound of a quotient", (Compare,), without_quotient),  # x // 4 < 2 -> x < 8
    Rule("bound of a magnitude", (Compare,), without_magnitude),  # abs(x) <= 0 -> x == 0
    Rule("sides brought together", (Compare,), brought_together),  # x // a * a == x -> x % a == 0
    Rule("whole steps", (Compare,), whole_steps),  # (x + 8) // 4 == y // 4 + 2 -> x // 4 == y // 4
)
