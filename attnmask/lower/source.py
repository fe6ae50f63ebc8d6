"""Generated source: `mask_mod` and `score_mod` as Python text that needs torch and nothing of attnmask.

The text is a factory: tables and the constants of the call are its parameters, so one text (and one code
object) serves every mask of one structure, and torch.compile does not recompile when only tables change.
This module writes text and does not import torch.
"""

from __future__ import annotations

import keyword
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import assert_never

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
    Predicate,
    Real,
    RealTable,
    Score,
    ScoreExpr,
    ScoreWhere,
    Table,
    Truth,
    Var,
    VarName,
    Where,
    Xor,
)
from attnmask.ir.text import print_sum
from attnmask.ir.walk import children, postorder, variables

# Python's precedence, tightest last. Bitwise operators bind tighter than comparisons there.
_COMPARE, _OR, _XOR, _AND, _SUM, _PRODUCT, _UNARY, _ATOM = range(8)
# Deeper expressions are cut into statements: Python's own parser limits nesting.
_DEEPEST = 20
_TAKEN = frozenset(keyword.kwlist) | {
    *"bhqksQKBH",
    "torch",
    "build",
    "mask_mod",
    "score_mod",
    "q_offset",
    # Names of a standalone file.
    "q_len",
    "kv_len",
    "batch",
    "heads",
    "device",
    "block_mask",
    "build_mask",
    "build_score",
    "create_block_mask",
}
_LOCAL = re.compile("t[0-9]+")  # names of intermediate values


@dataclass(frozen=True, slots=True)
class Source:
    """The text of a factory `build(...)`, and what its parameters stand for.

    `tables` maps parameter to table name, `sizes` names the constants of the call (Q, K, B, H) that it takes;
    `q_offset` is a parameter exactly when `offset` is set. `wide`: positions are taken as int64.
    """

    text: str
    tables: tuple[tuple[str, str], ...]
    sizes: tuple[str, ...]
    offset: bool
    wide: bool

    @property
    def parameters(self) -> tuple[str, ...]:
        return (*(parameter for parameter, _ in self.tables), *self.sizes, *(("q_offset",) * self.offset))


@lru_cache(maxsize=256)
def mask_source(root: Predicate, *, wide: bool = False, offset: bool = False) -> Source:
    """Source of `build(...) -> mask_mod(b, h, q, k)`, a bool tensor from four integer tensors."""
    return _factory((root,), "mask_mod", "b, h, q, k", wide, offset)


@lru_cache(maxsize=256)
def score_source(root: ScoreExpr, *, wide: bool = False, offset: bool = False) -> Source:
    """Source of `build(...) -> score_mod(s, b, h, q, k)`, a float tensor."""
    return _factory((root,), "score_mod", "s, b, h, q, k", wide, offset)


@lru_cache(maxsize=256)
def values_source(roots: tuple[Index | Predicate, ...]) -> Source:
    """Source of `build(...) -> values(b, h, q, k)`, the tuple of the roots' values, shared parts worked out once."""
    return _factory(roots, "values", "b, h, q, k", False, False, many=True)


def _factory(
    roots: tuple[Expr, ...], name: str, arguments: str, wide: bool, offset: bool, many: bool = False
) -> Source:
    used = frozenset[VarName]().union(*(variables(root) for root in roots))
    tables = tuple(_parameters(_tables_in_order(roots)))
    sizes = tuple(size for size in "QKBH" if size in used)
    offset = offset and "q" in used
    lines = [f"{var} = {var}.to(torch.int64)" for var in "bhqk" if wide and var in used]
    if offset:
        lines.append("q = q + q_offset")
    statements, results = _statements(roots, {table: parameter for parameter, table in tables})
    if isinstance(roots[0], Real):  # a function must return a tensor
        results = [f"torch.full_like(s, {results[0]})"]
    lines += [*statements, f"return ({', '.join(results)},)" if many else f"return {results[0]}"]
    source = Source("", tables, sizes, offset, wide)
    body = "".join(f"        {line}\n" for line in lines)
    head = f"def build({', '.join(source.parameters)}):\n    def {name}({arguments}):\n"
    text = f"{head}{body}\n    return {name}\n"
    return Source(text, tables, sizes, offset, wide)


def _tables_in_order(roots: tuple[Expr, ...]) -> tuple[str, ...]:
    """The names of the tables, as they first come up in the text: files are called with them in this order."""
    cells = (node for node in postorder(*roots) if isinstance(node, Table | BoolTable | RealTable))
    return tuple(dict.fromkeys(cell.name for cell in cells))


