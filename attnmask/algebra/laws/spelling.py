"""Comparisons from sets: the lightest one that agrees with a set wherever it matters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce
from typing import Literal

from attnmask.algebra.laws.known import Known, Terms
from attnmask.algebra.laws.ranges import (
    ENDLESS,
    Ranges,
    at_least,
    at_most,
    complement,
    intersection,
    mirrored,
    union,
)
from attnmask.ir.index import absolute, add, const, floordiv, mul, sub
from attnmask.ir.nodes import Compare, CompareOp, Const, FloorDiv, Index, Predicate
from attnmask.ir.predicate import FALSE, TRUE, and_, compare, truth, xor

# Constants of new comparisons keep away from the ends of 64 bits.
_WIDEST = 1 << 62
# No comparison is less than one operation.
_LIGHTEST = (1, 0, 0)


def narrowed(node: Compare, around: Ranges, known: Known) -> Predicate:
    """The lightest comparison that is `node` where the sum that it is about is one of the integers `around`."""
    region = known.region(node)
    possible = intersection(around, (region.possible,))
    target = intersection(region.values, possible)
    if not target:
        return FALSE
    if target == possible:
        return TRUE
    best: Predicate = node
    if known.weight(node) <= _LIGHTEST:
        return node
    strict = node.op != "<=" or "quotient" in region.through
    for candidate in spellings(region.terms, target, possible, strict=strict, hole=node.op == "!="):
        if known.weight(candidate) < known.weight(best) and _safe(candidate, (node,), known):
            best = candidate
    return best


def exclusive(members: tuple[Compare, Compare], known: Known) -> Predicate:
    """One of two comparisons of one sum and not the other, as one comparison if that is what it is."""
    one, other = _sets(members, known)
    terms, possible = known.region(members[0]).terms, known.region(members[0]).possible
    apart = union([*intersection(one, complement(other)), *intersection(other, complement(one))])
    target = intersection(apart, (possible,))
    if not target or target == (possible,):
        return truth(bool(target))
    single = [
        *_with_same_sides(members, terms, target, (possible,), known),
        *spellings(terms, target, (possible,), strict=True),
    ]
    safe = (each for each in single if _safe(each, members, known))
    return min(safe, key=known.weight, default=xor(*members))


def exclude_each_other(members: Sequence[Compare], known: Known) -> bool:
    """Whether comparisons of one sum never hold together."""
    possible: Ranges = (known.region(members[0]).possible,)
    return not reduce(intersection, _sets(members, known), possible)


def merged(members: Sequence[Compare], known: Known) -> list[Predicate]:
    """Comparisons of one sum that together hold where all the members do, as light as they get."""
    region = known.region(members[0])
    sets = _sets(members, known)
    possible: Ranges = (region.possible,)
    target = reduce(intersection, sets, possible)
    if not target:
        return [FALSE]
    if target == possible:
        return []
    strict = any(member.op != "<=" for member in members)
    options: list[list[Predicate]] = [
        list(members),
        _one_after_another(members, sets, region.terms, possible, known),
    ]
    options += [[single] for single in _with_same_sides(members, region.terms, target, possible, known)]
    options += [[single] for single in spellings(region.terms, target, possible, strict=strict)]
    options += _pair(region.terms, target, possible, strict)
    options += [[quotients] for quotients in _same_quotient(region.terms, target)]
    safe = (option for option in options if all(_safe(part, members, known) for part in option))
    return min(safe, key=lambda option: known.weight(and_(*option)))


def _sets(members: Sequence[Compare], known: Known) -> list[Ranges]:
    """What each comparison asks of the sum of the first."""
    regions = [known.region(member) for member in members]
    return [oriented(region.values, region.terms, regions[0].terms) for region in regions]


def oriented(values: Ranges, terms: Terms, wanted: Terms) -> Ranges:
    """Values of the sum of `terms` as values of the `wanted` sum, which is the same or its negative."""
    return values if frozenset(terms) == frozenset(wanted) else mirrored(values)


def spellings(
    terms: Terms, target: Ranges, possible: Ranges, *, strict: bool, hole: bool = False
) -> Iterator[Predicate]:
    """Single comparisons that hold where the sum is in `target`, as long as it is in `possible`.

    `strict`: bounds are written with `<` where that makes no other difference; `hole`: `!=` comes before bounds.
    """
    first, last = target[0][0], target[-1][1]
    rest = intersection(complement(target), possible)
    unequal = rest[0][0] if len(rest) == 1 and rest[0][0] == rest[0][1] else None
    if target == ((first, first),):
        yield from _relation(terms, "==", first)
    if unequal is not None and hole:
        yield from _relation(terms, "!=", unequal)
    if intersection(at_most(last), possible) == target:
        yield from _upper(terms, last, strict)
    if intersection(at_least(first), possible) == target:
        yield from _lower(terms, first, strict)
    if unequal is not None and not hole:
        yield from _relation(terms, "!=", unequal)
    yield from _magnitudes(terms, target, rest, possible, strict)


def _with_same_sides(
    members: Sequence[Compare], terms: Terms, target: Ranges, possible: Ranges, known: Known
) -> Iterator[Predicate]:
    """Members with another operator, which leaves their sides as they may be shared."""
    for member in members:
        region = known.region(member)
        if region.through:
            continue
        # The two sides are equal where the sum is this.
        turn = region.values[0][1] + (member.op != "==" and member.op != "<=")
        for op, values in _turning_at(turn):
            if intersection(oriented(values, region.terms, terms), possible) == target:
                first, second = member.lhs, member.rhs
                if isinstance(first, Const) and (op == "==" or op == "!="):
                    first, second = second, first
                yield compare(first, op, second)


def _turning_at(value: int) -> Iterator[tuple[CompareOp | Literal[">", ">="], Ranges]]:
    yield "<", at_most(value - 1)
    yield "<=", at_most(value)
    yield "==", ((value, value),)
    yield "!=", complement(((value, value),))
    yield ">", at_least(value + 1)
    yield ">=", at_least(value)


def _magnitudes(
    terms: Terms, target: Ranges, rest: Ranges, possible: Ranges, strict: bool
) -> Iterator[Predicate]:
    """|sum| at most, or more than, a radius."""
    size = absolute(_total(terms))
    radius = max(abs(target[0][0]), abs(target[-1][1]))
    if radius < _WIDEST and intersection(((-radius, radius),), possible) == target:
        yield compare(size, "<", const(radius + 1)) if strict else compare(size, "<=", const(radius))
    radius = max(abs(rest[0][0]), abs(rest[-1][1]))
    if radius < _WIDEST and intersection(((-radius, radius),), possible) == rest:
        yield compare(size, ">", const(radius)) if strict else compare(size, ">=", const(radius + 1))


def _upper(terms: Terms, value: int, strict: bool) -> Iterator[Predicate]:
    """The sum is at most `value`."""
    if value == -1 or (strict and value != 0):
        yield from _relation(terms, "<", value + 1)
    else:
        yield from _relation(terms, "<=", value)


def _lower(terms: Terms, value: int, strict: bool) -> Iterator[Predicate]:
    """The sum is at least `value`."""
    yield from _upper(tuple((base, -factor) for base, factor in terms), -value, strict)


def _relation(terms: Terms, op: CompareOp, value: int) -> Iterator[Predicate]:
    """The sum compared with a constant, without minus signs that can be avoided."""
    if abs(value) >= _WIDEST:
        return
    taken = tuple((base, -factor) for base, factor in terms if factor < 0)
    given = tuple((base, factor) for base, factor in terms if factor > 0)
    if not given and op in ("<", "<="):
        yield compare(const(-value), op, _total(taken))
    elif not given:
        yield compare(_total(taken), op, const(-value))
    elif not taken or value == 0:
        yield compare(_total(given), op, _total(taken) if taken else const(value))
    elif value > 0:
        yield compare(sub(_total(given), _total(taken)), op, const(value))
    else:
        yield compare(const(-value), op, sub(_total(taken), _total(given)))


def _pair(terms: Terms, target: Ranges, possible: Ranges, strict: bool) -> Iterator[list[Predicate]]:
    """A lower and an upper bound."""
    first, last = target[0][0], target[-1][1]
    if first > -ENDLESS and last < ENDLESS and intersection(((first, last),), possible) == target:
        yield [*_lower(terms, first, strict), *_upper(terms, last, strict)]


def _same_quotient(terms: Terms, target: Ranges) -> Iterator[Predicate]:
    """y - a*(x // a) from c to c + a - 1: (y - c) // a == x // a."""
    if len(target) != 1:
        return
    first, last = target[0]
    for place, (base, factor) in enumerate(terms):
        match base:
            case FloorDiv(_, Const(by)) if by == abs(factor) and last - first == by - 1 and len(terms) > 1:
                sign = 1 if factor < 0 else -1
                rest = _total(tuple((b, f * sign) for b, f in terms[:place] + terms[place + 1 :]))
                start = first if factor < 0 else -last
                yield compare(floordiv(sub(rest, const(start)), const(by)), "==", base)


def _one_after_another(
    members: Sequence[Compare], sets: Sequence[Ranges], terms: Terms, possible: Ranges, known: Known
) -> list[Predicate]:
    """Each member as light as the others let it be, the heaviest first; those that they imply are left out."""
    kept: dict[int, Predicate] = dict(enumerate(members))
    values = dict(enumerate(sets))
    for place in sorted(kept, key=lambda at: known.weight(members[at]), reverse=True):
        around = possible
        for other, allowed in values.items():
            if other != place:
                around = intersection(around, allowed)
        own = known.region(members[place]).terms
        kept[place] = narrowed(members[place], oriented(around, terms, own), known)
        values[place] = _values(kept[place], terms, known)
    return [part for part in kept.values() if part is not TRUE]


def _values(part: Predicate, terms: Terms, known: Known) -> Ranges:
    if not isinstance(part, Compare):
        return at_most(ENDLESS) if part is TRUE else ()
    region = known.region(part)
    return oriented(region.values, region.terms, terms)


def _safe(candidate: Predicate, instead: Sequence[Compare], known: Known) -> bool:
    """Whether a comparison cannot leave 64 bits where those that it stands for do not.

    What was inside of a quotient or an absolute value may reach further than these.
    """
    if not isinstance(candidate, Compare) or candidate in instead:
        return True
    inside = {"quotient", "magnitude"}
    return all(inside.isdisjoint(known.region(one).through) for one in instead) or known.fits(
        candidate.lhs, candidate.rhs
    )


def _total(terms: Terms) -> Index:
    return add(*(mul(const(factor), base) for base, factor in terms))
