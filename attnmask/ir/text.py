"""Printing: IR to text of the language, with the fewest brackets, shared parts named when that is shorter."""

from __future__ import annotations

from collections import ChainMap, Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import assert_never

from attnmask.ir.choosing_text import choice_text
from attnmask.ir.index import split_coefficient
from attnmask.ir.nodes import (
    Abs,
    Add,
    And,
    Apply,
    Arith,
    BitOp,
    BoolTable,
    Choice,
    Compare,
    Const,
    Expr,
    FloorDiv,
    FromIndex,
    Index,
    Max,
    Min,
    Mod,
    Mul,
    Not,
    Or,
    Real,
    RealTable,
    Score,
    ScoreWhere,
    Table,
    Truth,
    Var,
    Where,
    Xor,
)
from attnmask.ir.walk import children, postorder, table_names

# How tightly an operator binds; an operand that binds less tightly than its place needs brackets.
_OR, _XOR, _AND, _COMPARE, _SUM, _PRODUCT, _UNARY, _ATOM = range(8)
_LONGEST = 2000
_DEEPEST = 40

Printed = tuple[str, int]


def to_text(root: Expr) -> str:
    """The expression in the language; long ones with shared parts become `let` lines and a result."""
    order = postorder(root)
    depth: dict[Expr, int] = {}
    for node in order:
        depth[node] = 1 + max((depth[child] for child in children(node)), default=0)
    if depth[root] <= _DEEPEST and _printed_size(order)[root] <= _LONGEST:
        return _print_all(order, frozenset())[root][0]
    uses = Counter(child for node in order for child in children(node))
    # Parts used twice are named, and every so often one on a deep path, which keeps brackets few.
    cuts = frozenset(node for node in order if depth[node] % _DEEPEST == 0)
    shared = cuts | frozenset(node for node in order if uses[node] > 1 and children(node))
    printed = _print_all(order, shared)
    lines = [f"let {name} = {printed[node][0]}" for node, name in _names(order, shared).items()]
    return "\n".join([*lines, printed[root][0]])


def _names(order: Sequence[Expr], shared: frozenset[Expr]) -> dict[Expr, str]:
    """Names for shared parts that no table has."""
    taken = set(table_names(*order))
    free = (f"t{number}" for number in count(1) if f"t{number}" not in taken)
    return dict(zip((node for node in order if node in shared), free, strict=False))


def _printed_size(order: Sequence[Expr]) -> dict[Expr, int]:
    """The number of nodes that each expression has when written out as a tree."""
    size: dict[Expr, int] = {}
    for node in order:
        size[node] = 1 + sum(size[child] for child in children(node))
    return size


def _print_all(order: Sequence[Expr], shared: frozenset[Expr]) -> dict[Expr, Printed]:
    names = {node: (name, _ATOM) for node, name in _names(order, shared).items()}
    printed: dict[Expr, Printed] = {}
    for node in order:
        printed[node] = _print_one(node, ChainMap(names, printed))
    return printed


