"""What the shape of an expression says once for all cells: sides, parts, forms that are known exactly."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import assert_never

from attnmask.ir import index
from attnmask.ir.index import is_affine, split_coefficient
from attnmask.ir.nodes import (
    Abs,
    Add,
    And,
    BitOp,
    BoolTable,
    Choice,
    Compare,
    Const,
    Expr,
    FloorDiv,
    Index,
    Max,
    Min,
    Mod,
    Mul,
    Not,
    Or,
    Predicate,
    Table,
    Truth,
    Var,
    Where,
    Xor,
)
from attnmask.ir.walk import children, postorder, rebuild
from attnmask.tiles.diagonals import bounds_suffice, by_distance


@dataclass(frozen=True, slots=True)
class Parts:
    """A sum taken apart: what depends on q alone, on k alone, on both, and the constant."""

    q: Index | None
    k: Index | None
    mixed: tuple[Index, ...]
    constant: int


Equations = tuple[tuple[Index, Index], ...]


@dataclass(slots=True)
class Structure:
    """Answers about the expressions of one predicate, each worked out once."""

    known_sides: dict[Expr, str] = field(default_factory=dict)
    known_parts: dict[Index, Parts] = field(default_factory=dict)
    orders: dict[Index, list[Index]] = field(default_factory=dict)
    differences: dict[Compare, Index] = field(default_factory=dict)
    distances: dict[Predicate, Predicate | None] = field(default_factory=dict)
    counted: set[Predicate] = field(default_factory=set)
    known_equations: dict[Predicate, Equations] = field(default_factory=dict)
    known_signs: dict[Index, tuple[int, Index]] = field(default_factory=dict)

    def side(self, node: Expr) -> str:
        """Which of q and k the expression depends on: "", "q", "k" or "qk"."""
        if node not in self.known_sides:
            known = all(child in self.known_sides for child in children(node))
            for part in (node,) if known else postorder(node):
                if part not in self.known_sides:
                    self.known_sides[part] = self._side(part)
        return self.known_sides[node]

    def _side(self, node: Expr) -> str:
        if isinstance(node, Var):
            return node.name
        below = {name for child in children(node) for name in self.known_sides[child]}
        return "".join(name for name in "qk" if name in below)

    def difference(self, node: Compare) -> Index:
        """`lhs - rhs`, which is compared with 0."""
        if node not in self.differences:
            self.differences[node] = index.sub(node.lhs, node.rhs)
        return self.differences[node]

    def any_distance(self, node: Predicate) -> Predicate | None:
        """A predicate of q and k as one of q - k alone (see `by_distance`), or None."""
        if node not in self.distances:
            for part in postorder(node):
                if isinstance(part, Predicate) and part not in self.distances:
                    self._add_distance(part)
        return self.distances[node]

    def distance(self, node: Predicate) -> Predicate | None:
        """The same where it takes counts over distances to know it; None where exact bounds do."""
        found = self.any_distance(node)
        return found if node in self.counted else None

    def _add_distance(self, node: Predicate) -> None:
        """From the parts, which are known already: expressions may be deep."""
        found: Predicate | None
        match node:
            case Truth():
                found, counted = node, False
            case Compare() | BoolTable():
                found = by_distance(node) if self.side(node) == "qk" else None
                counted = found is not None and not bounds_suffice(found)
            case And() | Or() | Xor() | Not():
                parts: tuple[Predicate, ...] = children(node)  # type: ignore[assignment]  # those of a connective
                below = [self.distances[part] for part in parts]
                found = None if None in below else rebuild(node, below)  # type: ignore[assignment]  # a predicate stays one
                counted = found is not None and any(part in self.counted for part in parts)
            case Choice():
                raise AssertionError("choices are given their meaning beforehand")
            case _:
                assert_never(node)
        self.distances[node] = found
        if counted:
            self.counted.add(node)

    def equations(self, node: Predicate) -> Equations:
        """`f(q) == g(k)`, or a conjunction of such, as pairs (f, g); () for any other form.

        Affine ones are left out, whose bounds are exact. A disjunction of inequations is taken by its complement.
        """
        if node not in self.known_equations:
            self.known_equations[node] = self._equations(node)
        return self.known_equations[node]

    def _equations(self, node: Predicate) -> Equations:
        match node:
            case Compare(_, "==" | "!="):
                pair = self._separated(self.difference(node))
                return () if pair is None else (pair,)
            case And(args) | Or(args):
                op = "==" if isinstance(node, And) else "!="
                pairs = [self.equations(arg) for arg in args if isinstance(arg, Compare) and arg.op == op]
                return tuple(pair for (pair,) in pairs) if len(pairs) == len(args) and all(pairs) else ()
        return ()

    def _separated(self, difference: Index) -> tuple[Index, Index] | None:
        """`f(q) - g(k)` as (f, g), where it has that form and is not affine."""
        parts = self.parts(difference)
        if parts.q is None or parts.k is None or parts.mixed or is_affine(difference):
            return None
        return index.add(parts.q, index.const(parts.constant)), index.neg(parts.k)

    def signed(self, node: Index) -> tuple[int, Index]:
        """`node` as a factor times a form that it shares with its negation: -f(k) as (-1, f(k))."""
        if node not in self.known_signs:
            self.known_signs[node] = _signed(node)
        return self.known_signs[node]

    def parts(self, node: Index) -> Parts:
        """A sum (or a single term) taken apart by what its terms depend on."""
        if node not in self.known_parts:
            self.known_parts[node] = self._split(node)
        return self.known_parts[node]

    def _split(self, node: Index) -> Parts:
        groups: dict[str, list[Index]] = {"": [], "q": [], "k": [], "qk": []}
        for term in node.terms if isinstance(node, Add) else (node,):
            groups[self.side(term)].append(term)
        constant = sum(term.value for term in groups[""] if isinstance(term, Const))
        q_terms = groups["q"] + [term for term in groups[""] if not isinstance(term, Const)]
        q, k = (index.add(*terms) if terms else None for terms in (q_terms, groups["k"]))
        return Parts(q, k, tuple(groups["qk"]), constant)

    def order(self, root: Index) -> list[Index]:
        """Integers to bound for `root`, children first; one-sided ones are leaves, known as a whole."""
        if root not in self.orders:
            self.orders[root] = self._order(root)
        return self.orders[root]

    def _order(self, root: Index) -> list[Index]:
        order: dict[Index, None] = {}
        stack: list[tuple[Index, bool]] = [(root, False)]
        while stack:
            node, expanded = stack.pop()
            if node in order:
                continue
            if expanded or self.side(node) != "qk":
                order[node] = None
                continue
            stack.append((node, True))
            stack.extend((part, False) for part in self.operands(node))
        return list(order)

    def operands(self, node: Index) -> tuple[Index, ...]:
        """The integers that a two-sided expression is bounded from."""
        match node:
            case Add():
                parts = self.parts(node)
                return (*(part for part in (parts.q, parts.k) if part is not None), *parts.mixed)
            case Mul((Const(), *rest)):
                return (index.mul(*rest),)
            case Mul(factors) | Min(factors) | Max(factors):
                return factors
            case FloorDiv(lhs, rhs) | Mod(lhs, rhs) | BitOp(_, lhs, rhs) | Where(_, lhs, rhs):
                return lhs, rhs
            case Abs(arg):
                return (arg,)
            case Table(_, indices):
                return indices
            case Const() | Var():
                return ()


def _signed(node: Index) -> tuple[int, Index]:
    match node:
        case Mul((Const(factor), *rest)):
            return factor, index.mul(*rest)
        case Add((first, *_)) if split_coefficient(first)[0] < 0:
            return -1, index.neg(node)
    return 1, node


def leading_constants(indices: tuple[Index, ...]) -> tuple[int, ...]:
    """The values of the first indices, as far as these are constants."""
    fixed: list[int] = []
    for item in indices:
        if not isinstance(item, Const):
            break
        fixed.append(item.value)
    return tuple(fixed)
