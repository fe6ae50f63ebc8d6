"""Laws of `where`: choices that are truth values in disguise, and choices that need not be made."""

from __future__ import annotations

from collections.abc import Iterator

from attnmask.algebra.laws.known import Known, split
from attnmask.algebra.laws.rule import Rule
from attnmask.ir.index import absolute, add, const, maximum, minimum, mul, neg, sub
from attnmask.ir.nodes import Add, Compare, CompareOp, Const, Index, Mul, Not, Predicate, Where
from attnmask.ir.predicate import FALSE, TRUE, and_, compare, not_, or_, truth, where, xor

# Conditions that are told apart in one comparison.
_MOST_CONDITIONS = 3


def of_truth_values(node: Compare, known: Known) -> Predicate | None:
    """A comparison of choices as the conditions under which it holds; bounds decide most of the cases."""
    if next(_choices(node.lhs, node.rhs), None) is None:
        return None
    return _told(node.lhs, node.op, node.rhs, known, _MOST_CONDITIONS)


def _told(lhs: Index, op: CompareOp, rhs: Index, known: Known, depth: int) -> Predicate | None:
    settled = known.settled(lhs, op, rhs)
    if settled is not None:
        return truth(settled)
    condition = next((term.condition for term in _choices(lhs, rhs)), None)
    if condition is None or depth == 0:
        return compare(lhs, op, rhs)
    cases: list[Predicate] = []
    for holds in (True, False):
        left, right = (_chosen(side, condition, holds, known) for side in (lhs, rhs))
        case = None if left is None or right is None else _told(left, op, right, known, depth - 1)
        if case is None:
            return None
        cases.append(case)
    return by_cases(condition, *cases)


def by_cases(condition: Predicate, then: Predicate, other: Predicate) -> Predicate:
    """`then` where the condition holds, `other` elsewhere."""
    if then is other:
        return then
    if then is not_(other):
        return xor(condition, other)
    if then is TRUE or other is FALSE:
        return or_(condition, other) if then is TRUE else and_(condition, then)
    if then is FALSE or other is TRUE:
        return and_(not_(condition), other) if then is FALSE else or_(not_(condition), then)
    return or_(and_(condition, then), and_(not_(condition), other))


def _choices(*sides: Index) -> Iterator[Where]:
    for side in sides:
        for base, _ in split(side)[0]:
            if isinstance(base, Where):
                yield base


def _chosen(side: Index, condition: Predicate, holds: bool, known: Known) -> Index | None:
    """A sum with its choices by one condition made; None where that sum could leave 64 bits."""
    for term in _choices(side):
        if term.condition is condition or term.condition is not_(condition):
            branch = term.then if (term.condition is condition) == holds else term.other
            if side is term:
                return branch
            factor = dict(split(side)[0])[term]
            side = add(side, mul(const(factor), sub(branch, term)))
            # A sum within the sum becomes part of it, and its terms are added one by one.
            if isinstance(branch, Add) and not known.fits(side):
                return None
    return side


def product_of_choices(node: Mul, known: Known) -> Index | None:
    """A product with a choice of 1 or nothing."""
    for place, factor in enumerate(node.factors):
        rest = mul(const(1), *node.factors[:place], *node.factors[place + 1 :])
        match factor:
            case Where(condition, Const(1), Const(0)):
                return where(condition, rest, const(0))
            case Where(condition, Const(0), Const(1)):
                return where(condition, const(0), rest)
    return None


def choice_of_constants(node: Add | Mul, known: Known) -> Index | None:
    """A multiple of a choice of constants, and a constant."""
    match split(node):
        case ((Where(condition, Const(then), Const(other)), factor),), constant:
            return where(condition, const(factor * then + constant), const(factor * other + constant))
    return None


def choice_of_extreme(node: Where, known: Known) -> Index | None:
    """A choice by how far apart its own branches are."""
    if not isinstance(node.condition, Compare):
        return None
    then, other = node.then, node.other
    apart = sub(node.condition.lhs, node.condition.rhs)
    forwards, backwards = (sub(sub(then, other), way) is const(0) for way in (apart, neg(apart)))
    if node.condition.op == "==" or node.condition.op == "!=":
        if forwards or backwards:  # where the condition tells them to be equal, they are the same
            return other if node.condition.op == "==" else then
        return None
    if add(then, other) is const(0):
        if sub(other, apart) is const(0):
            return absolute(other)
        return neg(absolute(other)) if sub(then, apart) is const(0) else None
    if forwards:
        return minimum(then, other)
    return maximum(then, other) if backwards else None


def nested_choice(node: Where, known: Known) -> Index | None:
    """A choice within a choice that is the same, or has a branch with it in common."""
    condition, then, other = node.condition, node.then, node.other
    if isinstance(then, Where):
        if then.condition is condition or then.condition is not_(condition):
            return where(condition, then.then if then.condition is condition else then.other, other)
        if then.other is other:
            return where(and_(condition, then.condition), then.then, other)
        if then.then is other:
            return where(and_(condition, not_(then.condition)), then.other, other)
    if isinstance(other, Where):
        if other.condition is condition or other.condition is not_(condition):
            return where(condition, then, other.other if other.condition is condition else other.then)
        if other.then is then:
            return where(or_(condition, other.condition), then, other.other)
        if other.other is then:
            return where(or_(condition, not_(other.condition)), then, other.then)
    return None


def complemented_choice(node: Where, known: Known) -> Index | None:
    return where(node.condition.arg, node.other, node.then) if isinstance(node.condition, Not) else None


CHOICES = (
    Rule("choice of truth values", (Compare,), of_truth_values),  # where(c, 1, 0) == 1 -> c
    Rule("product of choices", (Mul,), product_of_choices),  # where(c, 1, 0) * x -> where(c, x, 0)
    Rule("choice of constants", (Add, Mul), choice_of_constants),  # 1 - where(c, 1, 0) -> where(c, 0, 1)
    Rule("choice of an extreme", (Where,), choice_of_extreme),  # where(x < y, x, y) -> min(x, y)
    Rule("choice within a choice", (Where,), nested_choice),  # where(c, where(c, x, y), z) -> where(c, x, z)
    Rule("complemented choice", (Where,), complemented_choice),  # where(~c, x, y) -> where(c, y, x)
)
