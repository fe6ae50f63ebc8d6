"""What a traced function computes with: torch's 0-d tensors as expressions of the IR."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from attnmask.ir.nodes import Index, Predicate

INTEGERS = {
    "uint8": range(2**8),
    "int8": range(-(2**7), 2**7),
    "int16": range(-(2**15), 2**15),
    "int32": range(-(2**31), 2**31),
    "int64": range(-(2**63), 2**63),
}
_PROMOTED = frozenset({*INTEGERS, "bool", "float16", "bfloat16", "float32", "float64"})
# Bits of the significand: integers of this magnitude are exact.
FLOATS = {"float32": 24, "float64": 53}


class Refused(Exception):
    """An operation that has no integer form; `Trace` adds the place in the user's function."""

    def __init__(self, message: str, hint: str | None = None, *, final: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.final = final  # nothing else is worth trying, or worth saying


@dataclass(frozen=True, slots=True)
class Ratio:
    """A float: `numerator / denominator`, the denominator a positive constant.

    `exact`: the float is that number. Otherwise it is the nearest float to it, and the numerator is so small
    that it still lies on the same side of every integer.
    """

    numerator: Index
    denominator: int
    exact: bool


@dataclass(frozen=True, slots=True)
class Cells:
    """A captured tensor, some of whose dimensions have got an index; None stands for those that have not."""

    name: str
    shape: tuple[int, ...]
    slots: tuple[Index | None, ...]

    @property
    def open(self) -> tuple[int, ...]:
        """The dimensions that still need an index."""
        return tuple(axis for axis, slot in enumerate(self.slots) if slot is None)


@dataclass(frozen=True, slots=True)
class Axis:
    """An integer expression (mostly a variable) and the values that it may take: low, low + 1, …, `size` of them."""

    at: Index
    low: int
    size: int


@dataclass(frozen=True, slots=True, eq=False)
class Profile:
    """A float, or a whole tensor, for all values of some axes: a dimension for each, then those of the tensor."""

    axes: tuple[Axis, ...]
    tensor: Any

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape that the function sees."""
        return tuple(self.tensor.shape[len(self.axes) :])

    def over(self, axes: tuple[Axis, ...], rank: int) -> Any:
        """The tensor with dimensions of size 1 for further axes, and for `rank` dimensions after them."""
        sizes = dict(zip(self.axes, self.tensor.shape, strict=False))
        filled = (1,) * (rank - len(self.shape))
        return self.tensor.reshape((*(sizes.get(axis, 1) for axis in axes), *filled, *self.shape))


@dataclass(frozen=True, slots=True)
class Stack:
    """Several values side by side, as torch.stack puts them, to be reduced to one."""

    parts: tuple[Operand, ...]


@dataclass(frozen=True, slots=True)
class Operand:
    """A value with the name of its dtype; `weak` is a Python number, which widens no tensor of its kind."""

    value: Index | Predicate | Ratio | Cells | Profile | Stack
    dtype: str
    weak: bool = False


def promoted(left: str, right: str) -> str:
    """torch's promotion of two dtypes of 0-d tensors."""
    if left == right or right == "bool":
        return left
    if left == "bool":
        return right
    if not {left, right} <= _PROMOTED:
        raise Refused(f"{left} and {right} are combined")
    floats = [name for name in (left, right) if name not in INTEGERS]
    if floats:
        halves = set(floats) == {"float16", "bfloat16"}
        return "float32" if halves else max(floats, key=lambda name: FLOATS.get(name, 0))
    if "uint8" in (left, right):
        left, right = (right if left == "uint8" else left), "int16"
        return right if left == "int8" else left
    return max(left, right, key=lambda name: INTEGERS[name].stop)


def kind(dtype: str) -> int:
    """0 for bool, 1 for integers, 2 for floats: what promotion looks at first."""
    return 0 if dtype == "bool" else 1 if dtype in INTEGERS else 2
