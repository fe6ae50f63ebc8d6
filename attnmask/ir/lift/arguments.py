"""Arguments of torch's operations: shapes, dtypes, what positions they depend on; and which operations take them."""

from __future__ import annotations

from typing import Any

from attnmask.ir.lift.shapes import dtype_name
from attnmask.ir.lift.traced import Traced
from attnmask.ir.lift.values import Axis, Cells, Operand, Profile, Ratio, Stack
from attnmask.ir.nodes import Var, VarName
from attnmask.ir.walk import variables

POSITIONS: tuple[VarName, ...] = ("b", "h", "q", "k")
# Each of their results depends on the same position of their arguments alone.
POINTWISE = frozenset(
    {
        *("add", "sub", "rsub", "mul", "div", "truediv", "floordiv", "floor_divide", "remainder"),
        *("mod", "fmod", "pow", "neg", "abs", "square", "sqrt", "rsqrt", "exp"),
        *("exp2", "log", "log2", "log1p", "sin", "cos", "tanh", "sigmoid", "round"),
        *("floor", "ceil", "trunc", "frac", "sign", "minimum", "maximum", "clamp", "clip"),
        *("where", "lt", "le", "gt", "ge", "eq", "ne", "isnan", "isfinite"),
        *(
            "isinf",
            "logical_not",
            "logical_and",
            "logical_or",
            "logical_xor",
            "to",
            "float",
            "double",
            "long",
        ),
        *("int", "bool", "reciprocal", "hypot", "atan2", "lerp", "and", "or", "xor"),
        *("invert", "lshift", "rshift", "bitwise_left_shift", "bitwise_right_shift"),
    }
)
REDUCTIONS = frozenset({"any", "all", "sum", "amax", "amin", "max", "min"})
# What tells zeros of different signs apart.
BY_ZERO = frozenset({"truediv", "div", "true_divide", "divide", "reciprocal", "rsqrt", "pow", "atan2"})
# The first tensor is looked things up in; the traced value is what is looked up.
LOOK_UPS = {"searchsorted": 1, "bucketize": 0, "isin": 0}


def shape_of(value: Any) -> tuple[int, ...]:
    """The shape that an argument has for the function."""
    if isinstance(value, Traced):
        found = value.operand.value
        return found.shape if isinstance(found, Profile) else ()
    return tuple(value.shape) if hasattr(value, "__torch_function__") else ()


def rank_of(value: Any) -> int:
    return len(shape_of(value))


def dtype_of(value: Any) -> str | None:
    """The dtype of a tensor; None for Python's numbers, which have none."""
    if isinstance(value, Traced):
        return None if value.operand.weak else value.operand.dtype
    return dtype_name(value.dtype) if hasattr(value, "__torch_function__") else None


def place_of(axis: Axis) -> tuple[int, str]:
    """Positions first, in the order b, h, q, k."""
    if isinstance(axis.at, Var):
        return POSITIONS.index(axis.at.name), ""
    return len(POSITIONS), repr(axis.at)


def variables_of(operand: Operand) -> frozenset[VarName]:
    match operand.value:
        case Profile(axes, _):
            return frozenset(name for axis in axes for name in variables(axis.at))
        case Cells(_, _, slots):
            return frozenset(name for slot in slots if slot is not None for name in variables(slot))
        case Stack(parts):
            return frozenset(name for part in parts for name in variables_of(part))
        case Ratio(numerator, _, _):
            return variables(numerator)
        case value:
            return variables(value)
