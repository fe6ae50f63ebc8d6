"""Walking expressions: children, topological order, substitution. Nothing here recurses."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeVar, assert_never, cast

from attnmask.ir import index, predicate, score
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


def children(node: Expr) -> tuple[Expr, ...]:
    """The expressions directly below `node`, left to right."""
    match node:
        case Const() | Var() | Truth() | Score() | Real():
            return ()
        case Add(parts) | Mul(parts) | Min(parts) | Max(parts) | And(parts) | Or(parts):
            return parts
        case Table(_, indices) | BoolTable(_, indices) | RealTable(_, indices):
            return indices
        case FloorDiv(lhs, rhs) | Mod(lhs, rhs) | Xor(lhs, rhs):
            return lhs, rhs
        case BitOp(_, lhs, rhs) | Compare(lhs, _, rhs) | Arith(_, lhs, rhs):
            return lhs, rhs
        case Abs(arg) | Not(arg) | Apply(_, arg) | FromIndex(arg):
            return (arg,)
        case Where(condition, then, other) | ScoreWhere(condition, then, other):
            return condition, then, other
        case Choice(_, q_unit, k_unit, among, count):
            return (q_unit, k_unit, count) if among is None else (q_unit, k_unit, count, among)
        case _:
            assert_never(node)


@lru_cache(maxsize=1024)
def postorder(*roots: Expr) -> tuple[Expr, ...]:
    """Every distinct node at or below the roots, children before parents."""
    order: dict[Expr, None] = {}
    stack: list[tuple[Expr, bool]] = [(root, False) for root in reversed(roots)]
    while stack:
        node, expanded = stack.pop()
        if node in order:
            continue
        if expanded:
            order[node] = None
        else:
            stack.append((node, True))
            stack.extend((child, False) for child in reversed(children(node)) if child not in order)
    return tuple(order)


def rebuild(node: Expr, parts: Sequence[Any]) -> Expr:
    """`node` with other children, made by the smart constructors (so it may come out simpler)."""
    match node:
        case Const() | Var() | Truth() | Score() | Real():
            return node
        case Add():
            return index.add(*parts)
        case Mul():
            product = index.mul(parts[0], parts[1])
            for factor in parts[2:]:
                product = index.mul(product, factor)
            return product
        case FloorDiv():
            return index.floordiv(*parts)
        case Mod():
            return index.mod(*parts)
        case Min():
            return index.minimum(*parts)
        case Max():
            return index.maximum(*parts)
        case Abs():
            return index.absolute(*parts)
        case BitOp(op):
            return index.bitop(op, *parts)
        case Where():
            return predicate.where(*parts)
        case Table(name):
            return index.table(name, parts)
        case Compare(_, op):
            return predicate.compare(parts[0], op, parts[1])
        case And():
            return predicate.and_(*parts)
        case Or():
            return predicate.or_(*parts)
        case Xor():
            return predicate.xor(*parts)
        case Not():
            return predicate.not_(*parts)
        case BoolTable(name):
            return predicate.bool_table(name, parts)
        case Choice(rule):
            q_unit, k_unit, count, *among = parts
            return predicate.choice(rule, q_unit, k_unit, among[0] if among else None, count)
        case FromIndex():
            return score.from_index(*parts)
        case RealTable(name):
            return score.real_table(name, parts)
        case Arith(op):
            return score.arith(op, *parts)
        case Apply(function):
            return score.apply(function, *parts)
        case ScoreWhere():
            return score.score_where(*parts)
        case _:
            assert_never(node)


E = TypeVar("E", Predicate, ScoreExpr, Index)


def transform(root: E, change: Callable[[Expr], Expr]) -> E:
    """`root` with every node rebuilt over its changed children and then given to `change`."""
    done: dict[Expr, Expr] = {}
    for node in postorder(root):
        done[node] = change(rebuild(node, [done[child] for child in children(node)]))
    return cast(E, done[root])


def substitute(root: E, replacement: Mapping[Expr, Expr]) -> E:
    """`root` with each node that is a key replaced by its value (which is of the same kind)."""
    return transform(root, lambda node: replacement.get(node, node))


def variables(root: Expr) -> frozenset[VarName]:
    """The names of the variables that occur in `root`."""
    return frozenset(node.name for node in postorder(root) if isinstance(node, Var))


def table_names(*roots: Expr) -> tuple[str, ...]:
    """The names of the tables that occur in the roots, sorted."""
    cells = (node for node in postorder(*roots) if isinstance(node, Table | BoolTable | RealTable))
    return tuple(sorted({cell.name for cell in cells}))
