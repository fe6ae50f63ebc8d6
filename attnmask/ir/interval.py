"""Bounds of integers over all positions of a call, by interval arithmetic on Python's unlimited integers."""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import cast

from attnmask.ir.kinds import is_index
from attnmask.ir.nodes import (
    Abs,
    Add,
    BitOp,
    Const,
    Expr,
    FloorDiv,
    Index,
    Max,
    Min,
    Mod,
    Mul,
    Table,
    Var,
    Where,
)
from attnmask.ir.walk import children

Bounds = tuple[int, int]


class Intervals:
    """The least and the largest value that index expressions may have, children before parents.

    `variable` bounds q, k, b, h and the sizes, `entries` the entries of a table. Divisors are taken not to be
    zero. Bounds are sound, and may be wider than what is reached.
    """

    def __init__(self, variable: Callable[[str], Bounds], entries: Callable[[str], Bounds]) -> None:
        self.variable = variable
        self.entries = entries
        self.known: dict[Expr, Bounds] = {}

    def of(self, root: Index) -> Bounds:
        stack: list[Index] = [root]
        while stack:
            node = stack[-1]
            below = [cast(Index, child) for child in children(node) if is_index(child)]
            unknown = [child for child in below if child not in self.known]
            if unknown:
                stack += unknown
                continue
            stack.pop()
            if node not in self.known:
                self.known[node] = self._interval(node)
        return self.known[root]

    def reach(self, node: Index) -> int:
        """The largest magnitude on the way to the value, partial sums included."""
        low, high = self.of(node)
        if isinstance(node, Add):
            return sum(max(abs(end) for end in self.of(term)) for term in node.terms)
        return max(abs(low), abs(high))

    def _interval(self, node: Index) -> Bounds:
        parts = [self.known[child] for child in children(node) if is_index(child)]
        match node:
            case Const(value):
                return value, value
            case Var(name):
                return self.variable(name)
            case Add():
                return sum(low for low, _ in parts), sum(high for _, high in parts)
            case Mul():
                return reduce(_product, parts)
            case FloorDiv():
                return _quotient(*parts)
            case Mod():
                return _remainder(*parts)
            case Min():
                return min(low for low, _ in parts), min(high for _, high in parts)
            case Max():
                return max(low for low, _ in parts), max(high for _, high in parts)
            case Abs():
                low, high = parts[0]
                return (0 if low <= 0 <= high else min(abs(low), abs(high))), max(abs(low), abs(high))
            case BitOp():
                return _bits(*parts)
            case Where():
                return min(low for low, _ in parts), max(high for _, high in parts)
            case Table(name):
                return self.entries(name)


def _product(left: Bounds, right: Bounds) -> Bounds:
    corners = [a * b for a in left for b in right]
    return min(corners), max(corners)


def _quotient(left: Bounds, right: Bounds) -> Bounds:
    # Zero is excluded, so the divisor's candidates are its ends and the integers next to zero.
    divisors = {d for d in (*right, -1, 1) if right[0] <= d <= right[1] and d != 0}
    corners = [a // d for a in left for d in divisors or {1}]
    return min(corners), max(corners)


def _remainder(left: Bounds, right: Bounds) -> Bounds:
    low, high = min(right[0] + 1, 0), max(right[1] - 1, 0)
    if right[0] > 0 and left[0] >= 0:
        return (0, min(high, left[1])) if left[1] >= right[0] else left
    return low, high


def _bits(left: Bounds, right: Bounds) -> Bounds:
    width = max(abs(end).bit_length() for end in (*left, *right))
    low = 0 if left[0] >= 0 and right[0] >= 0 else -(1 << width)
    return low, (1 << width) - 1
