"""Operations without an integer form: computed for all the values that their arguments may take.

What depends on q alone (or on k alone, and perhaps on b and h) has as many values as there are positions, and a
function of one integer as many as that integer has. torch itself computes them, in the user's own dtypes, and they
become a table: look-ups in tables of floats, square roots of distances, `searchsorted`. Only possible where the
lengths are known.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from attnmask.errors import MaskError
from attnmask.ir import index
from attnmask.ir.domain import Domain
from attnmask.ir.evaluate import evaluate
from attnmask.ir.lift.arguments import (
    BY_ZERO,
    LOOK_UPS,
    POINTWISE,
    POSITIONS,
    REDUCTIONS,
    dtype_of,
    place_of,
    rank_of,
    shape_of,
    variables_of,
)
from attnmask.ir.lift.captured import Captured
from attnmask.ir.lift.numbers import Comparison, Numbers
from attnmask.ir.lift.operations import COMPARISONS
from attnmask.ir.lift.shapes import complete, dtype_name, position
from attnmask.ir.lift.traced import Traced
from attnmask.ir.lift.values import (
    INTEGERS,
    Axis,
    Cells,
    Operand,
    Profile,
    Ratio,
    Refused,
    Stack,
    kind,
    promoted,
)
from attnmask.ir.nodes import Index, Predicate, Var, VarName
from attnmask.ir.predicate import compare
from attnmask.ir.walk import table_names

_MOST_VALUES = 1 << 24


class Context(Protocol):
    """What tabulating needs to know of the trace."""

    numbers: Numbers
    tables: Captured

    def operand(self, value: Any) -> Operand: ...
    def captured(self, tensor: Any) -> Operand: ...
    def named(self, tensor: Any, stem: str) -> str: ...


class Framework(Protocol):
    """torch, as far as tabulating needs it."""

    @property
    def dtypes(self) -> Mapping[str, Any]: ...
    def tensor(self, array: NDArray[Any], dtype: str) -> Any: ...
    def apply(self, name: str, function: Any, args: Sequence[Any], options: Mapping[str, Any]) -> Any: ...


@dataclass(frozen=True, slots=True)
class Tabulator:
    """Computes values for all positions of a call."""

    context: Context
    framework: Framework
    domain: Domain

    def call(self, name: str, function: Any, args: Sequence[Any], options: Mapping[str, Any]) -> Operand:
        """The operation's result as a table; Refused where it is not one of a single side."""
        if name == "__getitem__":
            return self._entry(*args)
        values = [*args, *options.values()]
        rank = max(map(rank_of, values))
        if name in COMPARISONS and not rank and self._sides(args) == {"q", "k"}:
            return self._compared(COMPARISONS[name], args)
        if name in REDUCTIONS:
            return self._reduced(name, *args, **options)
        if name in LOOK_UPS:
            return self._looked_up(name, function, args, options)
        if name not in POINTWISE:
            raise Refused("this operation cannot be lifted")
        if any(type(value) is float or type(value) is int for value in values):
            self._require_precise(values)
        if name in BY_ZERO:
            self._require_no_zero(values)
        axes = self._axes(values)
        if rank:
            self._require_one_meaning(name, values)
        self._require_size(axes, values)
        given = [self._argument(arg, axes, rank) for arg in args]
        kept = {key: self._argument(value, axes, rank) for key, value in options.items()}
        return self._made(self.framework.apply(name, function, given, kept), axes, name)

    def _require_precise(self, values: Sequence[Any]) -> None:
        """With half floats torch rounds Python's numbers, or not, depending on how it is called."""
        dtypes = {value.operand.dtype for value in values if isinstance(value, Traced)}
        if dtypes & {"float16", "bfloat16"}:
            raise Refused("a number is combined with floats of half precision", final=True)

    def _require_no_zero(self, values: Sequence[Any]) -> None:
        """A ratio knows no negative zero, and what divides by one would tell."""
        for value in values:
            ratio = value.operand.value if isinstance(value, Traced) else None
            if isinstance(ratio, Ratio) and not self.context.numbers.never_zero(ratio.numerator):
                raise Refused("a float that may be a zero of either sign divides", final=True)

    # ---- axes ------------------------------------------------------------------------------------------

    def _axes(self, values: Sequence[Any]) -> tuple[Axis, ...]:
        """What the traced values are functions of: positions, or else one integer that all of them are made of."""
        operands = [value.operand for value in values if isinstance(value, Traced)]
        axes = {axis for operand in operands for axis in self._own_axes(operand)}
        names = {axis.at.name for axis in axes if isinstance(axis.at, Var)}
        others = len(axes) - len(names)
        pairs = {"q", "k"} <= names or others > 1 or (others and names & {"q", "k"})
        if pairs and not any(axes <= set(self._own_axes(operand)) for operand in operands):
            raise Refused("this operation cannot be lifted")  # as many values as pairs, or more
        return tuple(sorted(axes, key=place_of))

    def _own_axes(self, operand: Operand) -> tuple[Axis, ...]:
        if isinstance(operand.value, Profile):
            return operand.value.axes
        used = variables_of(operand)
        if not {"q", "k"} <= used:
            return tuple(self._position(name) for name in POSITIONS if name in used)
        whole = operand.value.numerator if isinstance(operand.value, Ratio) else operand.value
        if not isinstance(whole, Index):
            raise Refused("this operation cannot be lifted")
        low, high = self.context.numbers.intervals.of(whole)
        return (Axis(whole, low, high - low + 1),)

    def _position(self, name: VarName) -> Axis:
        low, high = self.domain.bounds(name)
        return Axis(index.var(name), low, high - low + 1)

    def _sides(self, args: Sequence[Any]) -> set[str]:
        """Which of q and k each value depends on: {"q", "k"} where one has q alone, and the other k alone."""
        used = [variables_of(arg.operand) if isinstance(arg, Traced) else frozenset() for arg in args]
        return {"".join(name for name in "qk" if name in names) for names in used}

    # ---- arguments -------------------------------------------------------------------------------------

    def _argument(self, value: Any, axes: tuple[Axis, ...], rank: int = 0) -> Any:
        """A tensor with a dimension for each axis and `rank` more, of size 1 where it does not depend on them."""
        if isinstance(value, Traced):
            return self._values(value.operand, axes, rank)
        if hasattr(value, "__torch_function__"):
            return value.reshape((1,) * (len(axes) + rank - value.ndim) + tuple(value.shape))
        return value

    def _require_one_meaning(self, name: str, values: Sequence[Any]) -> None:
        """Single values give way to tensors in promotion, or do not, depending on how torch is called.

        Refused unless all have one dtype of their kind; or are compared, and fit into the tensors' dtype.
        """
        dtypes = {dtype_of(value) for value in values if rank_of(value)}
        for value in values:
            dtype = dtype_of(value)
            if dtype is None or dtype == "bool" or rank_of(value):
                continue
            for other in dtypes - {dtype}:
                if other is None or kind(other) != kind(dtype):
                    continue
                fits = name in COMPARISONS and other in INTEGERS and self._fits(value, other)
                if not fits:
                    raise Refused(f"{dtype} and {other} values are combined", "use one dtype", final=True)

    def _fits(self, value: Any, dtype: str) -> bool:
        operand = self.context.operand(value)
        return isinstance(operand.value, Index) and self.context.numbers.within(
            operand.value, INTEGERS[dtype]
        )

    def _require_size(self, axes: tuple[Axis, ...], values: Sequence[Any]) -> None:
        largest = max([math.prod(shape_of(value)) for value in values], default=1)
        if largest * math.prod(axis.size for axis in axes) > _MOST_VALUES:
            raise Refused("the value is one of too many to be computed for all of them", final=True)

    def _values(self, operand: Operand, axes: tuple[Axis, ...], rank: int = 0) -> Any:
        value = operand.value
        filled = (1,) * rank
        match value:
            case Profile():
                return value.over(axes, rank)
            case Cells() | Stack():
                raise Refused("this operation cannot be lifted")
            case Ratio(numerator, denominator, _):
                whole = self.framework.tensor(self._evaluated(numerator, axes), operand.dtype)
                return (whole if denominator == 1 else whole / float(denominator)).reshape(
                    *whole.shape, *filled
                )
        whole = self.framework.tensor(self._evaluated(value, axes), operand.dtype)
        return whole.reshape(*whole.shape, *filled)

    def _evaluated(self, node: Index | Predicate, axes: tuple[Axis, ...]) -> NDArray[Any]:
        if math.prod(axis.size for axis in axes) > _MOST_VALUES:
            raise Refused("the value is one of too many to be computed for all of them", final=True)
        known: dict[str, NDArray[Any]] = {}
        for place, axis in enumerate(axes):
            numbers = np.arange(axis.low, axis.low + axis.size)
            shaped = numbers.reshape([-1 if place == other else 1 for other in range(len(axes))])
            if node is axis.at:
                return shaped
            if isinstance(axis.at, Var):
                known[axis.at.name] = shaped
        tables = {name: _on_host(self.context.tables.tensors[name]) for name in table_names(node)}
        values = evaluate(node, known, tables)
        return values.reshape(values.shape or (1,) * len(axes))

    # ---- operations ------------------------------------------------------------------------------------

    def _entry(self, source: Any, key: Any) -> Operand:
        keys = key if isinstance(key, tuple) else (key,)
        single = all(isinstance(item, Traced | int) for item in keys)
        if isinstance(source, Traced) or not single or len(keys) != source.ndim:
            raise Refused("this operation cannot be lifted")
        self.context.captured(source)  # which then may not change before the function returns
        axes: list[Axis] = []
        for dimension, item in enumerate(keys):
            at = position(self.context, item, source.shape[dimension])
            axis = self._axis_of(at, source.shape[dimension])
            source = source.narrow(dimension, axis.low if isinstance(at, Var) else 0, axis.size)
            axes.append(axis)
        if len(set(axes)) < len(axes):
            raise Refused("a tensor of floats is indexed twice by the same position")
        order = sorted(range(len(axes)), key=lambda dimension: place_of(axes[dimension]))
        return self._made(source.permute(order), tuple(axes[place] for place in order), "entries")

    def _axis_of(self, at: Index, size: int) -> Axis:
        """An index as an axis: a position has all those of the call, which the tensor must hold."""
        if not isinstance(at, Var):
            return Axis(at, 0, size)
        axis = self._position(at.name)
        if axis.low + axis.size > size:
            raise MaskError(
                f"a tensor of floats has {size} entries and entry {axis.low + axis.size - 1} is asked for",
                hint="a table over positions covers all of them",
            )
        return axis

    def _looked_up(
        self, name: str, function: Any, args: Sequence[Any], options: Mapping[str, Any]
    ) -> Operand:
        traced = [place for place, arg in enumerate(args) if isinstance(arg, Traced)]
        single = not any(isinstance(value, Traced) for value in options.values())
        if traced != [LOOK_UPS[name]] or not single or (name == "searchsorted" and args[0].ndim != 1):
            raise Refused("what is looked up in must be a captured tensor of one dimension", final=True)
        axes = self._axes(args)
        if name == "isin":
            self._require_one_meaning("eq", args)
        given = [self._argument(arg, axes) if isinstance(arg, Traced) else arg for arg in args]
        return self._made(self.framework.apply(name, function, given, options), axes, name)

    def _reduced(self, name: str, source: Any, dim: Any = None, **options: Any) -> Operand:
        """Over all dimensions of a tensor, or over one."""
        operand = self.context.operand(source)
        value = operand.value
        if not isinstance(value, Profile) or not value.shape or not isinstance(dim, int | None) or options:
            raise Refused("this operation cannot be lifted")
        if dim is not None and (name in ("max", "min") or not -len(value.shape) <= dim < len(value.shape)):
            raise Refused("this operation cannot be lifted")
        dims = range(len(value.shape)) if dim is None else [dim % len(value.shape)]
        tensor, outer = value.tensor, len(value.axes)
        reduction = {"max": "amax", "min": "amin"}.get(name, name)
        for inner in sorted(dims, reverse=True):
            tensor = self.framework.apply(reduction, None, [tensor, outer + inner], {})
        return self._made(tensor, value.axes, name)

    def _compared(self, op: Comparison, args: Sequence[Any]) -> Operand:
        """`f(q) op g(k)` of floats, by the ranks of all their values, which compare as the values do."""
        operands = [self.context.operand(arg) for arg in args]
        axes = [self._own_axes(operand) for operand in operands]
        dtype = promoted(operands[0].dtype, operands[1].dtype)
        dtype = "float32" if dtype == "bfloat16" else dtype  # numpy has no such, and the order is the same
        sides = [
            _on_host(self._values(operand, own).to(self.framework.dtypes[dtype]))
            for operand, own in zip(operands, axes, strict=True)
        ]
        if any(np.isnan(side).any() for side in sides):
            raise Refused("a table of floats has entries that are no numbers", final=True)
        _, ranks = np.unique(np.concatenate([side.ravel() for side in sides]), return_inverse=True)
        parts = np.split(ranks.ravel(), [sides[0].size])
        tables = [
            self._made(self.framework.tensor(part.reshape(side.shape), "int64"), own, "ranks").value
            for part, side, own in zip(parts, sides, axes, strict=True)
        ]
        assert isinstance(tables[0], Index) and isinstance(tables[1], Index), "ranks are integers"
        return Operand(compare(tables[0], op, tables[1]), "bool")

    def _made(self, tensor: Any, axes: tuple[Axis, ...], stem: str) -> Operand:
        """A table over positions; floats and whole tensors stay what they are until they are single integers."""
        dtype = dtype_name(tensor.dtype)
        sizes = [axis.size for axis in axes]
        whole = tensor.expand((*sizes, *tensor.shape[len(axes) :]))
        if math.prod(whole.shape) > _MOST_VALUES:
            raise Refused("the value is one of too many to be computed for all of them", final=True)
        if kind(dtype) == 2 or whole.ndim > len(axes):
            return Operand(Profile(axes, whole), dtype)
        name = self.context.named(whole, stem)
        at = tuple(index.sub(axis.at, index.const(axis.low)) for axis in axes)
        return complete(Cells(name, tuple(whole.shape), at), dtype)


def _on_host(tensor: Any) -> NDArray[Any]:
    if isinstance(tensor, np.ndarray):
        return tensor
    if tensor.device.type != "cpu":
        raise Refused("a value of a table on another device is needed to go on", final=True)
    array: NDArray[Any] = tensor.detach().numpy()
    return array
