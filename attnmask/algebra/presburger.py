"""IR to integer sets: masks as unions of polyhedra over lengths and positions, by isl (Verdoolaege, ICMS 2010).

Affine forms, // and % by constants, min, max, abs, where, bit masks and small tables are exact; what is
beyond (see `atoms`) becomes a dimension of its own. The dimensions are Q K B H O q k b h and the atoms, as far
as they are needed; O is the query offset.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import assert_never

import islpy as isl

from attnmask.algebra.atoms import Atom, Piece, atoms, pieces, runs_of_ones
from attnmask.algebra.capped import CONTEXT
from attnmask.algebra.scope import Scope
from attnmask.ir.index import INT64, split_coefficient
from attnmask.ir.nodes import (
    Abs,
    Add,
    And,
    BitOp,
    BoolTable,
    Choice,
    Compare,
    Const,
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
from attnmask.ir.tables import TableData
from attnmask.ir.walk import postorder, variables

SET = isl.dim_type.set
_NAMES = ("Q", "K", "B", "H", "O", "q", "k", "b", "h")
# Unions grow when they are intersected; above this many parts they are looked at for parts that fit together.
_MANY_PARTS = 6


class Sets:
    """The sets of some predicates over one space, and the domain of the calls in question."""

    def __init__(
        self,
        roots: Sequence[Predicate],
        scope: Scope,
        tables: Mapping[str, TableData],
        *,
        expand: bool = False,
    ) -> None:
        """`expand` writes small tables out, piece by piece, which is exact and may be too much."""
        self.scope = scope
        self.tables = tables
        self.expanded = tables if expand else {}
        self.atoms: tuple[Atom, ...] = atoms(tuple(roots), self.expanded)
        used = frozenset[str]().union(*(variables(root) for root in roots))
        self.names = [
            name
            for name in _NAMES
            if name in used
            or (name in "Qq")
            or (name in "Kk")
            or (name == "B" and "b" in used)
            or (name == "H" and "h" in used)
            or (name == "O" and scope.q_offset != 0)
        ]
        self.axis = {name: number for number, name in enumerate(self.names)}
        self.atom_axis: dict[Atom, int] = {
            atom: len(self.names) + number for number, atom in enumerate(self.atoms)
        }
        names = [*self.names, *(f"x{number}" for number in range(len(self.atoms)))]
        self.space = isl.Space.create_from_names(CONTEXT, set=names)
        self._local = isl.LocalSpace.from_space(self.space)
        self.everything = isl.Set.universe(self.space)
        self.nothing = isl.Set.empty(self.space)
        self._values: dict[Index, isl.PwAff] = {}
        self._sets: dict[tuple[Predicate, bool], isl.Set] = {}
        self.domain = reduce(isl.Set.intersect, self._bounds(), self.everything)

    # ---- integers ------------------------------------------------------------------------------------

    def number(self, value: int) -> isl.Val:
        if value not in INT64:  # as the power of two past the highest bit of a constant
            return isl.Val.read_from_str(CONTEXT, str(value))
        return isl.Val.int_from_si(CONTEXT, value)

    def const(self, value: int) -> isl.PwAff:
        constant = isl.Aff.zero_on_domain(self._local).set_constant_val(self.number(value))
        return isl.PwAff.from_aff(constant)

    def affine(self, name: str) -> isl.Aff:
        return isl.Aff.var_on_domain(self._local, SET, self.axis[name])

    def at(self, axis: int) -> isl.PwAff:
        return isl.PwAff.from_aff(isl.Aff.var_on_domain(self._local, SET, axis))

    def var(self, name: str) -> isl.PwAff:
        """A position or size; without a dimension of its own it is the constant that the scope gives."""
        return self.at(self.axis[name]) if name in self.axis else self.const(0)

    def value(self, root: Index) -> isl.PwAff:
        """The integer as a piecewise affine function of the dimensions."""
        for node in postorder(root):
            if not isinstance(node, Predicate) and node not in self._values:
                self._values[node] = self._value(node)  # type: ignore[arg-type, index]  # no scores in masks
        return self._values[root]

    def _value(self, node: Index) -> isl.PwAff:
        if isinstance(node, Atom) and node in self.atom_axis:
            return self.at(self.atom_axis[node])
        match node:
            case Const(value):
                return self.const(value)
            case Var(name):
                return self.var(name)
            case Add(terms):
                return reduce(isl.PwAff.add, (self._values[term] for term in terms))
            case Mul():
                factor, base = split_coefficient(node)
                assert base is not None
                inner = self.at(self.atom_axis[base]) if base in self.atom_axis else self._values[base]
                return self._scaled(inner, factor)
            case FloorDiv(lhs, Const(value)):
                return self._quotient(self._values[lhs], value)
            case Mod(lhs, Const(value)):
                inner = self._values[lhs]
                return inner.sub(self._scaled(self._quotient(inner, value), value))
            case Min(args):
                return reduce(isl.PwAff.min, (self._values[arg] for arg in args))
            case Max(args):
                return reduce(isl.PwAff.max, (self._values[arg] for arg in args))
            case Abs(arg):
                inner = self._values[arg]
                return inner.max(inner.neg())
            case BitOp(op, lhs, Const(value)):
                return self._bits(op, self._values[lhs], value)
            case Where(condition, then, other):
                chosen = self._values[then].intersect_domain(self.of(condition))
                return chosen.union_add(self._values[other].intersect_domain(self.of(condition, False)))
            case Table(name, (item,)):
                return self._entries(name, self._values[item])
        raise AssertionError(f"{node} is an atom")

    def _scaled(self, value: isl.PwAff, factor: int) -> isl.PwAff:
        return value.scale_val(self.number(factor))

    def _quotient(self, value: isl.PwAff, divisor: int) -> isl.PwAff:
        if divisor < 0:
            value, divisor = value.neg(), -divisor
        return value.scale_down_val(self.number(divisor)).floor()

    def _bits(self, op: str, value: isl.PwAff, constant: int) -> isl.PwAff:
        """x & c as the runs of ones of c; x | c = x + c - (x & c); x ^ c = x + c - 2 * (x & c)."""
        runs = runs_of_ones(constant)
        assert runs is not None
        parts = (
            self._scaled(
                self._quotient(value, 1 << low).sub(
                    self._scaled(self._quotient(value, 1 << low + length), 1 << length)
                ),
                1 << low,
            )
            for low, length in runs
        )
        both = reduce(isl.PwAff.add, parts, self.const(0))
        if constant < 0:  # the runs are those of ~c, and x & c = x - (x & ~c)
            both = value.sub(both)
        if op == "&":
            return both
        return value.add(self.const(constant)).sub(both if op == "|" else self._scaled(both, 2))

    def _entries(self, name: str, position: isl.PwAff) -> isl.PwAff:
        found = pieces(self.tables[name])
        assert found is not None
        return reduce(isl.PwAff.union_add, (self._piece(piece, position) for piece in found))

    def _piece(self, piece: Piece, position: isl.PwAff) -> isl.PwAff:
        value = self._scaled(position, piece.slope).add(self.const(piece.offset))
        return value.intersect_domain(self._between(position, piece.first, piece.last))

    def _between(self, value: isl.PwAff, low: int, high: int) -> isl.Set:
        return self.const(low).le_set(value).intersect(value.le_set(self.const(high)))

    def covers(self, root: Predicate) -> bool:
        """Whether the space has a dimension for every opaque part of a predicate."""
        return self.atom_axis.keys() >= set(atoms((root,), self.expanded))

    # ---- truth ---------------------------------------------------------------------------------------

    def of(self, root: Predicate, truth: bool = True) -> isl.Set:
        """Where the predicate has this truth value. Negation goes down to comparisons, where it is free."""
        stack = [(root, truth)]
        while stack:
            node, wanted = stack[-1]
            missing = [part for part in _parts(node, wanted) if part not in self._sets]
            if missing:
                stack += missing
                continue
            stack.pop()
            if (node, wanted) not in self._sets:
                self._sets[node, wanted] = self._set(node, wanted)
        return self._sets[root, truth]

    def _set(self, node: Predicate, truth: bool) -> isl.Set:
        match node:
            case Truth(value):
                return self.everything if value == truth else self.nothing
            case Compare(lhs, op, rhs):
                return self._compare(lhs, op, rhs, truth)
            case Not(arg):
                return self._sets[arg, not truth]
            case And(args) | Or(args):
                parts = [self._sets[arg, truth] for arg in args]
                return self._both(parts) if isinstance(node, And) == truth else self._either(parts)
            case Xor(lhs, rhs):
                pairs = [
                    self._both([self._sets[lhs, left], self._sets[rhs, left != truth]])
                    for left in (True, False)
                ]
                return self._either(pairs)
            case BoolTable():
                return self._bool_table(node, truth)
            case Choice():
                raise AssertionError("choices are made opaque beforehand")
            case _:
                assert_never(node)

    def _compare(self, lhs: Index, op: str, rhs: Index, truth: bool) -> isl.Set:
        left, right = self.value(lhs), self.value(rhs)
        match op, truth:
            case ("<", True):
                return left.lt_set(right)
            case ("<", False):
                return left.ge_set(right)
            case ("<=", True):
                return left.le_set(right)
            case ("<=", False):
                return left.gt_set(right)
            case ("==", True) | ("!=", False):
                return left.eq_set(right)
        return left.ne_set(right)

    def _bool_table(self, node: BoolTable, truth: bool) -> isl.Set:
        wanted = self.const(int(truth))
        if node in self.atom_axis:
            return self.at(self.atom_axis[node]).eq_set(wanted)
        return self._entries(node.name, self.value(node.indices[0])).eq_set(wanted)

    def _both(self, parts: Sequence[isl.Set]) -> isl.Set:
        result = self.everything
        for part in sorted(parts, key=isl.Set.n_basic_set):
            result = fewer_parts(result.intersect(part))
        return result

    def _either(self, parts: Sequence[isl.Set]) -> isl.Set:
        return fewer_parts(reduce(isl.Set.union, parts, self.nothing))

    # ---- the calls in question -----------------------------------------------------------------------

    def _bounds(self) -> list[isl.Set]:
        """Positions within lengths, lengths as asked, indices within bound tables."""
        found = []
        most = self.scope.limits
        for name, given, highest in (
            ("Q", self.scope.q_len, most.q_len),
            ("K", self.scope.kv_len, most.kv_len),
            ("B", self.scope.batch, most.batch),
            ("H", self.scope.heads, most.heads),
        ):
            if name in self.axis:
                found.append(self._between(self.var(name), given or 1, given or highest))
        if "O" in self.axis:
            low, high = (0, most.q_len) if self.scope.q_offset is None else (self.scope.q_offset,) * 2
            found.append(self._between(self.var("O"), low, high))
        offset = self.var("O")
        if self.scope.square:
            found.append(self.var("Q").eq_set(self.var("K")))
        found += [offset.le_set(self.var("q")), self.var("q").lt_set(self.var("Q").add(offset))]
        found.append(self.var("Q").add(offset).le_set(self.const(most.q_len)))
        for position, size in (("k", "K"), ("b", "B"), ("h", "H")):
            if position in self.axis:
                found.append(self.const(0).le_set(self.var(position)))
                found.append(self.var(position).lt_set(self.var(size)))
        return found


def fewer_parts(found: isl.Set) -> isl.Set:
    return found.coalesce() if found.n_basic_set() > _MANY_PARTS else found


def _parts(node: Predicate, truth: bool) -> list[tuple[Predicate, bool]]:
    """The sets that the set of a node is made of."""
    match node:
        case And(args) | Or(args):
            return [(arg, truth) for arg in args]
        case Not(arg):
            return [(arg, not truth)]
        case Xor(lhs, rhs):
            return [(side, value) for side in (lhs, rhs) for value in (True, False)]
    return []
