"""The node types of the IR: index, predicate and score expressions.

Nodes are made by the smart constructors of `index`, `predicate` and `score`, never directly. They are
hash-consed: two nodes of the same structure are the same object, so equality and hashing are by identity
and a shared part of an expression is computed once wherever nodes are walked.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from threading import Lock
from typing import Any, Literal, TypeVar
from weakref import WeakValueDictionary

from attnmask.ir.rules import Rule

VarName = Literal["q", "k", "b", "h", "Q", "K", "B", "H"]
CompareOp = Literal["<", "<=", "==", "!="]
BitOpName = Literal["&", "|", "^"]
ArithOp = Literal["+", "-", "*", "/"]
FunctionName = Literal["tanh", "exp", "log"]


class Node:
    """Makes pickling go through the pool, so that an unpickled node is the node itself."""

    __slots__ = ("__weakref__",)

    def __reduce__(self) -> tuple[Any, ...]:
        return make, (type(self), *(getattr(self, field.name) for field in fields(self)))  # type: ignore[arg-type]  # every subclass is a dataclass


N = TypeVar("N", bound=Node)
_adding = Lock()
_pool: WeakValueDictionary[tuple[Any, ...], Node] = WeakValueDictionary()


def make(kind: type[N], *parts: Any) -> N:
    """The one node of this kind with these parts."""
    found = _pool.get((kind, *parts))
    if found is None:
        with _adding:  # two threads must not make two nodes of one structure
            found = _pool.setdefault((kind, *parts), kind(*parts))
    return found  # type: ignore[return-value]  # the key holds the kind


# ---- index: integers that depend on positions -------------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Const(Node):
    value: int


@dataclass(frozen=True, slots=True, eq=False)
class Var(Node):
    """A position (q, k, b, h) or a constant of the call (Q, K, B, H)."""

    name: VarName


@dataclass(frozen=True, slots=True, eq=False)
class Add(Node):
    """A sum in normal form: like terms collected, the constant last."""

    terms: tuple[Index, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Mul(Node):
    """A product with its constant, if any, first."""

    factors: tuple[Index, ...]


@dataclass(frozen=True, slots=True, eq=False)
class FloorDiv(Node):
    lhs: Index
    rhs: Index


@dataclass(frozen=True, slots=True, eq=False)
class Mod(Node):
    """The remainder that goes with `FloorDiv`: it has the sign of the divisor."""

    lhs: Index
    rhs: Index


@dataclass(frozen=True, slots=True, eq=False)
class Min(Node):
    args: tuple[Index, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Max(Node):
    args: tuple[Index, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Abs(Node):
    arg: Index


@dataclass(frozen=True, slots=True, eq=False)
class BitOp(Node):
    """Bit by bit on two's complement integers."""

    op: BitOpName
    lhs: Index
    rhs: Index


@dataclass(frozen=True, slots=True, eq=False)
class Where(Node):
    condition: Predicate
    then: Index
    other: Index


@dataclass(frozen=True, slots=True, eq=False)
class Table(Node):
    """An entry of an integer table; without indices a single number, set at compile time."""

    name: str
    indices: tuple[Index, ...]


# ---- predicate: true or false for each (b, h, q, k) --------------------------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Truth(Node):
    value: bool


@dataclass(frozen=True, slots=True, eq=False)
class Compare(Node):
    lhs: Index
    op: CompareOp
    rhs: Index


@dataclass(frozen=True, slots=True, eq=False)
class And(Node):
    args: tuple[Predicate, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Or(Node):
    args: tuple[Predicate, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Xor(Node):
    lhs: Predicate
    rhs: Predicate


@dataclass(frozen=True, slots=True, eq=False)
class Not(Node):
    arg: Predicate


@dataclass(frozen=True, slots=True, eq=False)
class BoolTable(Node):
    name: str
    indices: tuple[Index, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Choice(Node):
    """A set of (query, key) pairs that is computed from q and k when a call runs.

    The rule picks pairs of units. `q_unit` and `k_unit` tell which unit a position belongs to, `among` (static)
    which pairs of positions are candidates: a pair of units is one where all of its pairs are. None stands for
    the conjunction around the choice, which `choices.closed` fills in. Units with a pair in `count` are chosen
    without asking, and use up the rule's budget.
    """

    rule: Rule
    q_unit: Index
    k_unit: Index
    among: Predicate | None
    count: Predicate


# ---- score: a float for each (b, h, q, k), from the score before it ----------------------------------


@dataclass(frozen=True, slots=True, eq=False)
class Score(Node):
    """`s`: the scaled product of query and key."""


@dataclass(frozen=True, slots=True, eq=False)
class Real(Node):
    value: float


@dataclass(frozen=True, slots=True, eq=False)
class FromIndex(Node):
    index: Index


@dataclass(frozen=True, slots=True, eq=False)
class RealTable(Node):
    name: str
    indices: tuple[Index, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Arith(Node):
    op: ArithOp
    lhs: ScoreExpr
    rhs: ScoreExpr


@dataclass(frozen=True, slots=True, eq=False)
class Apply(Node):
    function: FunctionName
    arg: ScoreExpr


@dataclass(frozen=True, slots=True, eq=False)
class ScoreWhere(Node):
    condition: Predicate
    then: ScoreExpr
    other: ScoreExpr


Index = Const | Var | Add | Mul | FloorDiv | Mod | Min | Max | Abs | BitOp | Where | Table
Predicate = Truth | Compare | And | Or | Xor | Not | BoolTable | Choice
ScoreExpr = Score | Real | FromIndex | RealTable | Arith | Apply | ScoreWhere
Expr = Index | Predicate | ScoreExpr
