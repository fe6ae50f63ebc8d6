"""Interval arithmetic that writes expressions: the ends of an integer over a tile, from those of its parts.

The counterpart of `bounds`, which computes the same with numbers. Nothing is known of values here (tables may
lie on a device), so a case that depends on them becomes a `where`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from attnmask.ir import index, predicate
from attnmask.ir.index import const, split_coefficient
from attnmask.ir.nodes import Add, BitOpName, CompareOp, Const, Index, Max, Min, Predicate


@dataclass(frozen=True, slots=True)
class Ends:
    """low <= value <= high on every pair of a tile."""

    low: Index
    high: Index

    @property
    def single(self) -> Predicate:
        """Where the value is certainly the same on the whole tile."""
        return predicate.compare(self.low, "==", self.high)


@dataclass(frozen=True, slots=True)
class Verdict:
    """Where a predicate certainly holds for no pair of a tile, and where certainly for all."""

    never: Predicate
    always: Predicate


UNDECIDED = Verdict(predicate.FALSE, predicate.FALSE)


def exactly(value: Index) -> Ends:
    return Ends(value, value)


# ---- comparisons and logic --------------------------------------------------------------------------


def compared(lhs: Ends, op: CompareOp, rhs: Ends) -> Verdict:
    """`lhs op rhs`. Ends are compared as they are: their difference could overflow where they do not."""
    less, more = predicate.compare(lhs.high, "<", rhs.low), predicate.compare(rhs.high, "<", lhs.low)
    match op:
        case "<":
            return Verdict(predicate.compare(rhs.high, "<=", lhs.low), less)
        case "<=":
            return Verdict(more, predicate.compare(lhs.high, "<=", rhs.low))
        case "==" | "!=":
            # As low <= high on either side, these two make all four ends equal.
            meet = predicate.compare(lhs.low, "==", rhs.high), predicate.compare(lhs.high, "==", rhs.low)
            equal = Verdict(predicate.or_(less, more), predicate.and_(*meet))
            return equal if op == "==" else swapped(equal)


def swapped(part: Verdict) -> Verdict:
    """The negation."""
    return Verdict(part.always, part.never)


def conjunction(parts: list[Verdict]) -> Verdict:
    return Verdict(
        predicate.or_(*(part.never for part in parts)), predicate.and_(*(part.always for part in parts))
    )


def disjunction(parts: list[Verdict]) -> Verdict:
    return swapped(conjunction([swapped(part) for part in parts]))


def exclusive(lhs: Verdict, rhs: Verdict) -> Verdict:
    alike = predicate.and_(lhs.never, rhs.never), predicate.and_(lhs.always, rhs.always)
    unlike = predicate.and_(lhs.never, rhs.always), predicate.and_(lhs.always, rhs.never)
    return Verdict(predicate.or_(*alike), predicate.or_(*unlike))


# ---- arithmetic -------------------------------------------------------------------------------------


def total(parts: list[Ends]) -> Ends:
    return Ends(index.add(*(part.low for part in parts)), index.add(*(part.high for part in parts)))


def scaled(part: Ends, factor: int) -> Ends:
    low, high = (index.mul(const(factor), end) for end in (part.low, part.high))
    return Ends(low, high) if factor >= 0 else Ends(high, low)


def product(lhs: Ends, rhs: Ends) -> Ends:
    return _hull(*(index.mul(a, b) for a in (lhs.low, lhs.high) for b in (rhs.low, rhs.high)))


def squared(part: Ends) -> Ends:
    size = absolute(part)
    return Ends(index.mul(size.low, size.low), index.mul(size.high, size.high))


def absolute(part: Ends) -> Ends:
    """max(low, -high, 0) is the distance of the interval from 0."""
    return Ends(
        index.maximum(part.low, index.neg(part.high), const(0)),
        index.maximum(part.high, index.neg(part.low)),
    )


def extreme(choose: Callable[..., Index], parts: list[Ends]) -> Ends:
    """The ends of a minimum or a maximum, which grows with each of its parts."""
    return Ends(choose(*(part.low for part in parts)), choose(*(part.high for part in parts)))


def quotient(part: Ends, divisor: Index) -> Ends:
    """By a divisor that is the same on the whole tile: the quotient goes one way all along."""
    ends = floor_div(part.low, divisor), floor_div(part.high, divisor)
    return Ends(*ends) if isinstance(divisor, Const) and divisor.value > 0 else _hull(*ends)


def remainder(part: Ends, divisor: Index) -> Ends:
    """By a divisor that is the same on the whole tile: within one period the order is kept."""
    one_period = predicate.compare(floor_div(part.low, divisor), "==", floor_div(part.high, divisor))
    least, most = _remainders(exactly(divisor))
    return Ends(
        predicate.where(one_period, _mod(part.low, divisor), least),
        predicate.where(one_period, _mod(part.high, divisor), most),
    )


def varying_quotient(part: Ends) -> Ends:
    """By a divisor that varies: not larger than the dividend."""
    size = absolute(part).high
    return Ends(index.neg(size), size)


def varying_remainder(divisor: Ends) -> Ends:
    return Ends(*_remainders(divisor))


def _remainders(divisor: Ends) -> tuple[Index, Index]:
    """The least and the largest remainder, which lies between 0 and the divisor."""
    low, high = index.add(divisor.low, const(1)), index.add(divisor.high, const(-1))
    return index.minimum(low, const(0)), index.maximum(high, const(0))


def bits(op: BitOpName, lhs: Ends, rhs: Ends) -> Ends:
    """Exactly where both sides are single; else within the bits that either side has."""
    single = predicate.and_(lhs.single, rhs.single)
    value = index.bitop(op, lhs.low, rhs.low)
    # A negative number has the bits of -1 - x. The largest size that occurs has bits below twice itself.
    sizes = [size for side in (lhs, rhs) for size in (side.high, index.sub(const(-1), side.low))]
    size = index.maximum(*sizes)
    twice = index.mul(const(2), size)
    fits = predicate.compare(size, "<", const(2**62))
    most = predicate.where(fits, twice, const(2**63 - 1))
    least = predicate.where(fits, index.sub(const(-1), twice), const(-(2**63)))
    natural = predicate.compare(const(0), "<=", index.minimum(lhs.low, rhs.low))
    least = predicate.where(natural, const(0), least)
    return Ends(predicate.where(single, value, least), predicate.where(single, value, most))


def chosen(condition: Verdict, then: Ends, other: Ends) -> Ends:
    """One side where the condition is decided, else both."""
    either = _hull(then.low, then.high, other.low, other.high)

    def end(then: Index, other: Index, undecided: Index) -> Index:
        return predicate.where(condition.always, then, predicate.where(condition.never, other, undecided))

    return Ends(end(then.low, other.low, either.low), end(then.high, other.high, either.high))


def _hull(*values: Index) -> Ends:
    return Ends(index.minimum(*values), index.maximum(*values))


# ---- division that sees through multiples -------------------------------------------------------------


def floor_div(value: Index, divisor: Index) -> Index:
    """`value // divisor`, with what the divisor divides taken out: (64 * i + 63) // 64 is i."""
    if not isinstance(divisor, Const) or divisor.value <= 0:
        return index.floordiv(value, divisor)
    match value:  # division by a positive number keeps the order
        case Min(args):
            return index.minimum(*(_sum_div(arg, divisor) for arg in args))
        case Max(args):
            return index.maximum(*(_sum_div(arg, divisor) for arg in args))
    return _sum_div(value, divisor)


def _sum_div(value: Index, divisor: Const) -> Index:
    whole, rest = _split(value, divisor.value)
    return index.add(whole, index.floordiv(rest, divisor))


def _mod(value: Index, divisor: Index) -> Index:
    if not isinstance(divisor, Const) or divisor.value <= 0:
        return index.mod(value, divisor)
    return index.mod(_split(value, divisor.value)[1], divisor)


def _split(value: Index, divisor: int) -> tuple[Index, Index]:
    """`value` as divisor * whole + rest."""
    whole: list[Index] = []
    rest: list[Index] = []
    for term in value.terms if isinstance(value, Add) else (value,):
        factor, base = split_coefficient(term)
        if base is None:
            whole.append(const(factor // divisor))
            rest.append(const(factor % divisor))
        elif factor % divisor == 0:
            whole.append(index.mul(const(factor // divisor), base))
        else:
            rest.append(term)
    return index.add(*whole), index.add(*rest)
