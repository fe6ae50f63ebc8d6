"""Constructors of score expressions: the functions that `with` applies to attention scores."""

from __future__ import annotations

from collections.abc import Sequence

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
    make,
)

SCORE = make(Score)


def real(value: float) -> Real:
    return make(Real, float(value) + 0.0)  # adding 0.0 makes one zero of the two


def real_table(name: str, indices: Sequence[Index]) -> RealTable:
    return make(RealTable, name, tuple(indices))


def arith(op: ArithOp, lhs: ScoreExpr, rhs: ScoreExpr) -> ScoreExpr:
    return make(Arith, op, lhs, rhs)


def apply(function: FunctionName, arg: ScoreExpr) -> ScoreExpr:
    return make(Apply, function, arg)


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
    return make(FromIndex, index)