def _parameters(tables: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    """A parameter for each table: its name, changed where Python or the text has another use for that."""
    taken = set(_TAKEN)
    for table in tables:
        parameter = f"table{table}" if table.startswith("__") else table
        while parameter in taken or _LOCAL.fullmatch(parameter):
            parameter += "_"
        taken.add(parameter)
        yield parameter, table


def _statements(roots: tuple[Expr, ...], tables: Mapping[str, str]) -> tuple[list[str], list[str]]:
    """Assignments for parts that are used twice or nested deeply, and the texts of the roots."""
    order = postorder(*roots)
    uses = Counter([*roots, *(child for node in order for child in set(children(node)))])
    written: dict[Expr, tuple[str, int]] = {}
    depth: dict[Expr, int] = {}
    lines: list[str] = []
    for node in order:
        text = _write(node, written, tables)
        depth[node] = 1 + max((depth[child] for child in children(node)), default=0)
        shared = uses[node] > 1 and depth[node] > 2
        if shared or (node not in roots and depth[node] > _DEEPEST):
            lines.append(f"t{len(lines)} = {text[0]}")
            text, depth[node] = (f"t{len(lines) - 1}", _ATOM), 1
        written[node] = text
    return lines, [written[root][0] for root in roots]


def _write(node: Expr, written: Mapping[Expr, tuple[str, int]], tables: Mapping[str, str]) -> tuple[str, int]:
    """The text of one node and how tightly it binds."""

    def at(child: Expr, tightness: int) -> str:
        text, own = written[child]
        return text if own >= tightness else f"({text})"

    def joined(operator: str, parts: tuple[Expr, ...], tightness: int) -> str:
        return operator.join(at(part, tightness) for part in parts)

    match node:
        case Const(value):
            return str(value), _ATOM if value >= 0 else _UNARY
        case Var(name):
            return name, _ATOM
        case Truth(value):
            return f"q.new_{'ones' if value else 'zeros'}((), dtype=torch.bool)", _ATOM
        case Add(terms):
            return print_sum(terms, at, _PRODUCT, _UNARY), _SUM
        case Mul((Const(-1), factor)):
            return f"-{at(factor, _UNARY)}", _UNARY
        case Mul(factors):
            return joined(" * ", factors, _UNARY), _PRODUCT
        case FloorDiv(lhs, rhs):
            return f"{at(lhs, _PRODUCT)} // {at(rhs, _UNARY)}", _PRODUCT
        case Mod(lhs, rhs):
            return f"{at(lhs, _PRODUCT)} % {at(rhs, _UNARY)}", _PRODUCT
        case Min(args):
            return _write_extreme("min", args, written), _ATOM
        case Max(args):
            return _write_extreme("max", args, written), _ATOM
        case Abs(arg):
            return f"{at(arg, _ATOM)}.abs()", _ATOM
        case BitOp(op, lhs, rhs):
            tightness = {"&": _AND, "^": _XOR, "|": _OR}[op]
            return f"{at(lhs, tightness)} {op} {at(rhs, tightness + 1)}", tightness
        case Where(condition, then, other) | ScoreWhere(condition, then, other):
            return f"torch.where({joined(', ', (condition, then, other), _COMPARE)})", _ATOM
        case Table(name, ()) | BoolTable(name, ()):
            return tables[name], _ATOM  # a setting without a value yet, or what is known of a tile
        case RealTable(name, ()):
            return f"{tables[name]}.to(torch.float32)", _ATOM
        case Table(name, indices) | BoolTable(name, indices):
            return f"{tables[name]}[{joined(', ', indices, _COMPARE)}]", _ATOM
        case RealTable(name, indices):
            return f"{tables[name]}[{joined(', ', indices, _COMPARE)}].to(torch.float32)", _ATOM
        case Compare(lhs, op, rhs):
            return f"{at(lhs, _OR)} {op} {at(rhs, _OR)}", _COMPARE
        case And(args):
            return joined(" & ", args, _AND), _AND
        case Or(args):
            return joined(" | ", args, _OR), _OR
        case Xor(lhs, rhs):
            return f"{at(lhs, _XOR)} ^ {at(rhs, _AND)}", _XOR
        case Not(arg):
            return f"~{at(arg, _UNARY)}", _UNARY
        case Score():
            return "s", _ATOM
        case Real(value):
            return repr(value), _ATOM if value >= 0 else _UNARY
        case FromIndex(inner):
            # Sums and products go on in floats: in integers they could overflow.
            return f"{at(inner, _ATOM)}.to(torch.float32)", _ATOM
        case Arith(op, lhs, rhs):
            own, right = (_SUM, _PRODUCT) if op in "+-" else (_PRODUCT, _UNARY)
            return f"{at(lhs, own)} {op} {at(rhs, right)}", own
        case Apply(function, inner_score):
            return f"torch.{function}({at(inner_score, _COMPARE)})", _ATOM
        case Choice():
            raise AssertionError("choices are given their meaning beforehand")
        case _:
            assert_never(node)


def _write_extreme(which: str, args: tuple[Index, ...], written: Mapping[Expr, tuple[str, int]]) -> str:
    """A constant bound is a clamp; tensors are compared pair by pair."""
    *tensors, last = args
    if not isinstance(last, Const):
        tensors.append(last)
    text, tightness = written[tensors[0]]
    for tensor in tensors[1:]:
        text, tightness = f"torch.{which}imum({text}, {written[tensor][0]})", _ATOM
    if not isinstance(last, Const):
        return text
    # The larger of x and a constant is x clamped from below.
    side = "max" if which == "min" else "min"
    return f"{text if tightness == _ATOM else f'({text})'}.clamp({side}={last.value})"