def _print_one(node: Expr, operands: Mapping[Expr, Printed]) -> Printed:
    def at(child: Expr, tightness: int) -> str:
        text, own = operands[child]
        return text if own >= tightness else f"({text})"

    def joined(separator: str, parts: tuple[Expr, ...], tightness: int) -> str:
        return separator.join(at(part, tightness) for part in parts)

    match node:
        case Const(value):
            return str(value), _ATOM if value >= 0 else _UNARY
        case Var(name):
            return name, _ATOM
        case Truth(value):
            return "all" if value else "none", _ATOM
        case Add(terms):
            return print_sum(terms, at, _PRODUCT, _UNARY), _SUM
        case Mul((Const(-1), *rest)):
            return "-" + joined(" * ", tuple(rest), _UNARY), _UNARY if len(rest) == 1 else _PRODUCT
        case Mul(factors):
            return joined(" * ", factors, _UNARY), _PRODUCT
        case FloorDiv(lhs, rhs):
            return f"{at(lhs, _PRODUCT)} // {at(rhs, _UNARY)}", _PRODUCT
        case Mod(lhs, rhs):
            return f"{at(lhs, _PRODUCT)} % {at(rhs, _UNARY)}", _PRODUCT
        case Min(args):
            return f"min({joined(', ', args, _OR)})", _ATOM
        case Max(args):
            return f"max({joined(', ', args, _OR)})", _ATOM
        case Abs(arg):
            return f"abs({at(arg, _OR)})", _ATOM
        case BitOp(op, lhs, rhs):
            tightness = {"&": _AND, "^": _XOR, "|": _OR}[op]
            left = at(lhs, tightness)
            if isinstance(lhs, Table) and isinstance(rhs, Table):
                left += " + 0"  # two bare entries would be read as truth values
            return f"{left} {op} {at(rhs, tightness + 1)}", tightness
        case Where(condition, then, other) | ScoreWhere(condition, then, other):
            return f"where({joined(', ', (condition, then, other), _OR)})", _ATOM
        case Table(name, indices) | BoolTable(name, indices) | RealTable(name, indices):
            return f"{name}[{joined(', ', indices, _OR)}]" if indices else name, _ATOM
        case Compare(lhs, op, rhs):
            return f"{at(lhs, _SUM)} {op} {at(rhs, _SUM)}", _COMPARE
        case And(args):
            return joined(" & ", args, _COMPARE), _AND
        case Xor(lhs, rhs):
            return f"{at(lhs, _XOR)} ^ {at(rhs, _AND)}", _XOR
        case Or(args):
            return joined(" | ", args, _XOR), _OR
        case Not(arg):
            return f"~{at(arg, _UNARY)}", _UNARY
        case Choice():
            # Its parts are printed apart: units go by the placeholder i.
            return choice_text(
                node, lambda part: operands[part][0] if part in operands else to_text(part)
            ), _ATOM
        case Score():
            return "s", _ATOM
        case Real(number):
            return _print_real(number), _ATOM if number >= 0 else _UNARY
        case FromIndex(inner):
            return operands[inner]
        case Arith(op, lhs, rhs):
            own, right = (_SUM, _PRODUCT) if op in "+-" else (_PRODUCT, _UNARY)
            return f"{at(lhs, own)} {op} {at(rhs, right)}", own
        case Apply(function, inner_score):
            return f"{function}({at(inner_score, _OR)})", _ATOM
        case _:
            assert_never(node)


def print_sum(terms: tuple[Index, ...], at: Callable[[Expr, int], str], product: int, unary: int) -> str:
    """Positive terms first, so that `-k + q` reads `q - k`. `at` prints an operand for a place of that tightness."""
    text = ""
    for term in sorted(terms, key=lambda term: split_coefficient(term)[0] < 0):
        factor, _ = split_coefficient(term)
        if factor >= 0:
            shown = at(term, product)
            # A term may begin with a sign of its own, as (-q) // 2 does.
            shown = f"({shown})" if text and shown.startswith("-") else shown
            text = f"{text} + {shown}" if text else shown
            continue
        match term:
            case Mul((Const(-1), base)):
                text = (
                    f"{text} - {at(base, unary if not text else product)}" if text else f"-{at(base, unary)}"
                )
            case _:
                # A term with a name of its own (`t0`) shows no sign.
                shown = at(term, product)
                if not text:
                    text = shown
                else:
                    text += f" - {shown[1:]}" if shown.startswith("-") else f" + {shown}"
    return text


def _print_real(number: float) -> str:
    return repr(number)


def one_line(text: str, longest: int) -> str:
    """The text of a mask on one line of at most `longest` characters: no comments, no control characters."""
    parts = (" ".join(line.partition("#")[0].split()) for line in text.splitlines())
    line = "; ".join(part for part in parts if part)
    line = "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in line)
    return line if len(line) <= longest else line[: longest - 3] + "..."
