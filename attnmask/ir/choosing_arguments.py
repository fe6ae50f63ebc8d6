"""Arguments of the functions that choose: values of the language read as sizes, words, units and masks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, assert_never, get_args

from attnmask.errors import MaskError, did_you_mean
from attnmask.ir import index, predicate
from attnmask.ir.choices import choices_of
from attnmask.ir.choosing import Arguments, Kind, Operator, Takes, Words, counted, spannable
from attnmask.ir.kinds import describe, to_index, to_mask
from attnmask.ir.nodes import Const, Index, Predicate, Real, Truth
from attnmask.ir.rules import Amount, Pool, Pooling, PoolName
from attnmask.ir.values import Function, Pooled, Symbol, TableName, TokenFunction, UnitScores, Value
from attnmask.syntax import tree

_POOLS = get_args(PoolName)


def read(value: Value, kind: Kind, name: str) -> Any:
    """The value as what a parameter takes. MaskError, without a place, where it is something else.

    Units come as they are, a size or a token function: see `elaborate`.
    """
    if isinstance(kind, Words):
        return _word(value, kind.words, name)
    nothing = value is predicate.FALSE
    match kind:
        case Takes.MASK:
            return _mask(value, name)
        case Takes.FLAG:
            if isinstance(value, Truth):
                return value.value
        case Takes.SCALE if nothing or _name(value) in ("none", "sqrt"):
            return None if _name(value) == "sqrt" else 1.0
        case Takes.SCALE:
            number = _number(value)
            if number is not None and number > 0:
                return number
        case Takes.POOL:
            return _pool(value, name)
        case _ if nothing:
            return None
        case Takes.UNITS:
            if value is predicate.TRUE or isinstance(value, TokenFunction | TableName):
                return value
            if isinstance(value, Const):
                return _size(value, name)
        case Takes.SIZE:
            return _size(value, name)
        case Takes.COUNT:
            if isinstance(value, Predicate) and (found := counted(value)) is not None:
                return found
            amount = _amount(value)
            if isinstance(amount, float) and (amount < 1 or amount != int(amount)):
                raise MaskError(f"'{name}' must be a whole number from 1, not {amount:g}")
            if amount is not None:
                return amount
        case Takes.SHARE:
            amount = _amount(value)
            if isinstance(amount, float) and not 0 <= amount <= 1:
                raise MaskError(f"'{name}' must lie between 0 and 1, and is {amount:g}")
            if amount is not None:
                return amount
        case Takes.AMOUNT:
            if (amount := _amount(value)) is not None:
                return amount
        case Takes.CHOICE:
            if isinstance(value, Predicate) and (choice := spannable(value)) is not None:
                return choice
        case Takes.REACH:
            amount = _amount(value)
            if isinstance(amount, float) and not (0 <= amount < 2**31 and amount == int(amount)):
                raise MaskError(f"'{name}' must be a whole number from 0, not {amount:g}")
            if amount is not None:
                return amount
        case Takes.NAME:
            if (found_name := _name(value)) is not None:
                return found_name
        case Takes.SCORES:
            if isinstance(value, UnitScores):
                return value
        case _:
            assert_never(kind)
    raise _misfit(value, name, kind.value)


def _wanted(kind: Kind) -> str:
    return kind.value if isinstance(kind, Takes) else " or ".join(kind.words)


def _misfit(value: Value, name: str, wanted: str) -> MaskError:
    return MaskError(f"'{name}' takes {wanted}, not {describe(value)}")


def _name(value: Value) -> str | None:
    return value.name if isinstance(value, TableName | Symbol) else None


def _word(value: Value, words: tuple[str, ...], name: str) -> str:
    # `none` and `all` are masks of the library.
    found = {predicate.FALSE: "none", predicate.TRUE: "all"}.get(value) if isinstance(value, Truth) else None
    word = found or (value.definition.name if isinstance(value, Function) else _name(value))
    if word in words:
        return word
    listed = f"{', '.join(words[:-1])} or {words[-1]}"
    if word is None:
        raise _misfit(value, name, listed)
    raise MaskError(f"'{name}' takes {listed}, not '{word}'", hint=did_you_mean(word, words))


def _number(value: Value) -> float | None:
    match value:
        case Const(number):
            return float(number)
        case Real(real):
            return real
    return None


def _amount(value: Value) -> Amount | None:
    number = _number(value)
    return _name(value) if number is None else number


def _size(value: Value, name: str) -> int:
    match value:
        case Const(number) if number >= 1:
            return number
        case Const(number):
            raise MaskError(f"'{name}' must be at least 1, not {number}")
    raise _misfit(value, name, "a positive integer")


def _pool(value: Value, name: str) -> Pooling:
    if isinstance(value, Pooled):
        return value.pool
    word = _name(value)
    if word in _POOLS:
        return Pool(word)  # type: ignore[arg-type]  # one of them
    if word is None:
        raise _misfit(value, name, Takes.POOL.value)
    raise MaskError(
        f"'{name}' takes {Takes.POOL.value}, not '{word}'",
        hint=did_you_mean(word, [*_POOLS, "concat", "linear"]),
    )


def pooling(value: Value, function: str) -> Pooling:
    """A pool as an argument of `concat` and `linear`."""
    return _pool(value, f"an argument of {function}")


def _mask(value: Value, name: str) -> Predicate:
    found = to_mask(value)
    if found is None:
        raise _misfit(value, name, "a mask")
    if choices_of(found):
        raise MaskError(f"'{name}' must be known beforehand, and it chooses from q and k itself")
    return found


def sized(size: int) -> tuple[Index, Index]:
    """The units of queries and of keys that are runs of so many positions."""
    q, k = (index.floordiv(index.var(name), index.const(size)) for name in ("q", "k"))
    return q, k


def default_of(parameter: tree.Parameter, kind: Kind) -> Any:
    """What a parameter is where nothing is given for it, read off its default."""
    match parameter.default:
        case tree.Name("none") if kind is Takes.MASK:
            return predicate.FALSE if parameter.name == "count" else None
        case tree.Name("none"):
            return read(predicate.FALSE, kind, parameter.name)
        case tree.Name(name):
            return read(TableName(name), kind, parameter.name)
        case tree.Number(number):
            if kind is Takes.REACH:
                return float(number)
            return sized(number) if kind is Takes.UNITS else number
        case tree.Truth(truth):
            return truth
    raise AssertionError(parameter)


def optional(parameter: tree.Parameter) -> bool:
    """Whether `none` stands for it where nothing is given."""
    return isinstance(parameter.default, tree.Name) and parameter.default.name == "none"


def as_unit(value: Value, name: str) -> Index:
    """The value of a token function at a position, which is the number of a unit."""
    found = to_index(value)
    if found is None:
        raise _misfit(value, name, Takes.UNITS.value)
    return found


@dataclass(frozen=True, slots=True)
class Unfit(Exception):
    """An argument that does not fit its parameter."""

    error: MaskError
    argument: tree.Argument


def operator_arguments(
    operator: Operator,
    matched: Mapping[str, tree.Argument | None],
    value: Callable[[tree.Argument], Value],
    at: Callable[[Value, Index], Value],
) -> Arguments:
    """What a call of an operator gives its parameters, defaults included.

    `value` is what an argument stands for, `at` what a token function is at a position. Raises Unfit.
    """
    given: dict[str, Any] = {}
    for parameter in operator.definition.parameters:
        argument, kind = matched[parameter.name], operator.takes[parameter.name]
        if argument is None:
            given[parameter.name] = default_of(parameter, kind)
            continue
        try:
            found = read(value(argument), kind, parameter.name)
            if found is None and not (optional(parameter) or kind is Takes.SCALE):
                raise MaskError(f"'{parameter.name}' takes {_wanted(kind)}, not none")
            if kind is Takes.UNITS and found is predicate.TRUE:
                found = (index.const(0), index.const(0))
            elif kind is Takes.UNITS and isinstance(found, int):
                found = sized(found)
            elif kind is Takes.UNITS:
                found = tuple(as_unit(at(found, index.var(x)), parameter.name) for x in ("q", "k"))
        except MaskError as error:
            raise Unfit(error, argument) from None
        given[parameter.name] = found
    return given
