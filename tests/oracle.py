"""The independent oracle: what a node means for one (b, h, q, k), in plain Python numbers.

Written from the meaning of the nodes and not from `ir/evaluate.py`: one element at a time, integers without
limit, every step that would go wrong is a `Fault`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, assert_never

from attnmask.ir.domain import Domain
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
    Where,
    Xor,
)

Entries = Any  # nested lists of numbers, as numpy's tolist() gives them


class Fault(Exception):
    """An index out of range, a division by zero, or an integer that does not fit into 64 bits."""


@dataclass(frozen=True)
class At:
    """One element of a call: its values of b, h, q, k and of Q, K, B, H; the score there; the tables."""

    variables: Mapping[str, int]
    tables: Mapping[str, Entries]
    score: float = 0.0


def element(domain: Domain, tables: Mapping[str, Entries], b: int, h: int, row: int, k: int) -> At:
    """The element of batch row b, head h, query number `row` and key k; the offset is added to `row`."""
    sizes = {"Q": domain.q_len, "K": domain.kv_len, "B": domain.batch, "H": domain.heads}
    return At({"b": b, "h": h, "q": row + domain.q_offset, "k": k, **sizes}, tables)


def elements(domain: Domain, tables: Mapping[str, Entries]) -> Iterator[At]:
    """Every element of a domain, k fastest and b slowest."""
    for b in range(domain.batch):
        for h in range(domain.heads):
            for row in range(domain.q_len):
                for k in range(domain.kv_len):
                    yield element(domain, tables, b, h, row, k)


def integer(node: Index, at: At) -> int:
    """The value of an index expression; every value on the way to it fits into 64 bits."""
    value = _integer(node, at)
    if not -(2**63) <= value < 2**63:
        raise Fault(f"{value} does not fit into 64 bits")
    return value


def _integer(node: Index, at: At) -> int:
    match node:
        case Const(value):
            return value
        case Var(name):
            return at.variables[name]
        case Add(terms):
            total = 0
            for term in terms:
                total += integer(term, at)
            return total
        case Mul(factors):
            product = 1
            for factor in factors:
                product *= integer(factor, at)
            return product
        case FloorDiv(lhs, rhs):
            return _divide(integer(lhs, at), integer(rhs, at))[0]
        case Mod(lhs, rhs):
            return _divide(integer(lhs, at), integer(rhs, at))[1]
        case Min(args):
            return _best(args, at, lambda new, old: new < old)
        case Max(args):
            return _best(args, at, lambda new, old: new > old)
        case Abs(arg):
            value = integer(arg, at)
            return value if value >= 0 else -value
        case BitOp(op, lhs, rhs):
            return _bits(op, integer(lhs, at), integer(rhs, at))
        case Where(condition, then, other):
            # Both sides are evaluated, so both must be sound.
            both = integer(then, at), integer(other, at)
            return both[0] if holds(condition, at) else both[1]
        case Table(name, indices):
            return int(_entry(name, indices, at))
        case _:
            assert_never(node)


def holds(node: Predicate, at: At) -> bool:
    """Whether a predicate is true at the element. Nothing is skipped: each part must be sound."""
    match node:
        case Truth(value):
            return value
        case Compare(lhs, op, rhs):
            left, right = integer(lhs, at), integer(rhs, at)
            return {"<": left < right, "<=": left <= right, "==": left == right, "!=": left != right}[op]
        case And(args):
            return False not in [holds(arg, at) for arg in args]
        case Or(args):
            return True in [holds(arg, at) for arg in args]
        case Xor(lhs, rhs):
            return holds(lhs, at) != holds(rhs, at)
        case Not(arg):
            return not holds(arg, at)
        case BoolTable(name, indices):
            return bool(_entry(name, indices, at))
        case Choice():
            raise AssertionError("what is chosen is defined in ir.chosen")
        case _:
            assert_never(node)


def real(node: ScoreExpr, at: At) -> float:
    """The value of a score expression, in double precision, with infinities and NaN as in IEEE 754."""
    match node:
        case Score():
            return at.score
        case Real(value):
            return value
        case FromIndex(index):
            return float(integer(index, at))
        case RealTable(name, indices):
            return float(_entry(name, indices, at))
        case Arith(op, lhs, rhs):
            return _arith(op, real(lhs, at), real(rhs, at))
        case Apply(function, arg):
            return _apply(function, real(arg, at))
        case ScoreWhere(condition, then, other):
            return real(then, at) if holds(condition, at) else real(other, at)
        case _:
            assert_never(node)


def value(node: Expr, at: At) -> int | bool | float:
    """The value of any expression."""
    if isinstance(node, Index):
        return integer(node, at)
    return holds(node, at) if isinstance(node, Predicate) else real(node, at)


def fault_anywhere(node: Expr, domain: Domain, tables: Mapping[str, Entries]) -> bool:
    """Whether evaluation goes wrong at some element."""
    return any(_fails(node, at) for at in elements(domain, tables))


def _fails(node: Expr, at: At) -> bool:
    try:
        value(node, at)
    except Fault:
        return True
    return False


def _divide(number: int, divisor: int) -> tuple[int, int]:
    """The quotient rounded down, and the remainder, which has the sign of the divisor."""
    if divisor == 0:
        raise Fault("division by zero")
    quotient = abs(number) // abs(divisor)
    if (number < 0) != (divisor < 0):
        quotient = -quotient - (1 if abs(number) % abs(divisor) else 0)
    return quotient, number - quotient * divisor


def _best(args: tuple[Index, ...], at: At, better: Callable[[int, int], bool]) -> int:
    found = integer(args[0], at)
    for arg in args[1:]:
        candidate = integer(arg, at)
        if better(candidate, found):
            found = candidate
    return found


def _bits(op: str, left: int, right: int) -> int:
    """Bit by bit over 64 bits of two's complement."""
    total = 0
    for place in range(64):
        pair = (left >> place) & 1, (right >> place) & 1
        bit = {"&": pair == (1, 1), "|": pair != (0, 0), "^": pair[0] != pair[1]}[op]
        total += int(bit) << place
    return total - (1 << 64) if total >= 1 << 63 else total


def _entry(name: str, indices: tuple[Index, ...], at: At) -> Any:
    found = at.tables[name]
    for item in indices:
        position = integer(item, at)
        if not 0 <= position < len(found):
            raise Fault(f"entry {position} of {len(found)}")
        found = found[position]
    return found


def _arith(op: str, left: float, right: float) -> float:
    match op:
        case "+":
            return left + right
        case "-":
            return left - right
        case "*":
            return left * right
    if right == 0:
        return math.nan if left == 0 or math.isnan(left) else math.copysign(math.inf, left)
    return left / right


def _apply(function: str, arg: float) -> float:
    match function:
        case "tanh":
            return math.tanh(arg)
        case "exp":
            return math.inf if arg > 709.7 else math.exp(arg)
    if arg < 0 or math.isnan(arg):
        return math.nan
    return -math.inf if arg == 0 else math.log(arg)
