"""Python values as arguments of a definition of the language."""

from __future__ import annotations

import operator
from dataclasses import dataclass

from attnmask.errors import MaskError, Source
from attnmask.functions.kinds import ACCEPTS, Kind
from attnmask.ir import index, predicate, score
from attnmask.ir.elaborate import argument_value
from attnmask.ir.nodes import Index
from attnmask.ir.prelude import prelude
from attnmask.ir.tables import TableData, table_data
from attnmask.ir.values import Interval, TableName, Value
from attnmask.mask import Mask
from attnmask.syntax.parse import parse

_LONGEST_SHOWN = 40


@dataclass(frozen=True, slots=True)
class Argument:
    """A value of the language, the text that messages show for it, and the tables that come along."""

    value: Value
    shown: str
    tables: tuple[tuple[str, TableData], ...] = ()
    mask: Mask | None = None


def to_argument(given: object, kind: Kind, name: str, function: str) -> Argument:
    """`given` as an argument of a parameter of this kind; the names are for messages.

    Text is an expression of the language, a slice or a range is a range, a mask stands for its predicate, and an
    array or a list becomes a table whose name comes from its content. MaskError for everything else.
    """
    what = f"'{name}' of {function}"
    match given:
        case bool():
            return Argument(predicate.truth(given), str(given).lower())
        case str():
            return Argument(argument_value(parse(source := Source(given)), source, prelude()), _short(given))
        case Mask():
            return _from_mask(given, what)
        case slice() | range():
            return _from_range(given, what)
        case float() if kind in (Kind.SCORE, Kind.AMOUNT):
            return Argument(score.real(given), str(given))
    if (number := _integer(given)) is not None:
        if number not in index.INT64:
            raise MaskError(f"{what} cannot be {_short(str(number))}, which does not fit into 64 bits")
        return Argument(index.const(number), str(number))
    if isinstance(given, list | tuple) or hasattr(given, "__array__") or hasattr(given, "detach"):
        if kind in (Kind.TOKENS, Kind.FLAGS):
            return _from_array(given, name)
        raise MaskError(
            f"{what} cannot be an array",
            hint=f"{what} takes {ACCEPTS[kind]}; for a table, write its entry as text, 'n[h]', and bind n",
        )
    shown = "a function" if callable(given) else _short(repr(given))
    hint = f"{what} takes {ACCEPTS[kind]}"
    raise MaskError(f"{what} cannot be {shown}", hint=hint)


def _integer(given: object) -> int | None:
    """The integer that `given` is, numpy's and a tensor's single ones included."""
    if getattr(given, "ndim", 0):
        return None
    try:
        return operator.index(given)  # type: ignore[arg-type]  # it raises TypeError for what is no integer
    except TypeError:
        return None


def _from_mask(given: Mask, what: str) -> Argument:
    if given.score is not None:
        raise MaskError(
            f"{what} cannot be a mask that modifies scores", hint="add the scores last, by with_score"
        )
    return Argument(given.predicate, _short(str(given)), given.tables, given)


def _from_range(given: slice | range, what: str) -> Argument:
    if given.step not in (None, 1):
        raise MaskError(
            f"{what} cannot be a range with steps", hint="ranges hold all integers between their ends"
        )
    ends = [None if end is None else _end(end, what) for end in (given.start, given.stop)]
    shown = ":".join("" if end is None else str(end) for end in (given.start, given.stop))
    return Argument(Interval(*ends), shown)


def _end(given: object, what: str) -> Index:
    number = _integer(given)
    if number is None or number < 0:
        hint = "ends are counted from 0; for others write the range in a text and use compile"
        raise MaskError(f"{what} cannot be a range that ends at {given!r}", hint=hint)
    return index.const(number)


def _from_array(given: object, parameter: str) -> Argument:
    data = table_data(parameter, given)
    lengths = "×".join(map(str, data.array.shape))
    name = f"table_{data.digest[:12]}"
    return Argument(TableName(name), f"<{data.array.dtype} {lengths}>", ((name, data),))


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST_SHOWN else line[: _LONGEST_SHOWN - 1] + "…"
