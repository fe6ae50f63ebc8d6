"""Arithmetic on traced values as torch does it: promotion, wrap-around, floats that are exact."""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from fractions import Fraction
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from attnmask.ir import index, predicate
from attnmask.ir.interval import Intervals
from attnmask.ir.lift.values import (
    FLOATS,
    INTEGERS,
    Cells,
    Operand,
    Profile,
    Ratio,
    Refused,
    Stack,
    kind,
    promoted,
)
from attnmask.ir.nodes import BoolTable, CompareOp, Const, Expr, Index, Predicate, Table, Where
from attnmask.ir.walk import children, postorder, substitute, variables

Comparison = CompareOp | Literal[">", ">="]
_MOST_CASES = 4
_LARGEST_EXPANDED = 32  # parts of an expression; choices in larger ones are left as they are
_ONE, _ZERO = index.const(1), index.const(0)


class Numbers:
    """Turns operands into IR, given bounds of every integer over the positions of the trace."""

    def __init__(
        self, intervals: Intervals, default_float: str, named: Callable[[NDArray[np.int64], str], str]
    ) -> None:
        self.intervals = intervals
        self.default_float = default_float
        self.named = named
        self.powers: dict[int, str] = {}

    def power_of_two(self, exponent: Index, most: int) -> Index:
        """2 to an exponent that lies in 0 … most: an entry of a table of the powers."""
        if most not in self.powers:
            entries = np.left_shift(np.int64(1), np.arange(most + 1))
            self.powers[most] = self.named(entries, "powers_of_two")
        return index.table(self.powers[most], (exponent,))

    # ---- dtypes --------------------------------------------------------------------------------------

    def common(self, *operands: Operand) -> str:
        """The dtype that torch computes in; Python numbers count for their kind alone."""
        dtype = ""
        for operand in operands:
            if not operand.weak:
                dtype = promoted(dtype, operand.dtype) if dtype else operand.dtype
        for operand in operands:
            if operand.weak and kind(operand.dtype) > kind(dtype or "bool"):
                dtype = operand.dtype
        for operand in operands:
            if operand.weak and dtype in INTEGERS and isinstance(operand.value, Const):
                self._require_fit(operand.value, dtype)
        return dtype or "bool"

    def _require_fit(self, number: Const, dtype: str) -> None:
        if number.value not in INTEGERS[dtype]:
            # torch would wrap the number around, or not, depending on how it is called.
            raise Refused(
                f"the number {number.value} does not fit into {dtype}", "use int64 tensors", final=True
            )

    def is_float(self, dtype: str) -> bool:
        """Whether numbers of this dtype are floats; Refused for those that have no integer form at all."""
        if dtype in FLOATS:
            return True
        if dtype not in INTEGERS and dtype != "bool":
            raise Refused(f"numbers of type {dtype} have no integer form", "compute positions in integers")
        return False

    # ---- integers and truth values -------------------------------------------------------------------

    def integer(self, operand: Operand) -> Index:
        """The operand as an integer; truth values count 1 and 0."""
        value = operand.value
        match value:
            case Ratio():
                return self.truncated(value)
            case Cells(name):
                raise Refused(f"the tensor '{name}' still has dimensions without an index")
            case Stack():
                raise Refused("stacked values are used as one", "reduce them with any, all or sum")
            case Profile():
                raise Refused(f"{operand.dtype} values have no integer form here")
        return predicate.where(value, _ONE, _ZERO) if isinstance(value, Predicate) else value

    def truth(self, operand: Operand) -> Predicate:
        """Whether the operand is not zero."""
        value = operand.value
        if isinstance(value, Predicate):
            return value
        number = value.numerator if isinstance(value, Ratio) else self.integer(operand)
        return self.compared(number, "!=", _ZERO)

    def made(self, value: Index, dtype: str) -> Operand:
        """An integer as its dtype holds it: what leaves the range comes back at the other end."""
        allowed = INTEGERS[dtype]
        if self.within(value, allowed):
            return Operand(value, dtype)
        if dtype == "int64":
            raise Refused("the value may leave 64 bits, where torch wraps around", "use smaller factors")
        first = index.const(allowed.start)
        within = index.mod(index.sub(value, first), index.const(allowed.stop - allowed.start))
        return Operand(index.add(within, first), dtype)

    def within(self, value: Index, allowed: range) -> bool:
        low, high = self.intervals.of(value)
        return low in allowed and high in allowed

    def never_zero(self, value: Index) -> bool:
        low, high = self.intervals.of(value)
        return low > 0 or high < 0

    def never_negative(self, value: Index) -> bool:
        return self.intervals.of(value)[0] >= 0

    # ---- comparisons ---------------------------------------------------------------------------------

    def compare(self, lhs: Operand, op: Comparison, rhs: Operand) -> Operand:
        dtype = self.common(lhs, rhs)
        if self.is_float(dtype):
            return Operand(self._compared_ratios(self.ratio(lhs, dtype), op, self.ratio(rhs, dtype)), "bool")
        self.require_comparable(lhs, rhs)
        left, right = lhs.value, rhs.value
        if isinstance(left, Predicate) and isinstance(right, Predicate) and op in ("==", "!="):
            differ = predicate.xor(left, right)
            return Operand(differ if op == "!=" else predicate.not_(differ), "bool")
        return Operand(self.compared(self.integer(lhs), op, self.integer(rhs)), "bool")

    def require_comparable(self, lhs: Operand, rhs: Operand) -> None:
        """Refused for a captured number beside values of a dtype that it does not fit into.

        torch's vmap takes such a number to the dtype of what it is compared with or chosen against, and cuts it off.
        """
        for captured, other in ((lhs, rhs), (rhs, lhs)):
            value = captured.value
            if not isinstance(value, Table) or value.indices or other.weak or other.dtype not in INTEGERS:
                continue
            if not self.within(value, INTEGERS[other.dtype]):
                raise Refused(f"a number that may not fit into {other.dtype} meets such values", final=True)

    def compared(self, lhs: Index, op: Comparison, rhs: Index) -> Predicate:
        """`lhs op rhs`, case by case where a side chooses by a condition on q and k.

        Bounds of such a choice would have to cover both branches; a case has one.
        """
        return self._by_cases(lhs, op, rhs, _MOST_CASES)

    def _by_cases(self, lhs: Index, op: Comparison, rhs: Index, most: int) -> Predicate:
        choice = _choice(lhs, rhs) if most and len(postorder(lhs, rhs)) <= _LARGEST_EXPANDED else None
        if choice is not None:
            cases = []
            for condition, branch in (
                (choice.condition, choice.then),
                (predicate.not_(choice.condition), choice.other),
            ):
                left, right = (substitute(side, {choice: branch}) for side in (lhs, rhs))
                cases.append(predicate.and_(condition, self._by_cases(left, op, right, most - 1)))
            return predicate.or_(*cases)
        match lhs, rhs:
            case (Where(condition, Const(a), Const(b)), Const(c)) | (
                Const(c),
                Where(condition, Const(a), Const(b)),
            ):
                flip = isinstance(lhs, Const)
                then, other = ((c, a), (c, b)) if flip else ((a, c), (b, c))
                holds = [predicate.compare(index.const(x), op, index.const(y)) for x, y in (then, other)]
                if holds[0] is holds[1]:
                    return holds[0]
                return condition if holds[0] is predicate.TRUE else predicate.not_(condition)
        return predicate.compare(lhs, op, rhs)

    # ---- floats --------------------------------------------------------------------------------------

    def ratio(self, operand: Operand, dtype: str) -> Ratio:
        """The operand as a float of the dtype; Refused unless it is exact there."""
        value = operand.value
        if isinstance(value, Ratio):
            if operand.dtype != dtype and not operand.weak:
                self._require_exact(value)
            if operand.weak:
                return _rounded(value, dtype)
            return self.exact(value.numerator, value.denominator, dtype) if value.exact else value
        return self.exact(self.integer(operand), 1, dtype)

    def exact(self, numerator: Index, denominator: int, dtype: str) -> Ratio:
        """A ratio that floats hold exactly; the denominator is a power of two."""
        if denominator > 1 << 62:
            raise Refused("a float is smaller than an integer form can say")
        if not self.within(numerator, _up_to(1 << FLOATS[dtype])):
            raise Refused(
                f"{dtype} holds integers exactly up to 2**{FLOATS[dtype]} only, and this one may be larger",
                "stay with integers: // divides them",
            )
        return Ratio(numerator, denominator, True)

    def quotient(self, lhs: Ratio, rhs: Ratio, dtype: str) -> Ratio:
        if not isinstance(rhs.numerator, Const) or rhs.numerator.value == 0:
            raise Refused("a quotient by a number that varies has no integer form", "use // on integers")
        self._require_exact(lhs, rhs)
        share = Fraction(rhs.denominator, rhs.numerator.value * lhs.denominator)
        numerator = index.mul(lhs.numerator, index.const(share.numerator))
        if share.denominator & (share.denominator - 1) == 0:
            return self.exact(numerator, share.denominator, dtype)
        limit = 1 << FLOATS[dtype] - 1
        if share.denominator >= limit or not self.within(numerator, _up_to(limit)):
            raise Refused(
                f"{dtype} may round this quotient across an integer", "use // on integers, which is exact"
            )
        return Ratio(numerator, share.denominator, False)

    def aligned(self, ratios: Sequence[Ratio], dtype: str) -> tuple[list[Index], int]:
        """Numerators over one denominator; Refused unless all are exact."""
        self._require_exact(*ratios)
        denominator = max(ratio.denominator for ratio in ratios)
        factors = [index.const(denominator // ratio.denominator) for ratio in ratios]
        return [index.mul(r.numerator, f) for r, f in zip(ratios, factors, strict=True)], denominator

    def truncated(self, ratio: Ratio) -> Index:
        """Towards zero, as a cast to an integer."""
        down = index.floordiv(ratio.numerator, index.const(ratio.denominator))
        if ratio.denominator == 1 or self.never_negative(ratio.numerator):
            return down
        up = index.neg(index.floordiv(index.neg(ratio.numerator), index.const(ratio.denominator)))
        return predicate.where(predicate.compare(ratio.numerator, "<", _ZERO), up, down)

    def _compared_ratios(self, lhs: Ratio, op: Comparison, rhs: Ratio) -> Predicate:
        for rounded, other in ((lhs, rhs), (rhs, lhs)):
            if not rounded.exact and (not other.exact or other.denominator != 1):
                raise Refused("rounded floats are compared", "compare integers")
        left = index.mul(lhs.numerator, index.const(rhs.denominator))
        return self.compared(left, op, index.mul(rhs.numerator, index.const(lhs.denominator)))

    def _require_exact(self, *ratios: Ratio) -> None:
        if not all(ratio.exact for ratio in ratios):
            raise Refused("arithmetic goes on with a rounded float", "use // on integers, which is exact")


def _choice(*roots: Index) -> Where | None:
    """A choice by a condition on q and k together, outside of the indices of tables."""
    pending: list[Expr] = list(roots)
    seen: set[Expr] = set()
    while pending:
        node = pending.pop()
        if node in seen:
            continue
        seen.add(node)
        if isinstance(node, Where) and variables(node.condition) >= {"q", "k"}:
            return node
        if not isinstance(node, Table | BoolTable):
            pending.extend(children(node))
    return None


def _up_to(limit: int) -> range:
    return range(-limit, limit + 1)


def number(value: bool | int | float, default_float: str) -> Operand:
    """A Python number."""
    if isinstance(value, bool):
        return Operand(predicate.truth(value), "bool", weak=True)
    if isinstance(value, int):
        return Operand(index.const(value), "int64", weak=True)
    if value in (float("inf"), float("-inf")) or value != value:
        raise Refused(f"{value} has no integer form")
    exact = Fraction(value)
    return Operand(Ratio(index.const(exact.numerator), exact.denominator, True), default_float, weak=True)


def _rounded(ratio: Ratio, dtype: str) -> Ratio:
    """A Python float as the dtype holds it."""
    assert isinstance(ratio.numerator, Const), "a Python float is a constant"
    value = ratio.numerator.value / ratio.denominator
    if dtype == "float32":
        (value,) = struct.unpack("f", struct.pack("f", value))
    exact = Fraction(value)
    return Ratio(index.const(exact.numerator), exact.denominator, True)
