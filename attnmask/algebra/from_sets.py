"""Integer sets back to IR: a union of polyhedra as a disjunction of conjunctions of comparisons."""

from __future__ import annotations

from typing import cast

import islpy as isl

from attnmask.algebra.presburger import Sets
from attnmask.ir import index
from attnmask.ir.index import add, const, floordiv, mod, mul, split_coefficient, sub
from attnmask.ir.nodes import Add, BoolTable, Compare, Const, FloorDiv, Index, Predicate, VarName
from attnmask.ir.predicate import and_, compare, not_, or_

_DIV = isl.dim_type.div
_MOST_PARTS = 12
_MOST_CONSTRAINTS = 24


def to_predicate(sets: Sets, found: isl.Set) -> Predicate | None:
    """A predicate that says what the set says, or None where it would be long, or cannot be written."""
    found = found.compute_divs().coalesce()
    if found.n_basic_set() > _MOST_PARTS:
        return None
    parts = [_conjunction(sets, part) for part in found.get_basic_sets()]
    return None if None in parts else or_(*(part for part in parts if part is not None))


def _conjunction(sets: Sets, part: isl.BasicSet) -> Predicate | None:
    constraints = part.remove_redundancies().get_constraints()
    if len(constraints) > _MOST_CONSTRAINTS:
        return None
    terms: list[Predicate] = []
    for constraint in constraints:
        aff = constraint.get_aff()
        if (truth := _truth(sets, aff)) is not None:
            terms.append(truth)
            continue
        value = _linear(sets, aff)
        if value is None:
            return None
        terms.append(zero(value) if constraint.is_equality() else not_negative(value))
    return and_(*_ranges(terms))


def _truth(sets: Sets, aff: isl.Aff) -> Predicate | None:
    """A constraint on nothing but the truth value (0 or 1) of a table's entry, as the entry or its negation."""
    if aff.dim(_DIV):
        return None
    first = len(sets.names)
    used = [axis for axis in range(first + len(sets.atoms)) if _coefficient(aff, axis)]
    if len(used) != 1 or used[0] < first:
        return None
    atom = sets.atoms[used[0] - first]
    if not isinstance(atom, BoolTable):
        return None
    # x = 1 and x >= 1 say that it is true, x = 0 and x <= 0 that it is not.
    return atom if _integer(aff.get_constant_val()) else not_(atom)


def _coefficient(aff: isl.Aff, axis: int) -> int:
    return _integer(aff.get_coefficient_val(isl.dim_type.in_, axis).mul(aff.get_denominator_val()))


def _linear(sets: Sets, aff: isl.Aff) -> Index | None:
    """The numerator of an affine form; None where a quotient in it has no explicit form."""
    terms: list[Index] = [const(_integer(aff.get_constant_val().mul(aff.get_denominator_val())))]
    for axis in range(len(sets.names) + len(sets.atoms)):
        factor = _coefficient(aff, axis)
        if factor:
            dimension = _dimension(sets, axis)
            if dimension is None:
                return None
            terms.append(mul(const(factor), dimension))
    for number in range(aff.dim(_DIV)):
        factor = _integer(aff.get_coefficient_val(_DIV, number).mul(aff.get_denominator_val()))
        if factor:
            quotient = aff.get_div(number)
            if quotient.is_nan():
                return None
            inner = _linear(sets, quotient)
            if inner is None:
                return None
            terms.append(mul(const(factor), floordiv(inner, const(_integer(quotient.get_denominator_val())))))
    return _with_remainders(add(*terms))


def _dimension(sets: Sets, axis: int) -> Index | None:
    """What a dimension stands for; None for the offset, which is no part of a mask, and for truth values."""
    if axis >= len(sets.names):
        atom = sets.atoms[axis - len(sets.names)]
        return None if isinstance(atom, BoolTable) else atom
    name = sets.names[axis]
    return None if name == "O" else index.var(cast(VarName, name))


def _integer(value: isl.Val) -> int:
    assert value.is_int(), "a numerator is an integer"
    return int(value.to_python())


def _with_remainders(value: Index) -> Index:
    """x - n * (x // n) is x % n."""
    terms = value.terms if isinstance(value, Add) else (value,)
    for term in terms:
        factor, base = split_coefficient(term)
        match base:
            case FloorDiv(inner, Const(divisor)) if factor % divisor == 0:
                times = const(factor // divisor)
                shorter = sub(
                    add(sub(value, term), mul(times, inner)), mul(times, mod(inner, const(divisor)))
                )
                if _length(shorter) < _length(value):
                    return _with_remainders(shorter)
    return value


def _length(value: Index) -> int:
    return len(value.terms) if isinstance(value, Add) else 1


def not_negative(value: Index) -> Predicate:
    """value >= 0, written with the constant on one side and few signs."""
    plus, minus, constant = _sides(value)
    if minus is None:  # plus + constant >= 0
        return compare(const(-constant), "<=", plus or const(0))
    if plus is None:  # minus <= constant
        return (
            compare(minus, "<", const(constant + 1))
            if constant > 0
            else compare(minus, "<=", const(constant))
        )
    if constant == 0:
        return compare(minus, "<=", plus)
    if constant == -1:
        return compare(minus, "<", plus)
    if constant > 0:
        return compare(sub(minus, plus), "<", const(constant + 1))
    return compare(const(-constant), "<=", sub(plus, minus))


def zero(value: Index) -> Predicate:
    """value == 0, likewise."""
    left, right, constant = _sides(value)
    if left is None or (right is not None and constant == 0):
        left, right, constant = right, left, -constant
    if constant == 0:
        return compare(left or const(0), "==", right or const(0))
    return compare(sub(left or const(0), right or const(0)), "==", const(-constant))


def _sides(value: Index) -> tuple[Index | None, Index | None, int]:
    """The terms with positive and those with negative factors, both made positive, and the constant."""
    plus: list[Index] = []
    minus: list[Index] = []
    constant = 0
    for term in value.terms if isinstance(value, Add) else (value,):
        factor, base = split_coefficient(term)
        if base is None:
            constant = factor
        elif factor > 0:
            plus.append(term)
        else:
            minus.append(index.neg(term))
    return (add(*plus) if plus else None), (add(*minus) if minus else None), constant


def _ranges(terms: list[Predicate]) -> list[Predicate]:
    """x < n & -x < n as abs(x) < n."""
    kept: list[Predicate] = []
    for term in terms:
        at = next((at for at, other in enumerate(kept) if _mirrored(term, other)), None)
        if at is None:
            kept.append(term)
            continue
        assert isinstance(term, Compare) and isinstance(term.lhs, Add)
        kept[at] = compare(index.absolute(_leading(term.lhs)), "<", term.rhs)
    return kept


def _mirrored(one: Predicate, other: Predicate) -> bool:
    match one, other:
        case Compare(Add() as left, "<", Const() as bound), Compare(Add() as right, "<", same) if (
            same is bound
        ):
            return add(left, right) is const(0)
    return False


def _leading(difference: Add) -> Index:
    """The sum or its negative: q - k rather than k - q, else whichever begins with a positive term."""
    signs = {base: factor > 0 for factor, base in map(split_coefficient, difference.terms)}
    positive = signs.get(index.var("q"), split_coefficient(difference.terms[0])[0] > 0)
    return difference if positive else index.neg(difference)
