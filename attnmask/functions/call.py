"""From a definition of the language to a Python function."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from attnmask.errors import MaskError, Source, Span
from attnmask.functions.argument import Argument, to_argument
from attnmask.functions.kinds import Kind, parameter_kinds, result_kind
from attnmask.functions.signature import Documentation, docstring, signature
from attnmask.ir.elaborate import Lookup, elaborate
from attnmask.ir.tables import TableData
from attnmask.ir.values import Bound, Function
from attnmask.mask import Mask
from attnmask.score_mod import ScoreMod
from attnmask.syntax import tree

Given = tuple[str | None, Argument]


def make_function(
    function: Function, document: Documentation, *, name: str, module: str, lookup: Lookup = lambda name: None
) -> Callable[..., Any]:
    """A Python function that expands a definition to a Mask or, where it makes scores, to a ScoreMod.

    It raises MaskError, and nothing else, for arguments that do not fit.
    """
    kinds = parameter_kinds(function)
    is_score = result_kind(function) is Kind.SCORE
    called = function.definition.name

    def call(*args: object, **kwargs: object) -> Mask | ScoreMod:
        given: list[Given] = []
        for position, value in enumerate(args):
            to = [*kinds][position] if position < len(kinds) else f"argument {position + 1}"
            given.append((None, to_argument(value, kinds.get(to, Kind.INDEX), to, called)))
        for to, value in kwargs.items():
            given.append((to, to_argument(value, kinds.get(to, Kind.INDEX), to, called)))
        return _score_mod(function, given, lookup) if is_score else _mask(function, given, lookup)

    call.__name__ = call.__qualname__ = name
    call.__module__ = module
    call.__doc__ = docstring(function, document)
    call.__signature__ = signature(function, ScoreMod if is_score else Mask)  # type: ignore[attr-defined]  # for inspect
    return call


def _score_mod(function: Function, given: Sequence[Given], lookup: Lookup) -> ScoreMod:
    mask = _mask(function, given, lookup)
    assert mask.score is not None, "a definition of scores makes one"
    return ScoreMod(mask.score, mask.tables, mask.origins)


def _mask(function: Function, given: Sequence[Given], lookup: Lookup) -> Mask:
    """The mask that a call makes (`all with …` for a score).

    The call is written out and elaborated as text is, so that a fault is told in the same words and shown in
    its place. Its arguments go by names that hold a blank, which no name of the language does.
    """
    name = function.definition.name
    text = f"{name}("
    scope = {name: Bound(function)}
    arguments = []
    for number, (to, argument) in enumerate(given):
        text += f"{', ' if number else ''}{'' if to is None else f'{to}='}"
        span = Span(len(text), len(text) + len(argument.shown))
        text += argument.shown
        scope[f"argument {number}"] = Bound(argument.value)
        arguments.append(tree.Argument(to, tree.Name(f"argument {number}", span), span))
    source, whole = Source(f"{text})"), Span(0, len(text) + 1)
    result: tree.Expr = tree.Call(tree.Name(name, whole), tuple(arguments), whole)
    if result_kind(function) is Kind.SCORE:
        result = tree.With(tree.Truth(True, whole), (result,), whole)
    meaning = elaborate(tree.Program((), result, whole), source, scope, lookup)
    assert meaning.predicate is not None, "a program with a result has a predicate"
    origins = dict(meaning.origins)
    for _, argument in given:
        origins |= {} if argument.mask is None else argument.mask.origins
    return _with_tables(Mask(meaning.predicate, meaning.score, (), origins), given)


def _with_tables(mask: Mask, given: Sequence[Given]) -> Mask:
    """The mask with the tables that its arguments brought along, as far as they still occur in it."""
    tables: dict[str, TableData] = {}
    for _, argument in given:
        for name, data in argument.tables:
            if tables.setdefault(name, data) != data:
                raise MaskError(f"two arguments bind '{name}' to different tables")
    return mask.bind(**{name: data.array for name, data in tables.items() if name in mask.unbound})
