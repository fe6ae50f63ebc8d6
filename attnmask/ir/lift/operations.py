"""What torch's operations mean for traced values: one rule an operation, under the name that torch gives it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeVar

from attnmask.ir import index, predicate
from attnmask.ir.lift.numbers import Comparison, Numbers
from attnmask.ir.lift.values import INTEGERS, Operand, Ratio, Refused
from attnmask.ir.nodes import BitOpName, Const, Index, Predicate

Rule = Callable[..., Operand]
R = TypeVar("R", bound=Rule)
RULES: dict[str, Rule] = {}
_ZERO = index.const(0)


def rule(*names: str) -> Callable[[R], R]:
    def register(function: R) -> R:
        RULES.update(dict.fromkeys(names, function))
        return function

    return register


# ---- arithmetic --------------------------------------------------------------------------------------


@rule("add")
def add(n: Numbers, lhs: Operand, rhs: Operand, *, alpha: int = 1) -> Operand:
    dtype = n.common(lhs, rhs)
    if type(alpha) is not int or not alpha:
        raise Refused("alpha is used in a way that has no integer form")
    if dtype == "bool":
        return Operand(predicate.or_(n.truth(lhs), n.truth(rhs)), dtype)
    if n.is_float(dtype):
        (left, right), denominator = n.aligned([n.ratio(lhs, dtype), n.ratio(rhs, dtype)], dtype)
        total = index.add(left, index.mul(index.const(alpha), right))
        return Operand(n.exact(total, denominator, dtype), dtype)
    right = index.mul(index.const(alpha), n.integer(rhs))
    return n.made(index.add(n.integer(lhs), right), dtype)


@rule("sub", "subtract")
def sub(n: Numbers, lhs: Operand, rhs: Operand, *, alpha: int = 1) -> Operand:
    _require_number(n.common(lhs, rhs), "a difference")
    return add(n, lhs, rhs, alpha=-alpha)


@rule("mul", "multiply")
def mul(n: Numbers, lhs: Operand, rhs: Operand) -> Operand:
    dtype = n.common(lhs, rhs)
    if dtype == "bool":
        return Operand(predicate.and_(n.truth(lhs), n.truth(rhs)), dtype)
    if n.is_float(dtype):
        left, right = n.ratio(lhs, dtype), n.ratio(rhs, dtype)
        if not (left.exact and right.exact):
            raise Refused("arithmetic goes on with a rounded float", "use // on integers, which is exact")
        product = index.mul(left.numerator, right.numerator)
        return Operand(n.exact(product, left.denominator * right.denominator, dtype), dtype)
    return n.made(index.mul(n.integer(lhs), n.integer(rhs)), dtype)


@rule("truediv", "true_divide", "div", "divide")
def div(n: Numbers, lhs: Operand, rhs: Operand, *, rounding_mode: str | None = None) -> Operand:
    if rounding_mode == "floor":
        return floor_divide(n, lhs, rhs)
    dtype = n.common(lhs, rhs)
    if rounding_mode == "trunc" and not n.is_float(dtype):
        return n.made(_truncated_quotient(n, n.integer(lhs), n.integer(rhs)), dtype)
    if not n.is_float(dtype):
        dtype = n.default_float
        n.is_float(dtype)
    share = n.quotient(n.ratio(lhs, dtype), n.ratio(rhs, dtype), dtype)
    return Operand(share, dtype) if rounding_mode is None else trunc(n, Operand(share, dtype))


@rule("floordiv", "floor_divide")
def floor_divide(n: Numbers, lhs: Operand, rhs: Operand) -> Operand:
    dtype = n.common(lhs, rhs)
    _require_number(dtype, "a quotient")
    if n.is_float(dtype):
        return floor(n, Operand(n.quotient(n.ratio(lhs, dtype), n.ratio(rhs, dtype), dtype), dtype))
    return n.made(index.floordiv(n.integer(lhs), n.integer(rhs)), dtype)


@rule("mod", "remainder")
def remainder(n: Numbers, lhs: Operand, rhs: Operand) -> Operand:
    dtype = n.common(lhs, rhs)
    _require_integer(n, dtype, "a remainder")
    return n.made(index.mod(n.integer(lhs), n.integer(rhs)), dtype)


@rule("fmod")
def fmod(n: Numbers, lhs: Operand, rhs: Operand) -> Operand:
    dtype = n.common(lhs, rhs)
    _require_integer(n, dtype, "a remainder")
    left, right = n.integer(lhs), n.integer(rhs)
    return n.made(index.sub(left, index.mul(_truncated_quotient(n, left, right), right)), dtype)


def _truncated_quotient(n: Numbers, lhs: Index, rhs: Index) -> Index:
    """The quotient rounded towards zero; the floor of the magnitudes, with the sign of both."""
    if n.never_negative(lhs) and n.never_negative(rhs):
        return index.floordiv(lhs, rhs)
    size = index.floordiv(index.absolute(lhs), index.absolute(rhs))
    opposite = predicate.xor(predicate.compare(lhs, "<", _ZERO), predicate.compare(rhs, "<", _ZERO))
    return predicate.where(opposite, index.neg(size), size)


@rule("neg", "negative")
def neg(n: Numbers, arg: Operand) -> Operand:
    _require_number(arg.dtype, "a negation")
    if isinstance(arg.value, Ratio):
        ratio = arg.value
        return Operand(Ratio(index.neg(ratio.numerator), ratio.denominator, ratio.exact), arg.dtype)
    return n.made(index.neg(n.integer(arg)), arg.dtype)


@rule("pos", "positive")
def positive(n: Numbers, arg: Operand) -> Operand:
    return arg


@rule("abs", "absolute")
def absolute(n: Numbers, arg: Operand) -> Operand:
    _require_number(arg.dtype, "an absolute value")
    if isinstance(arg.value, Ratio):
        ratio = arg.value
        return Operand(Ratio(index.absolute(ratio.numerator), ratio.denominator, ratio.exact), arg.dtype)
    return n.made(index.absolute(n.integer(arg)), arg.dtype)


@rule("square")
def square(n: Numbers, arg: Operand) -> Operand:
    return power(n, arg, Operand(index.const(2), "int64", weak=True))


@rule("pow")
def power(n: Numbers, lhs: Operand, rhs: Operand) -> Operand:
    if not isinstance(rhs.value, Const) or not 0 < rhs.value.value <= 8:
        raise Refused("a power with this exponent has no integer form", "write a product")
    dtype = n.common(lhs, rhs)
    result = lhs if lhs.dtype == dtype else n.made(n.integer(lhs), dtype)
    for _ in range(rhs.value.value - 1):
        result = mul(n, result, lhs)
    return result


# ---- minima and maxima -------------------------------------------------------------------------------


@rule("minimum", "min", "fmin")
def minimum(n: Numbers, lhs: Operand, rhs: Operand) -> Operand:
    return _extreme(n, "min", lhs, rhs)


@rule("maximum", "max", "fmax")
def maximum(n: Numbers, lhs: Operand, rhs: Operand) -> Operand:
    return _extreme(n, "max", lhs, rhs)


def _extreme(n: Numbers, which: Literal["min", "max"], lhs: Operand, rhs: Operand) -> Operand:
    dtype = n.common(lhs, rhs)
    n.require_comparable(lhs, rhs)
    if dtype == "bool":
        join = predicate.and_ if which == "min" else predicate.or_
        return Operand(join(n.truth(lhs), n.truth(rhs)), dtype)
    choose = index.minimum if which == "min" else index.maximum
    if n.is_float(dtype):
        numerators, denominator = n.aligned([n.ratio(lhs, dtype), n.ratio(rhs, dtype)], dtype)
        return Operand(n.exact(choose(*numerators), denominator, dtype), dtype)
    return Operand(choose(n.integer(lhs), n.integer(rhs)), dtype)


@rule("clamp", "clip")
def clamp(n: Numbers, arg: Operand, min: Operand | None = None, max: Operand | None = None) -> Operand:
    if min is None and max is None:
        raise Refused("clamp has no bound")
    for which, bound in (("max", min), ("min", max)):
        if bound is not None:
            arg = _extreme(n, "max" if which == "max" else "min", arg, bound)
    return arg


@rule("clamp_min")
def clamp_min(n: Numbers, arg: Operand, min: Operand) -> Operand:
    return maximum(n, arg, min)


@rule("clamp_max")
def clamp_max(n: Numbers, arg: Operand, max: Operand) -> Operand:
    return minimum(n, arg, max)


# ---- rounding ----------------------------------------------------------------------------------------


@rule("floor")
def floor(n: Numbers, arg: Operand) -> Operand:
    if not isinstance(arg.value, Ratio):
        _require_number(arg.dtype, "a rounding")
        return Operand(n.integer(arg), arg.dtype)
    down = index.floordiv(arg.value.numerator, index.const(arg.value.denominator))
    return Operand(n.exact(down, 1, arg.dtype), arg.dtype)


@rule("ceil")
def ceil(n: Numbers, arg: Operand) -> Operand:
    return floor(n, arg) if not isinstance(arg.value, Ratio) else neg(n, floor(n, neg(n, arg)))


@rule("trunc", "fix")
def trunc(n: Numbers, arg: Operand) -> Operand:
    if not isinstance(arg.value, Ratio):
        return floor(n, arg)
    return Operand(n.exact(n.truncated(arg.value), 1, arg.dtype), arg.dtype)


# ---- comparisons and logic ---------------------------------------------------------------------------


def _comparison(op: Comparison) -> Rule:
    return lambda n, lhs, rhs: n.compare(lhs, op, rhs)


COMPARISONS: dict[str, Comparison] = {
    **dict.fromkeys(("lt", "less"), "<"),
    **dict.fromkeys(("le", "less_equal"), "<="),
    **dict.fromkeys(("gt", "greater"), ">"),
    **dict.fromkeys(("ge", "greater_equal"), ">="),
    "eq": "==",
    **dict.fromkeys(("ne", "not_equal"), "!="),
}
for _comparator, _op in COMPARISONS.items():
    rule(_comparator)(_comparison(_op))


def _bitwise(op: BitOpName) -> Rule:
    def apply(n: Numbers, lhs: Operand, rhs: Operand) -> Operand:
        dtype = n.common(lhs, rhs)
        if dtype == "bool":
            return Operand(_joined(op, n.truth(lhs), n.truth(rhs)), dtype)
        _require_integer(n, dtype, "a bit operation")
        return n.made(index.bitop(op, n.integer(lhs), n.integer(rhs)), dtype)

    return apply


def _logical(op: BitOpName) -> Rule:
    return lambda n, lhs, rhs: Operand(_joined(op, n.truth(lhs), n.truth(rhs)), "bool")


def _joined(op: BitOpName, lhs: Predicate, rhs: Predicate) -> Predicate:
    match op:
        case "&":
            return predicate.and_(lhs, rhs)
        case "|":
            return predicate.or_(lhs, rhs)
        case "^":
            return predicate.xor(lhs, rhs)


_LOGIC: dict[str, BitOpName] = {"and": "&", "or": "|", "xor": "^"}
for _name, _symbol in _LOGIC.items():
    rule(_name, f"bitwise_{_name}")(_bitwise(_symbol))
    rule(f"logical_{_name}")(_logical(_symbol))


@rule("invert", "bitwise_not")
def invert(n: Numbers, arg: Operand) -> Operand:
    if isinstance(arg.value, Predicate):
        return logical_not(n, arg)
    _require_integer(n, arg.dtype, "a bit operation")
    return n.made(index.sub(index.neg(n.integer(arg)), index.const(1)), arg.dtype)


@rule("logical_not")
def logical_not(n: Numbers, arg: Operand) -> Operand:
    return Operand(predicate.not_(n.truth(arg)), "bool")


@rule("where")
def where(n: Numbers, condition: Operand, then: Operand, other: Operand) -> Operand:
    if not isinstance(condition.value, Predicate):
        raise Refused("the condition of where must be a truth value, not a number", "compare it: x != 0")
    dtype = n.common(then, other)
    n.require_comparable(then, other)
    if dtype == "bool":
        chosen = predicate.and_(condition.value, n.truth(then))
        rest = predicate.and_(predicate.not_(condition.value), n.truth(other))
        return Operand(predicate.or_(chosen, rest), dtype)
    if n.is_float(dtype):
        (left, right), denominator = n.aligned([n.ratio(then, dtype), n.ratio(other, dtype)], dtype)
        return Operand(Ratio(predicate.where(condition.value, left, right), denominator, True), dtype)
    return Operand(predicate.where(condition.value, n.integer(then), n.integer(other)), dtype)


# ---- shifts ------------------------------------------------------------------------------------------


@rule("lshift", "bitwise_left_shift")
def left_shift(n: Numbers, lhs: Operand, rhs: Operand) -> Operand:
    dtype = n.common(lhs, rhs)
    factor = _power_of_two(n, dtype, n.integer(rhs), "<<")
    return n.made(_ZERO if factor is None else index.mul(n.integer(lhs), factor), dtype)


@rule("rshift", "bitwise_right_shift")
def right_shift(n: Numbers, lhs: Operand, rhs: Operand) -> Operand:
    dtype = n.common(lhs, rhs)
    divisor = _power_of_two(n, dtype, n.integer(rhs), ">>")
    value = n.integer(lhs)
    if divisor is not None:
        return n.made(index.floordiv(value, divisor), dtype)
    # All bits leave on the right; the sign stays.
    return n.made(predicate.where(predicate.compare(value, "<", _ZERO), index.const(-1), _ZERO), dtype)


def _power_of_two(n: Numbers, dtype: str, amount: Index, op: str) -> Index | None:
    """2 to the amount; None where that moves every bit out of the dtype."""
    _require_integer(n, dtype, "a shift")
    width = 64 if dtype == "int64" else (INTEGERS[dtype].stop - INTEGERS[dtype].start).bit_length() - 1
    if isinstance(amount, Const):
        # 2**63 is no 64-bit integer, though a shift by 63 bits is a shift.
        if amount.value == 63:
            raise Refused(f"a shift by 63 bits has no integer form ({op})")
        return index.const(1 << amount.value) if 0 <= amount.value < width else None
    low, high = n.intervals.of(amount)
    if low < 0 or high >= min(width, 63):
        raise Refused(
            f"the amount of {op} may lie in {low}…{high}, outside 0…{min(width, 63) - 1}", "clamp it"
        )
    return n.power_of_two(amount, high)


# ---- what the result's type forbids --------------------------------------------------------------------


def _require_number(dtype: str, what: str) -> None:
    if dtype == "bool":
        raise Refused(f"torch has no {what.removeprefix('a ').removeprefix('an ')} of truth values")


def _require_integer(n: Numbers, dtype: str, what: str) -> None:
    _require_number(dtype, what)
    if n.is_float(dtype):
        raise Refused(f"{what} of floats has no integer form", "cast to integers first")
