"""Predicates of few atoms, whose parts have much to say of one another: what laws are for.

The strategies of `tests.strategies` draw expressions of every form; two of their comparisons are rarely of one
sum. Here integers come from a short list, constants are small, and atoms come again and again.
"""

from __future__ import annotations

from typing import Literal

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from attnmask.ir.index import absolute, add, const, floordiv, maximum, minimum, mod, mul, neg, sub, table, var
from attnmask.ir.nodes import Compare, CompareOp, Index, Predicate
from attnmask.ir.predicate import and_, bool_table, compare, not_, or_, where, xor

_Q, _K, _H, _B = var("q"), var("k"), var("h"), var("b")
_SHORT: tuple[Index, ...] = (
    _Q,
    _K,
    sub(_Q, _K),
    sub(_K, _Q),
    table("doc", [_Q]),
    table("doc", [_K]),
    table("odd", [_K]),
)
_PLAIN: tuple[Index, ...] = (*_SHORT, _H, _B, var("K"), var("Q"), var("H"), add(_Q, _K), mul(_Q, _K))
_LIVE = (bool_table("live", [_Q]), bool_table("live", [_K]))
_ENTRIES = (*_LIVE, *(not_(entry) for entry in _LIVE))
_constants = st.sampled_from([-5, -4, -3, -2, -1, 0, 0, 1, 1, 2, 3, 4, 5, 8])
_divisors = st.sampled_from([1, 2, 2, 3, 4, 4, 6, 8])
_ops: SearchStrategy[CompareOp | Literal[">", ">="]] = st.sampled_from(["<", "<=", ">", ">=", "==", "!="])


@st.composite
def integers(draw: DrawFn, depth: int = 2) -> Index:
    """One of the short list, or something simple of these."""
    if depth == 0:
        return draw(st.sampled_from(_PLAIN if draw(st.integers(0, 3)) == 0 else _SHORT))
    one = draw(integers(depth=depth - 1))
    match draw(st.integers(0, 13)):
        case 0:
            return floordiv(one, const(draw(_divisors)))
        case 1:
            return mod(one, const(draw(_divisors)))
        case 2:
            divisor = const(draw(_divisors))
            whole, rest = mul(divisor, floordiv(one, divisor)), mod(one, divisor)
            return add(whole, rest) if draw(st.booleans()) else sub(one, whole)
        case 3:
            return absolute(one)
        case 4 | 5:
            other = draw(integers(depth=0)) if draw(st.booleans()) else const(draw(_constants))
            return draw(st.sampled_from([minimum, maximum]))(one, other)
        case 6:
            other = draw(integers(depth=0))
            return sub(maximum(one, other), minimum(one, other))
        case 7:
            return where(draw(conditions()), const(draw(_constants)), const(draw(_constants)))
        case 8:
            other = draw(
                st.sampled_from([neg(one), add(one, const(draw(_constants))), draw(integers(depth=0))])
            )
            return where(draw(conditions()), one, other)
        case 9:
            return mul(where(draw(conditions()), const(1), const(0)), one)
        case 10:
            return add(mul(const(draw(_divisors)), one), draw(integers(depth=0)))
        case 11:
            return add(one, const(draw(_constants)))
        case _:
            return one


def conditions() -> SearchStrategy[Predicate]:
    short = st.sampled_from(_SHORT)
    return st.one_of(
        st.builds(compare, short, _ops, st.one_of(_constants.map(const), short)), st.sampled_from(_ENTRIES)
    )


@st.composite
def atoms(draw: DrawFn) -> Predicate:
    if draw(st.integers(0, 3)) == 0:
        return draw(conditions())
    one = draw(integers())
    match draw(st.integers(0, 3)):
        case 0:
            other = draw(integers())
        case 1:
            other = add(draw(st.sampled_from(_SHORT)), const(draw(_constants)))
        case _:
            other = const(draw(_constants))
    return compare(one, draw(_ops), other)


@st.composite
def entangled(draw: DrawFn, depth: int = 3) -> Predicate:
    """Boolean combinations of a few atoms, of neighbours of these (another constant), and of their complements."""
    pool = [draw(atoms()) for _ in range(draw(st.integers(1, 4)))]

    def grow(depth: int) -> Predicate:
        kind = draw(st.integers(0, 8)) if depth else 0
        if kind <= 1:
            return _varied(draw, draw(st.sampled_from(pool)))
        parts = [grow(depth - 1) for _ in range(draw(st.integers(2, 3)))]
        match kind:
            case 2 | 3 | 4:
                return and_(*parts)
            case 5 | 6 | 7:
                return or_(*parts)
        return xor(parts[0], parts[1])

    root = grow(depth)
    return not_(root) if draw(st.booleans()) else root


def _varied(draw: DrawFn, atom: Predicate) -> Predicate:
    match draw(st.integers(0, 5)):
        case 0 | 1:
            return not_(atom)
        case 2 if isinstance(atom, Compare):
            return compare(atom.lhs, draw(_ops), add(atom.rhs, const(draw(_constants))))
    return atom
