"""The functions that the language itself provides, on values that are already elaborated."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

from attnmask.errors import MaskError
from attnmask.ir import index, predicate, score
from attnmask.ir.choosing_arguments import pooling
from attnmask.ir.kinds import describe, is_score, to_index, to_mask, to_score
from attnmask.ir.nodes import FunctionName, Index, ScoreExpr
from attnmask.ir.rules import Concat, Linear
from attnmask.ir.values import Pooled, TableName, Value

Builtin = Callable[[Sequence[Value]], Value]


def _index(value: Value, function: str) -> Index:
    found = to_index(value)
    if found is None:
        raise MaskError(f"{function} needs an index (an integer), and this is {describe(value)}")
    return found


def _score(value: Value, function: str) -> ScoreExpr:
    found = to_score(value)
    if found is None:
        raise MaskError(f"{function} needs a score or a number, and this is {describe(value)}")
    return found


def _count(function: str, args: Sequence[Value], number: int) -> None:
    if len(args) != number:
        raise MaskError(f"{function} takes {number} argument{'' if number == 1 else 's'} and got {len(args)}")


def _abs(args: Sequence[Value]) -> Value:
    _count("abs", args, 1)
    return index.absolute(_index(args[0], "abs"))


def _extreme(name: str, build: Callable[..., Index]) -> Builtin:
    def call(args: Sequence[Value]) -> Value:
        if not args:
            raise MaskError(f"{name} takes at least 1 argument")
        return build(*(_index(arg, name) for arg in args))

    return call


def _where(args: Sequence[Value]) -> Value:
    _count("where", args, 3)
    condition = to_mask(args[0])
    if condition is None:
        raise MaskError(f"where needs a mask first, and this is {describe(args[0])}")
    if any(is_score(arg) for arg in args[1:]):
        return score.score_where(condition, _score(args[1], "where"), _score(args[2], "where"))
    return predicate.where(condition, _index(args[1], "where"), _index(args[2], "where"))


def _concat(args: Sequence[Value]) -> Value:
    if not args:
        raise MaskError("concat takes at least 1 argument")
    return Pooled(Concat(tuple(pooling(arg, "concat") for arg in args)))


def _linear(args: Sequence[Value]) -> Value:
    _count("linear", args, 2)
    if not isinstance(args[0], TableName):
        raise MaskError(f"linear takes the name of its matrix first, not {describe(args[0])}")
    return Pooled(Linear(args[0].name, pooling(args[1], "linear")))


def _real_function(name: str) -> Builtin:
    def call(args: Sequence[Value]) -> Value:
        _count(name, args, 1)
        return score.apply(cast(FunctionName, name), _score(args[0], name))

    return call


BUILTINS: dict[str, Builtin] = {
    "abs": _abs,
    "min": _extreme("min", index.minimum),
    "max": _extreme("max", index.maximum),
    "where": _where,
    "concat": _concat,
    "linear": _linear,
    "tanh": _real_function("tanh"),
    "exp": _real_function("exp"),
    "log": _real_function("log"),
}
