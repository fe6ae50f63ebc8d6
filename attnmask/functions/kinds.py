"""Kinds: what a definition makes of its parameters, and what calls of it are, read off its body."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import Enum
from typing import assert_never

from attnmask.ir.choosing import Takes, Words, choosers
from attnmask.ir.kinds import is_mask, is_score
from attnmask.ir.values import Bound, Function
from attnmask.syntax import tree


class Kind(Enum):
    """The kind of a value or of a parameter."""

    MASK = "mask"
    INDEX = "integer"
    SCORE = "score"
    RANGE = "range"
    TOKENS = "token function"
    FLAGS = "token predicate"
    UNITS = "units"
    AMOUNT = "amount"
    WORD = "word"


ACCEPTS = {
    Kind.MASK: "true or false, or a mask",
    Kind.INDEX: "an integer, or text such as 'h' or 'n[b]'",
    Kind.SCORE: "a number",
    Kind.RANGE: "a range of integers: slice(0, 8) or range(8); or a single one",
    Kind.TOKENS: "a value for each position: a table's name ('doc'), text in i ('i // 64'), or an array",
    Kind.FLAGS: "true or false for each position: text in i ('i < 512'), or an array of booleans",
    Kind.UNITS: "a size, or a number for each position as text in i ('i // 8 % 4'); or a table's name",
    Kind.AMOUNT: "a number, or the name of one (or of one for each head) that is given when the choice is made",
    Kind.WORD: "a word of the language, as text",
}
_TAKES: dict[Takes, Kind] = {
    Takes.UNITS: Kind.UNITS,
    Takes.SIZE: Kind.INDEX,
    Takes.AMOUNT: Kind.AMOUNT,
    Takes.COUNT: Kind.AMOUNT,
    Takes.SHARE: Kind.AMOUNT,
    Takes.SCALE: Kind.AMOUNT,
    Takes.FLAG: Kind.MASK,
    Takes.NAME: Kind.WORD,
    Takes.POOL: Kind.WORD,
    Takes.SCORES: Kind.WORD,
    Takes.MASK: Kind.MASK,
    Takes.CHOICE: Kind.MASK,
    Takes.REACH: Kind.AMOUNT,
}
_SCORE_FUNCTIONS = frozenset({"tanh", "exp", "log"})


def result_kind(function: Function) -> Kind:
    """The kind of value that calls of a definition have."""
    return _kind(function.definition.body, function.frame.bindings, function.definition)


def _kind(node: tree.Expr, scope: Mapping[str, Bound], within: tree.Def) -> Kind:
    match node:
        case tree.Comparison() | tree.Truth() | tree.With() | tree.Index():
            return Kind.MASK
        case tree.Number() | tree.Range():
            return Kind.INDEX
        case tree.Real():
            return Kind.SCORE
        case tree.Name(name):
            return _kind_of_name(name, scope, within)
        case tree.Unary(_, operand):
            return _kind(operand, scope, within)
        case tree.Logic(_, operands):
            kinds = [_kind(operand, scope, within) for operand in operands]
            return Kind.MASK if Kind.MASK in kinds else Kind.INDEX
        case tree.Sum() | tree.Product():
            kinds = [_kind(child, scope, within) for child in tree.children(node)]
            return Kind.SCORE if Kind.SCORE in kinds else kinds[0]
        case tree.Call():
            return _kind_of_call(node, scope, within)
        case _:
            assert_never(node)


def _kind_of_name(name: str, scope: Mapping[str, Bound], within: tree.Def) -> Kind:
    if name == "s":
        return Kind.SCORE
    if name in (parameter.name for parameter in within.parameters) or name not in scope:
        return Kind.INDEX
    value = scope[name].value
    if isinstance(value, Function):
        return result_kind(value)
    if is_mask(value):
        return Kind.MASK
    return Kind.SCORE if is_score(value) else Kind.INDEX


def _kind_of_call(node: tree.Call, scope: Mapping[str, Bound], within: tree.Def) -> Kind:
    name = node.function.name
    if name in _SCORE_FUNCTIONS:
        return Kind.SCORE
    if name == "where" and len(node.arguments) == 3:
        return _kind(node.arguments[1].value, scope, within)
    if name in scope and isinstance(function := scope[name].value, Function):
        return result_kind(function)
    if name in choosers():
        return Kind.MASK
    # What is left is a builtin on integers, or a parameter applied to a position, which alone makes a mask.
    return Kind.MASK if name in (parameter.name for parameter in within.parameters) else Kind.INDEX


def parameter_kinds(function: Function) -> dict[str, Kind]:
    """The kind of argument that each parameter takes, from how the body uses it."""
    definition = function.definition
    used: dict[str, set[Kind]] = {parameter.name: set() for parameter in definition.parameters}
    result = result_kind(function)
    numbers = Kind.SCORE if result is Kind.SCORE else Kind.INDEX
    for name, kind in _uses(definition.body, result, function):
        if name in used:
            used[name].add(kind)
    # A parameter that is used in several ways is known by the most telling one.
    order = (
        Kind.TOKENS,
        Kind.FLAGS,
        Kind.RANGE,
        Kind.UNITS,
        Kind.AMOUNT,
        Kind.WORD,
        Kind.MASK,
        numbers,
    )
    return {name: next((kind for kind in order if kind in kinds), numbers) for name, kinds in used.items()}


def _uses(node: tree.Expr, wanted: Kind, function: Function) -> Iterator[tuple[str, Kind]]:
    """Names below `node` with the kind that their place wants."""
    numbers = Kind.INDEX if wanted is not Kind.SCORE else Kind.SCORE
    match node:
        case tree.Name(name):
            yield name, wanted
        case tree.Comparison(first, rest):
            yield from _uses(first, Kind.INDEX, function)
            for op, operand in rest:
                yield from _uses(operand, Kind.RANGE if op in ("in", "not in") else Kind.INDEX, function)
        case tree.Logic(_, operands):
            for operand in operands:
                yield from _uses(operand, Kind.MASK if wanted is Kind.MASK else numbers, function)
        case tree.Unary("~", operand):
            yield from _uses(operand, wanted, function)
        case tree.Call():
            yield from _uses_of_call(node, wanted, function)
        case _:
            for child in tree.children(node):
                yield from _uses(child, numbers, function)


def _uses_of_call(node: tree.Call, wanted: Kind, function: Function) -> Iterator[tuple[str, Kind]]:
    name = node.function.name
    called = function.frame.bindings.get(name)
    if called is None and name in choosers():
        yield from _uses_of_choosing(node, function)
        return
    yield name, Kind.FLAGS if wanted is Kind.MASK else Kind.TOKENS
    kinds: list[Kind] = []
    if called is not None and isinstance(called.value, Function):
        kinds = list(parameter_kinds(called.value).values())
    elif name == "where":
        kinds = [Kind.MASK, wanted, wanted]
    for position, argument in enumerate(node.arguments):
        kind = kinds[position] if position < len(kinds) else Kind.INDEX
        if argument.name is not None and called is not None and isinstance(called.value, Function):
            kind = parameter_kinds(called.value).get(argument.name, kind)
        yield from _uses(argument.value, kind, function)


def _uses_of_choosing(node: tree.Call, function: Function) -> Iterator[tuple[str, Kind]]:
    """The same below a call of a function that chooses, whose parameters say what they take."""
    chooser = choosers()[node.function.name]
    names = [parameter.name for parameter in chooser.definition.parameters]
    for position, argument in enumerate(node.arguments):
        takes = chooser.takes[argument.name or names[position]]
        kind = Kind.WORD if isinstance(takes, Words) else _TAKES[takes]
        yield from _uses(argument.value, kind, function)
