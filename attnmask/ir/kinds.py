"""Kinds of value: which value can serve as a mask, an index or a score, and how kinds are named."""

from __future__ import annotations

from attnmask.ir import index, predicate, score
from attnmask.ir.nodes import Expr, Index, Node, Predicate, ScoreExpr
from attnmask.ir.values import (
    Cell,
    Function,
    Interval,
    Pooled,
    Scored,
    Symbol,
    TableName,
    TokenFunction,
    UnitScores,
    Value,
)


def describe(value: Value) -> str:
    """The kind of a value, with its article, as error messages name it."""
    if isinstance(value, Index):
        return "an index (an integer)"
    if isinstance(value, Predicate):
        return "a mask"
    if isinstance(value, ScoreExpr):
        return "a score"
    match value:
        case Function():
            return "a function"
        case TokenFunction():
            return "a token function"
        case TableName(name):
            return f"'{name}', which nothing defines"
        case Cell():
            return "a table entry"
        case Interval():
            return "a range"
        case Scored():
            return "a mask with scores"
        case Symbol(name):
            return f"the function '{name}'"
        case Pooled():
            return "a way of pooling"
        case UnitScores():
            return "a score map"
        case _:
            raise AssertionError(value)


def to_index(value: Value) -> Index | None:
    """The value as an integer; a bare table name is a number that is set at compile time."""
    if isinstance(value, Index):
        return value
    match value:
        case TableName(name):
            return index.table(name, ())
        case Cell(name, indices):
            return index.table(name, indices)
    return None


def to_mask(value: Value) -> Predicate | None:
    if isinstance(value, Predicate):
        return value
    return predicate.bool_table(value.name, value.indices) if isinstance(value, Cell) else None


def to_score(value: Value) -> ScoreExpr | None:
    if isinstance(value, ScoreExpr):
        return value
    integer = to_index(value)
    return None if integer is None else score.from_index(integer)


def is_score(value: Value) -> bool:
    return isinstance(value, ScoreExpr)


def is_mask(value: Value) -> bool:
    return isinstance(value, Predicate)


def is_index(value: Value) -> bool:
    return isinstance(value, Index)


def readings(value: Value) -> tuple[Expr, ...]:
    """The nodes that a value is or may be read as: an entry of a table is an index, a mask or a score."""
    if isinstance(value, Node):
        return (value,)
    if not isinstance(value, Cell | TableName):
        return ()
    indices = value.indices if isinstance(value, Cell) else ()
    name = value.name
    return index.table(name, indices), predicate.bool_table(name, indices), score.real_table(name, indices)
