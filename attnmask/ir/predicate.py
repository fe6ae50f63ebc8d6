"""Constructors of predicates, which keep the cheap laws of logic always true.

Conjunctions and disjunctions are flat, without repetition and without constants; a term beside its
complement, double negation and comparisons of constants disappear.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, assert_never

from attnmask.ir.index import sub
from attnmask.ir.nodes import (
    And,
    BoolTable,
    Choice,
    Compare,
    CompareOp,
    Const,
    Index,
    Not,
    Or,
    Predicate,
    Truth,
    Where,
    Xor,
    make,
)
from attnmask.ir.rules import Rule

TRUE = make(Truth, True)
FALSE = make(Truth, False)


def truth(value: bool) -> Truth:
    return TRUE if value else FALSE


def compare(lhs: Index, op: CompareOp | Literal[">", ">="], rhs: Index) -> Predicate:
    if op == ">" or op == ">=":
        return compare(rhs, "<" if op == ">" else "<=", lhs)
    match sub(lhs, rhs):
        case Const(value):
            return truth(holds(value, op))
    return make(Compare, lhs, op, rhs)


def holds(difference: int, op: CompareOp) -> bool:
    """Whether `lhs op rhs` is true when `lhs - rhs` is `difference`."""
    match op:
        case "<":
            return difference < 0
        case "<=":
            return difference <= 0
        case "==":
            return difference == 0
        case "!=":
            return difference != 0
        case _:
            assert_never(op)


def and_(*args: Predicate) -> Predicate:
    return _gathered(And, args, unit=TRUE, zero=FALSE)


def or_(*args: Predicate) -> Predicate:
    return _gathered(Or, args, unit=FALSE, zero=TRUE)


def _gathered(
    kind: type[And] | type[Or], args: Sequence[Predicate], *, unit: Predicate, zero: Predicate
) -> Predicate:
    kept: dict[Predicate, None] = {}
    for arg in args:
        for part in arg.args if isinstance(arg, kind) else (arg,):
            if part is zero or not_(part) in kept:
                return zero
            if part is not unit:
                kept[part] = None
    if len(kept) < 2:
        return next(iter(kept), unit)
    return make(kind, tuple(kept))


def xor(lhs: Predicate, rhs: Predicate) -> Predicate:
    if lhs is rhs:
        return FALSE
    if isinstance(lhs, Truth):
        lhs, rhs = rhs, lhs
    if isinstance(rhs, Truth):
        return not_(lhs) if rhs.value else lhs
    return TRUE if not_(lhs) is rhs else make(Xor, lhs, rhs)


def not_(arg: Predicate) -> Predicate:
    match arg:
        case Truth(value):
            return truth(not value)
        case Compare(lhs, "<", rhs):
            return make(Compare, rhs, "<=", lhs)
        case Compare(lhs, "<=", rhs):
            return make(Compare, rhs, "<", lhs)
        case Compare(lhs, "==", rhs):
            return make(Compare, lhs, "!=", rhs)
        case Compare(lhs, "!=", rhs):
            return make(Compare, lhs, "==", rhs)
        case Not(inner):
            return inner
    return make(Not, arg)


def bool_table(name: str, indices: Sequence[Index]) -> BoolTable:
    return make(BoolTable, name, tuple(indices))


def choice(
    rule: Rule, q_unit: Index, k_unit: Index, among: Predicate | None, count: Predicate = FALSE
) -> Choice:
    return make(Choice, rule, q_unit, k_unit, among, count)


def where(condition: Predicate, then: Index, other: Index) -> Index:
    """The integer `then` where the condition holds and `other` elsewhere."""
    if isinstance(condition, Truth):
        return then if condition.value else other
    return then if then is other else make(Where, condition, then, other)
