"""Laws of single comparisons."""

from __future__ import annotations

from attnmask.algebra.cost import Node
from attnmask.algebra.laws.arithmetic import ARITHMETIC
from attnmask.algebra.laws.known import Known
from attnmask.algebra.laws.rule import Rule
from attnmask.algebra.laws.spelling import narrowed
from attnmask.ir.index import const, sub
from attnmask.ir.nodes import Compare, Predicate
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


def difference(node: Compare, known: Known) -> Predicate | None:
    """The two sides together, where a law of sums brings them together."""
    apart = sub(node.lhs, node.rhs)
    for rule in ARITHMETIC:
        if isinstance(apart, rule.kinds):
            closer: Node | None = rule.function(apart, known)
            if closer is not None:
                return compare(closer, node.op, const(0))  # type: ignore[arg-type]  # of an index comes an index
    return None


COMPARISONS = (
    Rule("decided by bounds", (Compare,), decided),  # k >= 0 -> all
    Rule("collected terms", (Compare,), collected),  # q + 1 <= k + 3 - q ... -> 2*q - k <= 2
    Rule("common factor", (Compare,), without_factor),  # 2*q < 2*k -> q < k;  2*x < 5 -> x <= 2
    Rule("bound of a quotient", (Compare,), without_quotient),  # x // 4 < 2 -> x < 8
    Rule("bound of a magnitude", (Compare,), without_magnitude),  # abs(x) <= 0 -> x == 0
    Rule("difference", (Compare,), difference),  # x // a * a == x -> x % a == 0
)
