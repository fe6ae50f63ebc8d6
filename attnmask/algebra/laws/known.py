"""What is known of integers at every place of the calls in question: bounds, and what comparisons ask of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from math import gcd

from attnmask.algebra.cost import Part
from attnmask.algebra.laws.ranges import (
    Range,
    Ranges,
    at_most,
    clamped,
    complement,
    divided,
    intersection,
    mirrored,
    moved,
    with_magnitude_in,
    with_quotient_in,
)
from attnmask.algebra.laws.weight import Weight, Weights
from attnmask.ir.domain import ANYWHERE, Domain
from attnmask.ir.index import split_coefficient, sub
from attnmask.ir.interval import Bounds, Intervals
from attnmask.ir.nodes import Abs, Add, Compare, CompareOp, Const, FloorDiv, Index, Var
from attnmask.ir.tables import TableData

# What a mask may compute with; calls in which it could leave this are refused.
INT64 = range(-(2**63) + 1, 2**63)
# Each position lies below the size of its axis. (q may have an offset, so q and Q are no such pair.)
_SIZES = {"k": "K", "b": "B", "h": "H"}

Terms = tuple[tuple[Index, int], ...]  # a sum as its parts and their factors, without a constant
Key = frozenset[tuple[Index, int]]

_ALLOWED: dict[CompareOp, Ranges] = {
    "<": at_most(-1),
    "<=": at_most(0),
    "==": ((0, 0),),
    "!=": complement(((0, 0),)),
}
# Larger entries are allowed and rare; see `Known.fits`.
_LIKELY_ENTRY = 2**60


@dataclass(frozen=True, slots=True)
class Region:
    """A comparison as a set: it holds where the sum of `terms`, which have no common factor, is in `values`.

    `possible` bounds the sum. `through` tells how the sum was reached: by a common factor, out of a quotient,
    out of an absolute value; empty where terms were collected and nothing more.
    """

    terms: Terms
    values: Ranges
    possible: Range
    through: tuple[str, ...]

    @property
    def key(self) -> Key:
        return frozenset(self.terms)

    @property
    def settled(self) -> bool | None:
        """Whether the comparison holds, where bounds alone tell."""
        within = intersection(self.values, (self.possible,))
        if not within:
            return False
        return True if within == (self.possible,) else None


class Known:
    """Bounds in one call, or without a domain in every call that there may be."""

    def __init__(self, domain: Domain | None = None, tables: Mapping[str, TableData] | None = None) -> None:
        self.domain = domain
        self.tables = tables or {}
        self._intervals = Intervals(self._variable, self._entries)
        self._likely = Intervals(self._variable, self._likely_entries)
        self._regions: dict[Compare, Region] = {}
        self._weights = Weights()

    def bounds(self, node: Index) -> Bounds:
        return self._intervals.of(node)

    def weight(self, node: Part) -> Weight:
        return self._weights.of(node)

    def region(self, node: Compare) -> Region:
        """The set that a comparison is."""
        found = self._regions.get(node)
        if found is None:
            found = self._regions[node] = self._region(node)
        return found

    def settled(self, lhs: Index, op: CompareOp, rhs: Index) -> bool | None:
        """Whether `lhs op rhs`, where bounds tell."""
        terms, constant = split(sub(lhs, rhs))
        within = self.sum_bounds(terms)
        reached = within[0] + constant, within[1] + constant
        allowed = intersection(_ALLOWED[op], (reached,))
        return (allowed == (reached,) or None) if allowed else False

    def sum_bounds(self, terms: Terms) -> Range:
        """The bounds of a sum, knowing that k < K, b < B and h < H."""
        low = high = 0
        factors = dict[str, int]()
        for base, factor in terms:
            if isinstance(base, Var):
                factors[base.name] = factor
            ends = [factor * end for end in self.bounds(base)]
            low, high = low + min(ends), high + max(ends)
        for position, size in _SIZES.items():
            if position in factors and size in factors and self.domain is None:
                at, of, most = factors[position], factors[size], ANYWHERE.bounds(size)[0]
                # The corners of 0 <= position < size <= most, and of the same without position < size.
                inside = of, of * most, at * (most - 1) + of * most
                outside = *inside, at * (most - 1) + of
                low += min(inside) - min(outside)
                high += max(inside) - max(outside)
        return clamped(low), clamped(high)

    def fits(self, *parts: Index) -> bool:
        """Whether integers and their difference stay within 64 bits in every call in question.

        Of tables that are not given the entries are taken to leave room for a few operations.
        """
        return sum(self._likely.reach(part) for part in parts) in INT64

    def _region(self, node: Compare) -> Region:
        terms, constant = split(sub(node.lhs, node.rhs))
        values = moved(_ALLOWED[node.op], -constant)
        through: list[str] = []
        while True:
            factor = reduce(gcd, (abs(each) for _, each in terms))
            if factor > 1:
                terms = tuple((base, each // factor) for base, each in terms)
                values = divided(values, factor)
                through.append("factor")
            inner = _inside(terms)
            if inner is None:
                return Region(terms, values, self.sum_bounds(terms), tuple(through))
            arg, by = inner
            if terms[0][1] < 0:
                values = mirrored(values)
            values = with_quotient_in(values, by) if by else with_magnitude_in(values)
            through.append("quotient" if by else "magnitude")
            terms, constant = split(arg)
            values = moved(values, -constant)

    def _variable(self, name: str) -> Bounds:
        if self.domain is not None:
            return self.domain.bounds(name)
        low, high = ANYWHERE.bounds(name)
        return (1 if name in "QKBH" else low), high

    def _entries(self, name: str) -> Bounds:
        return self._bounds_of(name, (INT64[0], INT64[-1]))

    def _likely_entries(self, name: str) -> Bounds:
        return self._bounds_of(name, (-_LIKELY_ENTRY, _LIKELY_ENTRY))

    def _bounds_of(self, name: str, unknown: Bounds) -> Bounds:
        data = self.tables.get(name)
        return unknown if data is None or data.array.dtype.kind == "f" else data.bounds


def turned(key: Key) -> Key:
    """The key of the negative of a sum."""
    return frozenset((base, -factor) for base, factor in key)


def _inside(terms: Terms) -> tuple[Index, int] | None:
    """The argument of an absolute value, or of a quotient with its divisor, where the sum is ± such a one."""
    match terms:
        case ((Abs(arg), 1 | -1),):
            return arg, 0
        case ((FloorDiv(arg, Const(by)), 1 | -1),) if by > 0:
            return arg, by
    return None


def split(node: Index) -> tuple[Terms, int]:
    """A sum as its terms and its constant."""
    constant = 0
    terms: list[tuple[Index, int]] = []
    for term in node.terms if isinstance(node, Add) else (node,):
        factor, base = split_coefficient(term)
        if base is None:
            constant = factor
        else:
            terms.append((base, factor))
    return tuple(terms), constant
