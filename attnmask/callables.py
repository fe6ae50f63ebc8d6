"""Python functions made from definitions of the language: for the library and for the zoo."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from attnmask import signatures
from attnmask.errors import MaskError, Place, Source, Span
from attnmask.ir import index, predicate, score
from attnmask.ir.elaborate import Lookup, argument_value, elaborate
from attnmask.ir.prelude import prelude
from attnmask.ir.tables import TableData, table_data
from attnmask.ir.values import Bound, Function, Interval, TableName, Value
from attnmask.mask import Mask, ScoreMod
from attnmask.signatures import ACCEPTS, Kind
from attnmask.syntax import tree
from attnmask.syntax.parse import parse

_LONGEST_SHOWN = 24


@dataclass(frozen=True, slots=True)
class _Argument:
    """An argument of a Python call: its value in the language, how messages show it, and what it brings along."""

    value: Value
    shown: str
    given: Mask | None = None
    table: TableData | None = None


def make_function(
    function: Function, document: signatures.Documentation, module: str, lookup: Lookup, name: str | None = None
) -> Callable[..., Any]:
    """A Python function that expands a definition: a mask or a score modification, composable with all others."""
    kinds = signatures.parameter_kinds(function)
    is_score = signatures.result_kind(function) is Kind.SCORE

    def call(*args: object, **kwargs: object) -> Mask | ScoreMod:
        names = [*kinds][: len(args)] + [""] * (len(args) - len(kinds))
        arguments = [(None, _argument(value, kinds.get(to), to)) for to, value in zip(names, args, strict=True)]
        named = [(to, _argument(value, kinds.get(to), to)) for to, value in kwargs.items()]
        return _expand(function, [*arguments, *named], is_score, lookup)

    call.__name__ = call.__qualname__ = name or function.definition.name
    call.__module__ = module
    call.__doc__ = signatures.docstring(function, document)
    returned = ScoreMod if is_score else Mask
    call.__signature__ = signatures.signature(function, returned)  # type: ignore[attr-defined]  # inspect reads it
    return call


def _expand(
    function: Function, arguments: list[tuple[str | None, _Argument]], is_score: bool, lookup: Lookup
) -> Mask | ScoreMod:
    """The value of a call, elaborated as a text would be, so that faults are told in the same words and place."""
    text = f"{function.definition.name}("
    scope = {function.definition.name: Bound(function)}
    nodes = []
    for number, (name, argument) in enumerate(arguments):
        text += f"{', ' if number else ''}{f'{name}=' if name else ''}"
        span = Span(len(text), len(text) + len(argument.shown))
        text += argument.shown
        # No name of the language holds a blank, so these hide none.
        scope[f"argument {number}"] = Bound(argument.value)
        nodes.append(tree.Argument(name, tree.Name(f"argument {number}", span), span))
    text += ")"
    whole = Span(0, len(text))
    call: tree.Expr = tree.Call(tree.Name(function.definition.name, whole), tuple(nodes), whole)
    if is_score:
        call = tree.With(tree.Truth(True, whole), (call,), whole)
    meaning = elaborate(tree.Program((), call, whole), Source(text), scope, lookup)
    assert meaning.predicate is not None, "a program with a result has a predicate"
    mask = Mask(meaning.predicate, meaning.score, _carried(arguments), meaning.origins)
    given = {argument.value.name: argument.table for _, argument in arguments if _is_table(argument)}
    mask = mask.bind(**{name: data.array for name, data in given.items() if name in mask.unbound})
    return ScoreMod(mask.score, mask.tables, mask.origins) if is_score and mask.score is not None else mask
