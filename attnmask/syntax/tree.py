"""The syntax tree: what the parser makes of a text, before names mean anything."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from attnmask.errors import Span

CompareOp = Literal["<", "<=", ">", ">=", "==", "!=", "in", "not in"]
LogicOp = Literal["&", "^", "|"]


@dataclass(frozen=True, slots=True)
class Number:
    value: int
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Real:
    """A number with a decimal point; it has a meaning in scores only."""

    value: float
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Name:
    """A plain name, or a dotted one such as `zoo.longformer`."""

    name: str
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Truth:
    value: bool
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Unary:
    op: Literal["-", "~"]
    operand: Expr
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Sum:
    """`terms[0][1] ± terms[1][1] ± …`; the first sign is always +."""

    terms: tuple[tuple[Literal["+", "-"], Expr], ...]
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Product:
    first: Expr
    rest: tuple[tuple[Literal["*", "//", "%", "/"], Expr], ...]
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Comparison:
    """A chain as in Python: `a < b <= c` means `a < b & b <= c`."""

    first: Expr
    rest: tuple[tuple[CompareOp, Expr], ...]
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Logic:
    op: LogicOp
    operands: tuple[Expr, ...]
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Range:
    """A half-open slice `low:high`, either end of which may be open."""

    low: Expr | None
    high: Expr | None
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Argument:
    name: str | None
    value: Expr
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Call:
    function: Name
    arguments: tuple[Argument, ...]
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Index:
    table: Name
    indices: tuple[Expr, ...]
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class With:
    """A mask together with score modifications, applied in order."""

    mask: Expr
    scores: tuple[Expr, ...]
    span: Span = field(compare=False)


Expr = Number | Real | Name | Truth | Unary | Sum | Product | Comparison | Logic | Range | Call | Index | With


@dataclass(frozen=True, slots=True)
class Parameter:
    name: str
    default: Expr | None
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Let:
    name: str
    value: Expr
    span: Span = field(compare=False)


@dataclass(frozen=True, slots=True)
class Def:
    name: str
    parameters: tuple[Parameter, ...]
    body: Expr
    span: Span = field(compare=False)


Statement = Let | Def


@dataclass(frozen=True, slots=True)
class Program:
    """Statements and, last, the expression that is the mask (None in a file of definitions)."""

    statements: tuple[Statement, ...]
    result: Expr | None
    span: Span = field(compare=False)


def children(node: Expr | Argument) -> tuple[Expr, ...]:
    """The expressions directly below `node`, left to right."""
    match node:
        case Number() | Real() | Name() | Truth():
            return ()
        case Unary(_, operand):
            return (operand,)
        case Sum(terms):
            return tuple(term for _, term in terms)
        case Product(first, rest) | Comparison(first, rest):
            return (first, *(term for _, term in rest))
        case Logic(_, operands):
            return operands
        case Range(low, high):
            return tuple(end for end in (low, high) if end is not None)
        case Argument(_, value):
            return (value,)
        case Call(_, arguments):
            return tuple(argument.value for argument in arguments)
        case Index(_, indices):
            return indices
        case With(mask, scores):
            return (mask, *scores)


def use_of(name: str, body: Expr) -> Expr | None:
    """Where a name is called or used in an expression; None where it is not."""
    stack: list[Expr] = [body]
    while stack:
        item = stack.pop()
        if isinstance(item, Call) and item.function.name == name:
            return item.function
        if isinstance(item, Name) and item.name == name:
            return item
        stack.extend(children(item))
    return None
