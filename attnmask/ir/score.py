"""Constructors of score expressions: the functions that `with` applies to attention scores."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence

from attnmask.errors import MaskError
from attnmask.ir.index import neg, split_coefficient
from attnmask.ir.nodes import (
    Add,
    Apply,
    Arith,
    ArithOp,
    Const,
    FromIndex,
    FunctionName,
    Index,
    Mul,
    Predicate,
    Real,
    RealTable,
    Score,
    ScoreExpr,
    ScoreWhere,
    Table,
    Truth,
    Where,
    make,
)

SCORE = make(Score)
_ARITH = {"+": operator.add, "-": operator.sub, "*": operator.mul, "/": operator.truediv}


def real(value: float) -> Real:
    """MaskError for infinity and NaN."""
    if not math.isfinite(value):
        raise MaskError(f"a number in a score must be finite, not {value}")
    return make(Real, float(value) + 0.0)  # adding 0.0 makes one zero of the two


def real_table(name: str, indices: Sequence[Index]) -> RealTable:
    return make(RealTable, name, tuple(indices))


def arith(op: ArithOp, lhs: ScoreExpr, rhs: ScoreExpr) -> ScoreExpr:
    if op == "/" and isinstance(rhs, Real) and rhs.value == 0:
        raise MaskError("division by zero", hint="divide by another number than 0")
    if not (isinstance(lhs, Real) and isinstance(rhs, Real)):
        return make(Arith, op, lhs, rhs)
    return real(_ARITH[op](lhs.value, rhs.value))


def apply(function: FunctionName, arg: ScoreExpr) -> ScoreExpr:
    if not isinstance(arg, Real):
        return make(Apply, function, arg)
    try:
        return real(getattr(math, function)(arg.value))
    except (ValueError, OverflowError):
        raise MaskError(f"{function}({arg.value:g}) is not a finite number") from None


def score_where(condition: Predicate, then: ScoreExpr, other: ScoreExpr) -> ScoreExpr:
    if isinstance(condition, Truth):
        return then if condition.value else other
    return make(ScoreWhere, condition, then, other)


def from_index(index: Index) -> ScoreExpr:
    """An integer expression as a score. Tables in its sums and products may then hold floats."""
    match index:
        case Const(value):
            return real(value)
        case Table(name, indices):
            return real_table(name, indices)
        case Add((first, *rest)):
            total = from_index(first)
            for term in rest:
                negative = split_coefficient(term)[0] < 0
                total = arith("-" if negative else "+", total, from_index(neg(term) if negative else term))
            return total
        case Mul((first, *rest)):
            product = from_index(first)
            for factor in rest:
                product = arith("*", product, from_index(factor))
            return product
        case Where(condition, then, other):
            return score_where(condition, from_index(then), from_index(other))
    return make(FromIndex, index)
