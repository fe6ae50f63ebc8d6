"""What is known of opaque atoms: their bounds, and that equal arguments give equal values."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import reduce
from itertools import combinations
from typing import assert_never

import islpy as isl

from attnmask.algebra.atoms import Atom
from attnmask.algebra.presburger import Sets
from attnmask.ir.index import absolute, add, const, sub
from attnmask.ir.interval import Bounds, Intervals
from attnmask.ir.nodes import BitOp, BoolTable, FloorDiv, Index, Mod, Mul, Predicate, Table, Var
from attnmask.ir.tables import TableData
from attnmask.ir.walk import postorder

# The integers that kernels compute with; a mask is refused where it leaves them.
_WIDEST = (-(2**63) + 1, 2**63 - 1)
_MOST_PAIRS = 24


def narrow(sets: Sets, roots: tuple[Predicate, ...]) -> isl.Set:
    """The domain, with the bounds of the atoms and with the indices of bound tables within their tables."""
    found = [sets.domain, *_in_range(sets, roots)]
    intervals = Intervals(lambda name: _reach(sets, name), lambda name: _entries(sets.tables.get(name)))
    for atom in sets.atoms:
        found += _facts(sets, atom, intervals)
    return reduce(isl.Set.intersect, found)


def congruences(sets: Sets) -> Iterator[isl.Set]:
    """One fact for each pair of atoms of the same operation: as functions, or as ascending ones."""
    pairs = [
        (one, other) for one, other in combinations(sets.atoms, 2) if _operation(one) == _operation(other)
    ]
    pairs.sort(key=lambda pair: not _alike(*pair))
    for one, other in pairs[:_MOST_PAIRS]:
        if _alike(one, other):
            yield sets.at(sets.atom_axis[one]).eq_set(sets.at(sets.atom_axis[other]))
        else:
            yield _congruent(sets, one, other)


def _alike(one: Atom, other: Atom) -> bool:
    """Whether the values are equal by the look of them: products in another order, squares of x - y and y - x."""
    if (
        isinstance(one, Mul)
        and isinstance(other, Mul)
        and sorted(map(id, one.factors)) == sorted(map(id, other.factors))
    ):
        return True
    match one, other:
        case Mul((factor, same)), Mul((against, likewise)) if factor is same and against is likewise:
            return add(factor, against) is const(0) or sub(factor, against) is const(0)
    return False


def _congruent(sets: Sets, one: Atom, other: Atom) -> isl.Set:
    """Equal arguments give equal values; of ascending operations, smaller arguments give no greater values."""
    mine, theirs = [sets.value(arg) for arg in _args(one)], [sets.value(arg) for arg in _args(other)]
    value, against = sets.at(sets.atom_axis[one]), sets.at(sets.atom_axis[other])
    axis = _ascending(sets, one)
    allowed = sets.nothing
    equal = sets.everything
    for number, (left, right) in enumerate(zip(mine, theirs, strict=True)):
        if number != axis:
            allowed = allowed.union(left.ne_set(right))
            equal = equal.intersect(left.eq_set(right))
    if axis is None:
        return allowed.union(equal.intersect(value.eq_set(against)))
    left, right = mine[axis], theirs[axis]
    ordered: list[tuple[Callable[..., isl.Set], Callable[..., isl.Set]]] = [
        (isl.PwAff.lt_set, isl.PwAff.le_set),
        (isl.PwAff.eq_set, isl.PwAff.eq_set),
        (isl.PwAff.gt_set, isl.PwAff.ge_set),
    ]
    for arguments, values in ordered:
        allowed = allowed.union(equal.intersect(arguments(left, right)).intersect(values(value, against)))
    return allowed


def _operation(atom: Atom) -> tuple[object, ...]:
    match atom:
        case Table(name, indices) | BoolTable(name, indices):
            return Table, name, len(indices)
        case Mul((factor, other)) if factor is other:
            return Mul, "square"
        case Mul(factors):
            return Mul, len(factors)
        case BitOp(op):
            return BitOp, op
        case FloorDiv() | Mod():
            return (type(atom),)
        case _:
            assert_never(atom)


def _args(atom: Atom) -> tuple[Index, ...]:
    match atom:
        case Table(_, indices) | BoolTable(_, indices):
            return indices
        case Mul((factor, other)) if factor is other:
            return (absolute(factor),)
        case Mul(factors):
            return factors
        case BitOp(_, lhs, rhs) | FloorDiv(lhs, rhs) | Mod(lhs, rhs):
            return lhs, rhs
        case _:
            assert_never(atom)


def _ascending(sets: Sets, atom: Atom) -> int | None:
    """The argument in which the operation never descends, the others being equal."""
    match atom:
        case Table(name, indices) if name in sets.tables:
            array = sets.tables[name].array
            # Compared and not subtracted: a difference of entries may leave 64 bits.
            if array.shape[-1] > 1 and bool((array[..., 1:] >= array[..., :-1]).all()):
                return len(indices) - 1
        case FloorDiv(_, rhs) if _positive(sets, rhs):
            return 0
        case Mul((factor, other)) if factor is other:
            return 0  # a square ascends with the magnitude
    return None


def _positive(sets: Sets, divisor: Index) -> bool:
    intervals = Intervals(lambda name: _reach(sets, name), lambda name: _entries(sets.tables.get(name)))
    return intervals.of(divisor)[0] > 0


def _reach(sets: Sets, name: str) -> Bounds:
    """The least and largest value that a variable has in the calls in question."""
    most, asked = sets.scope.limits, sets.scope
    given, highest = {
        "q": (asked.q_len, most.q_len),
        "k": (asked.kv_len, most.kv_len),
        "b": (asked.batch, most.batch),
        "h": (asked.heads, most.heads),
        "Q": (asked.q_len, most.q_len),
        "K": (asked.kv_len, most.kv_len),
        "B": (asked.batch, most.batch),
        "H": (asked.heads, most.heads),
    }[name]
    if name in "QKBH":
        return given or 1, given or highest
    offset = most.q_len if asked.q_offset is None else asked.q_offset
    return 0, min((given or highest) - 1 + (offset if name == "q" else 0), highest - 1)


def _entries(table: TableData | None) -> Bounds:
    return _WIDEST if table is None else table.bounds


def _in_range(sets: Sets, roots: tuple[Predicate, ...]) -> Iterator[isl.Set]:
    """A call whose positions reach past a table is refused, so it is none of the calls in question."""
    for node in postorder(*roots):
        if not isinstance(node, Table | BoolTable) or node.name not in sets.tables:
            continue
        for item, size in zip(node.indices, sets.tables[node.name].array.shape, strict=True):
            least, most = sets.const(0), sets.const(size)
            yield least.le_set(sets.value(item)).intersect(sets.value(item).lt_set(most))
            match item:
                case Var("q"):
                    yield sets.var("Q").add(sets.var("O")).le_set(most)
                case Var("k" | "b" | "h"):
                    yield sets.var(item.name.upper()).le_set(most)


def _facts(sets: Sets, atom: Atom, intervals: Intervals) -> Iterator[isl.Set]:
    """Conjunctive facts of one atom, and few cases where its argument has a sign."""
    value = sets.at(sets.atom_axis[atom])
    zero = sets.const(0)
    low, high = (0, 1) if isinstance(atom, BoolTable) else intervals.of(atom)
    if _WIDEST[0] < low <= _WIDEST[1]:
        yield sets.const(low).le_set(value)
    if _WIDEST[0] <= high < _WIDEST[1]:
        yield value.le_set(sets.const(high))
    match atom:
        case Mul((factor, other)) if factor is other:
            magnitude = sets.value(absolute(factor))
            yield magnitude.le_set(value)
            yield value.eq_set(magnitude).union(sets.const(2).le_set(magnitude))
        case Mod(lhs, rhs) if intervals.of(rhs)[0] > 0:
            yield zero.le_set(value).intersect(value.lt_set(sets.value(rhs)))
            if intervals.of(lhs)[0] >= 0:
                argument = sets.value(lhs)
                below = argument.lt_set(sets.value(rhs)).intersect(value.eq_set(argument))
                yield below.union(argument.ge_set(sets.value(rhs)).intersect(value.lt_set(argument)))
        case FloorDiv(lhs, rhs) if intervals.of(rhs)[0] > 0 and intervals.of(lhs)[0] >= 0:
            argument = sets.value(lhs)
            below = argument.lt_set(sets.value(rhs)).intersect(value.eq_set(zero))
            above = argument.ge_set(sets.value(rhs)).intersect(sets.const(1).le_set(value))
            yield below.union(above.intersect(value.le_set(argument)))
        case BitOp("&", lhs, rhs) if intervals.of(lhs)[0] >= 0 and intervals.of(rhs)[0] >= 0:
            yield value.le_set(sets.value(lhs)).intersect(value.le_set(sets.value(rhs)))
