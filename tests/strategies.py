"""Hypothesis strategies that mirror the node unions of `ir/nodes.py`: one rule for each kind of node.

Nodes come out *raw*, put together as drawn; `smart` rebuilds them with the smart constructors, which is the
only form that attnmask itself makes. Tables are fixed, and long enough for every call that is drawn here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import numpy as np
from hypothesis import assume
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from attnmask.errors import MaskError
from attnmask.ir.check import check
from attnmask.ir.domain import Domain
from attnmask.ir.index import add, const
from attnmask.ir.nodes import (
    Abs,
    Add,
    And,
    Apply,
    Arith,
    BitOp,
    BoolTable,
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
    Node,
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
    make,
)
from attnmask.ir.predicate import compare
from attnmask.ir.tables import TableData, fit, table_data
from attnmask.ir.walk import table_names, transform
from attnmask.mask import Mask
from tests.oracle import At, Fault, element, integer

E = TypeVar("E", bound=Expr)
N = TypeVar("N", bound=Node)
Grow = Callable[[st.DrawFn, int], N]

# ---- tables -----------------------------------------------------------------------------------------

POSITIONS = 160  # more than any length plus offset drawn below
MOST_BATCH, MOST_HEADS = 3, 3
_random = np.random.default_rng(20)

ARRAYS: Mapping[str, np.ndarray[Any, Any]] = {
    "doc": np.sort(_random.integers(0, 9, POSITIONS)),  # packed documents: ascending ids
    "perm": _random.permutation(POSITIONS),  # every position once
    "odd": _random.integers(-40, 40, POSITIONS) * 3,  # negative entries, and gaps between them
    "rowdoc": np.sort(_random.integers(0, 5, (MOST_BATCH, POSITIONS)), axis=1),
    "headtok": np.concatenate([_random.integers(0, 3, (2, POSITIONS)), np.zeros((1, POSITIONS), int)]),
    "grid": _random.integers(-6, 7, (5, 7)),
    "live": _random.integers(0, 4, POSITIONS) > 0,
    "rowlive": _random.integers(0, 2, (MOST_BATCH, POSITIONS)) > 0,
    "adj": _random.integers(0, 3, (5, 7)) > 0,
    "bias": _random.normal(size=POSITIONS),
    "slope": _random.normal(size=(MOST_HEADS, POSITIONS)),
}
TABLES: Mapping[str, TableData] = {name: table_data(name, array) for name, array in ARRAYS.items()}
ENTRIES: Mapping[str, Any] = {name: array.tolist() for name, array in ARRAYS.items()}

_Q, _K, _B, _H = (make(Var, name) for name in "qkbh")


def bounded(position: Index, size: int) -> Index:
    """`position` held in range(size), one way or another by what it is."""
    if position in (_Q, _K) and size == POSITIONS:
        return position
    if isinstance(position, Abs | Mul | FloorDiv):
        return make(Min, (make(Max, (position, make(Const, 0))), make(Const, size - 1)))
    return make(Mod, position, make(Const, size))


# ---- numbers and positions --------------------------------------------------------------------------

small = st.integers(-9, 9)
huge = st.sampled_from([2**31, -(2**33), 2**40 + 1])
numbers = st.one_of(small, small, st.integers(-100, 100), st.integers(-100, 100), huge)
divisors = st.one_of(st.integers(1, 8), st.integers(1, 8), st.integers(-8, -1), st.sampled_from([64, 2**33]))
positions = st.sampled_from([_Q, _K, _Q, _K, _Q, _K, _B, _H])
sizes = st.sampled_from([make(Var, name) for name in ("Q", "K", "B", "H")])
reals = st.one_of(small.map(float), st.floats(-30, 30), st.sampled_from([1e-7, 0.5, 1e17])).map(
    lambda x: x + 0.0
)


def _const(draw: st.DrawFn, values: SearchStrategy[int] = numbers) -> Const:
    return make(Const, draw(values))


def _divisor(draw: st.DrawFn) -> Index:
    """Mostly constants; else something that is never zero and may be negative."""
    match draw(st.integers(0, 6)):
        case 0:
            return make(Max, (draw(st.one_of(positions, sizes)), make(Const, 1)))
        case 1:
            return make(Add, (draw(positions), make(Const, 1)))
        case 2:
            return make(Add, (make(Mul, (make(Const, -1), draw(positions))), make(Const, -1)))
        case _:
            return _const(draw, divisors)


def _many(draw: st.DrawFn, grow: Grow[N], depth: int) -> tuple[N, ...]:
    return tuple(grow(draw, depth) for _ in range(draw(st.integers(2, 3))))


def _sum(draw: st.DrawFn, depth: int) -> Index:
    """A difference, c * x + d, or any sum."""
    match draw(st.integers(0, 3)):
        case 0:
            return make(Add, (index(draw, depth), make(Mul, (make(Const, -1), index(draw, depth)))))
        case 1:
            return make(Add, (make(Mul, (_const(draw, small), index(draw, depth))), _const(draw)))
        case _:
            return make(Add, _many(draw, index, depth))


def _bits(draw: st.DrawFn, depth: int) -> Index:
    rhs = _const(draw) if draw(st.booleans()) else index(draw, depth)
    return make(BitOp, draw(st.sampled_from("&|^")), index(draw, depth), rhs)


def _cell(draw: st.DrawFn, depth: int, kind: type[N], names: Sequence[str]) -> N:
    """An entry of a table: over positions, over (b, position), over (h, position), or of a 5 × 7 plane."""
    name = draw(st.sampled_from(names))
    if name in ("grid", "adj"):
        return make(kind, name, (bounded(index(draw, depth), 5), bounded(index(draw, depth), 7)))
    first = {"rowdoc": (_B,), "rowlive": (_B,), "headtok": (_H,), "slope": (_H,)}.get(name, ())
    return make(kind, name, (*first, bounded(index(draw, depth), POSITIONS)))


# ---- one rule a kind of node ------------------------------------------------------------------------

INDEX: Mapping[type[Node], Grow[Index]] = {
    Const: lambda draw, depth: _const(draw),
    Var: lambda draw, depth: draw(st.one_of(positions, positions, positions, sizes)),
    Add: _sum,
    Mul: lambda draw, depth: make(Mul, (index(draw, depth), index(draw, depth))),
    FloorDiv: lambda draw, depth: make(FloorDiv, index(draw, depth), _divisor(draw)),
    Mod: lambda draw, depth: make(Mod, index(draw, depth), _divisor(draw)),
    Min: lambda draw, depth: make(Min, _many(draw, index, depth)),
    Max: lambda draw, depth: make(Max, _many(draw, index, depth)),
    Abs: lambda draw, depth: make(Abs, index(draw, depth)),
    BitOp: _bits,
    Where: lambda draw, depth: make(Where, predicate(draw, depth), index(draw, depth), index(draw, depth)),
    # A table of truth values counts as 0 and 1 where a number is asked for.
    Table: lambda draw, depth: _cell(
        draw, depth, Table, ("doc", "perm", "odd", "rowdoc", "headtok", "grid", "live", "adj")
    ),
}
PREDICATE: Mapping[type[Node], Grow[Predicate]] = {
    Truth: lambda draw, depth: make(Truth, draw(st.booleans())),
    Compare: lambda draw, depth: make(
        Compare, index(draw, depth), draw(st.sampled_from(["<", "<=", "==", "!="])), index(draw, depth)
    ),
    And: lambda draw, depth: make(And, _many(draw, predicate, depth)),
    Or: lambda draw, depth: make(Or, _many(draw, predicate, depth)),
    Xor: lambda draw, depth: make(Xor, predicate(draw, depth), predicate(draw, depth)),
    Not: lambda draw, depth: make(Not, predicate(draw, depth)),
    BoolTable: lambda draw, depth: _cell(draw, depth, BoolTable, ("live", "rowlive", "adj")),
}
SCORE: Mapping[type[Node], Grow[ScoreExpr]] = {
    Score: lambda draw, depth: make(Score),
    Real: lambda draw, depth: make(Real, draw(reals)),
    FromIndex: lambda draw, depth: make(FromIndex, index(draw, depth)),
    RealTable: lambda draw, depth: _cell(
        draw, depth, RealTable, ("bias", "slope", "doc", "odd", "rowdoc", "grid", "live")
    ),
    Arith: lambda draw, depth: make(
        Arith, draw(st.sampled_from("+-*/")), score(draw, depth), score(draw, depth)
    ),
    Apply: lambda draw, depth: make(
        Apply, draw(st.sampled_from(["tanh", "tanh", "exp", "log"])), score(draw, depth)
    ),
    ScoreWhere: lambda draw, depth: make(
        ScoreWhere, predicate(draw, depth), score(draw, depth), score(draw, depth)
    ),
}

# Kinds that masks are mostly made of come up more often.
_INDEX_KINDS: tuple[type[Node], ...] = (*INDEX, Var, Var, Add, Add, Mod, FloorDiv)
_PREDICATE_KINDS: tuple[type[Node], ...] = (Compare, Compare, Compare, Compare, *PREDICATE, And, Or, Xor)
_SCORE_KINDS: tuple[type[Node], ...] = (*SCORE, Arith, Arith)


def index(draw: st.DrawFn, depth: int) -> Index:
    kind = draw(st.sampled_from(_INDEX_KINDS if depth > 0 else (Var, Var, Var, Const)))
    return INDEX[kind](draw, depth - 1)


def predicate(draw: st.DrawFn, depth: int) -> Predicate:
    kind = draw(st.sampled_from(_PREDICATE_KINDS if depth > 0 else (Compare,)))
    return PREDICATE[kind](draw, depth - 1)


def score(draw: st.DrawFn, depth: int) -> ScoreExpr:
    kind = draw(st.sampled_from(_SCORE_KINDS if depth > 0 else (Score, FromIndex, RealTable, Real)))
    return SCORE[kind](draw, depth - 1)


@st.composite
def raw_indices(draw: st.DrawFn, depth: int = 3) -> Index:
    return index(draw, depth)


@st.composite
def raw_predicates(draw: st.DrawFn, depth: int = 4) -> Predicate:
    kind = draw(st.sampled_from([kind for kind in _PREDICATE_KINDS if kind is not Truth]))
    return PREDICATE[kind](draw, depth - 1)


@st.composite
def raw_scores(draw: st.DrawFn, depth: int = 3) -> ScoreExpr:
    return score(draw, depth)


# ---- smart forms ------------------------------------------------------------------------------------


def smart(root: E) -> E:
    """`root` put together again by the smart constructors. MaskError where these refuse it."""
    return cast(E, transform(cast(Predicate, root), lambda node: node))


def bound(root: E) -> E:
    """`root` as it is once its tables are bound."""
    return cast(E, fit(cast(Predicate, root), TABLES, {})[0])


def _refused(root: Any) -> bool:
    try:
        smart(root)
    except MaskError:
        return True
    return False


def _smart(raw: SearchStrategy[Any]) -> SearchStrategy[Any]:
    return raw.filter(lambda root: not _refused(root)).map(lambda root: bound(smart(root)))


indices: SearchStrategy[Index] = _smart(raw_indices())
predicates: SearchStrategy[Predicate] = _smart(raw_predicates())
scores: SearchStrategy[ScoreExpr] = _smart(raw_scores())


def tables_of(*roots: Expr) -> dict[str, TableData]:
    """The tables that occur in the roots."""
    return {name: TABLES[name] for name in table_names(*roots)}


# ---- calls ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Call:
    """The numbers of a call: its domain and its block size."""

    domain: Domain
    block: tuple[int, int]

    @property
    def lengths(self) -> tuple[int, int]:
        return self.domain.q_len, self.domain.kv_len

    @property
    def options(self) -> dict[str, int]:
        """The keyword arguments of `Mask.dense`, `Mask.tiles` and `Mask.block_mask` besides the block."""
        return {"batch": self.domain.batch, "heads": self.domain.heads, "q_offset": self.domain.q_offset}


@st.composite
def calls(draw: st.DrawFn, most: int = 70, planes: bool = True) -> Call:
    """Lengths from 1, unequal and ragged blocks, offsets; long enough for several levels of the search."""
    lengths = st.one_of(st.integers(1, 6), st.integers(1, most), st.integers(most // 2, most))
    blocks = st.one_of(st.integers(1, 3), st.integers(1, 4), st.integers(1, 24), st.just(128))
    return Call(
        Domain(
            draw(lengths),
            draw(lengths),
            draw(st.one_of(st.just(0), st.just(0), st.integers(1, 70))),
            draw(st.integers(1, MOST_BATCH)) if planes else 1,
            draw(st.integers(1, MOST_HEADS)) if planes else 1,
        ),
        (draw(blocks), draw(blocks)),
    )


@dataclass(frozen=True, repr=False)
class Case:
    """A mask together with a call at which it can be evaluated."""

    mask: Mask
    call: Call

    def __repr__(self) -> str:
        return f"Case({str(self.mask)!r}, {self.call})"

    @property
    def arrays(self) -> dict[str, Any]:
        """The tables that the mask uses, as a user would bind them."""
        return {name: ARRAYS[name] for name, _ in self.mask.tables}


def sound(root: Expr, domain: Domain) -> bool:
    """Whether `check` accepts the expression at the domain."""
    try:
        check(root, domain, tables_of(root), {})
    except MaskError:
        return False
    return True


def aimed(root: Predicate, at: At) -> Predicate:
    """`root` with every comparison shifted to turn at the element `at`, so that few masks come out constant."""

    def change(node: Expr) -> Expr:
        if not isinstance(node, Compare):
            return node
        try:
            shift = integer(node.lhs, at) - integer(node.rhs, at)
        except Fault:
            return node
        return compare(node.lhs, node.op, add(node.rhs, const(shift)))

    return transform(root, change)


@st.composite
def cases(
    draw: st.DrawFn,
    masks: SearchStrategy[Predicate] = predicates,
    most: int = 70,
    planes: bool = True,
) -> Case:
    """A mask and a call that `check` accepts."""
    call = draw(calls(most=most, planes=planes))
    root = draw(masks)
    if draw(st.integers(0, 3)):
        domain = call.domain
        q, k = draw(st.integers(0, domain.q_len - 1)), draw(st.integers(0, domain.kv_len - 1))
        root = aimed(root, element(domain, ENTRIES, domain.batch - 1, 0, q, k))
    assume(not isinstance(root, Truth) and sound(root, call.domain))
    return Case(Mask(root, None, tuple(sorted(tables_of(root).items()))), call)
