"""Constructors of index expressions, which keep the cheap laws of arithmetic always true.

Sums are collected (`q + q - k` is `2*q - k`), constants are folded, products distribute over sums when one
factor is constant; so an affine expression has one form.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Sequence

from attnmask.errors import MaskError
from attnmask.ir.nodes import (
    Abs,
    Add,
    BitOp,
    BitOpName,
    Const,
    FloorDiv,
    Index,
    Max,
    Min,
    Mod,
    Mul,
    Table,
    Var,
    VarName,
    make,
)

MOST_PARTS = 256
INT64 = range(-(2**63), 2**63)


def const(value: int) -> Const:
    """MaskError past int64, the widest integer that kernels compute with."""
    number = operator.index(value)  # ranges look through all of their members for integers of numpy
    if number not in INT64:
        raise MaskError("a constant of the mask does not fit into 64 bits")
    return make(Const, number)


def _limit(number: int, what: str, parts: str) -> None:
    """Shared parts are written out in sums and products, so these could grow beyond all measure."""
    if number > MOST_PARTS:
        raise MaskError(f"a {what} has more than {MOST_PARTS} {parts}", hint="put the values into a table")


def var(name: VarName) -> Var:
    return make(Var, name)


def table(name: str, indices: Sequence[Index]) -> Table:
    return make(Table, name, tuple(indices))


def split_coefficient(term: Index) -> tuple[int, Index | None]:
    """`3*q*k` → (3, q*k); a constant has no base."""
    match term:
        case Const(value):
            return value, None
        case Mul((Const(value), *rest)):
            return value, rest[0] if len(rest) == 1 else make(Mul, tuple(rest))
        case _:
            return 1, term


def add(*terms: Index) -> Index:
    total = 0
    coefficients: dict[Index, int] = {}
    for term in terms:
        for part in term.terms if isinstance(term, Add) else (term,):
            factor, base = split_coefficient(part)
            if base is None:
                total += factor
            else:
                coefficients[base] = coefficients.get(base, 0) + factor
    kept = [_scaled(factor, base) for base, factor in coefficients.items() if factor]
    _limit(len(kept), "sum", "terms")
    if total or not kept:
        kept.append(const(total))
    return kept[0] if len(kept) == 1 else make(Add, tuple(kept))


def _scaled(factor: int, base: Index) -> Index:
    if factor == 1:
        return base
    return make(Mul, (const(factor), *(base.factors if isinstance(base, Mul) else (base,))))


def mul(*factors: Index) -> Index:
    constant = 1
    rest: list[Index] = []
    for factor in factors:
        for part in factor.factors if isinstance(factor, Mul) else (factor,):
            if isinstance(part, Const):
                constant *= part.value
            else:
                rest.append(part)
    _limit(len(rest), "product", "factors")
    if constant == 0 or not rest:
        return const(constant)
    if len(rest) == 1 and isinstance(rest[0], Add):
        return add(*(mul(const(constant), term) for term in rest[0].terms))
    return _scaled(constant, rest[0] if len(rest) == 1 else make(Mul, tuple(rest)))


def is_affine(node: Index) -> bool:
    """A sum of multiples of variables and a constant: its bounds are those of its terms, and are reached."""
    terms = node.terms if isinstance(node, Add) else (node,)
    return all(isinstance(split_coefficient(term)[1], Var | None) for term in terms)


def neg(arg: Index) -> Index:
    return mul(const(-1), arg)


def sub(lhs: Index, rhs: Index) -> Index:
    return add(lhs, neg(rhs))


def floordiv(lhs: Index, rhs: Index) -> Index:
    match lhs, rhs:
        case _, Const(0):
            raise MaskError("division by zero", hint="divide by at least 1")
        case Const(a), Const(b):
            return const(a // b)
        case _, Const(1):
            return lhs
        case FloorDiv(inner, Const(first)), Const(second) if (
            first > 0 and second > 0 and first * second in INT64
        ):
            return floordiv(inner, const(first * second))
    return make(FloorDiv, lhs, rhs)


def mod(lhs: Index, rhs: Index) -> Index:
    match lhs, rhs:
        case _, Const(0):
            raise MaskError("division by zero", hint="divide by at least 1")
        case Const(a), Const(b):
            return const(a % b)
        case _, Const(1 | -1):
            return const(0)
    return make(Mod, lhs, rhs)


def minimum(*args: Index) -> Index:
    return _extreme(Min, min, args)


def maximum(*args: Index) -> Index:
    return _extreme(Max, max, args)


def _extreme(
    kind: type[Min] | type[Max], choose: Callable[[Iterable[int]], int], args: Sequence[Index]
) -> Index:
    flat = [part for arg in args for part in (arg.args if isinstance(arg, kind) else (arg,))]
    constants = [part.value for part in flat if isinstance(part, Const)]
    rest: list[Index] = list(dict.fromkeys(part for part in flat if not isinstance(part, Const)))
    if constants:
        rest.append(const(choose(constants)))
    return rest[0] if len(rest) == 1 else make(kind, tuple(rest))


def absolute(arg: Index) -> Index:
    match arg:
        case Const(value):
            return const(abs(value))
        case Abs():
            return arg
    return make(Abs, arg)


def bitop(op: BitOpName, lhs: Index, rhs: Index) -> Index:
    match op, lhs, rhs:
        case "&", Const(a), Const(b):
            return const(a & b)
        case "|", Const(a), Const(b):
            return const(a | b)
        case "^", Const(a), Const(b):
            return const(a ^ b)
        case _, Const(), _:
            return bitop(op, rhs, lhs)
        case "&", _, Const(low) if low >= 0 and low & (low + 1) == 0:
            return mod(lhs, const(low + 1)) if low + 1 in INT64 else make(BitOp, op, lhs, rhs)
    return make(BitOp, op, lhs, rhs)
