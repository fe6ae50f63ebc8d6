"""Operations that are not arithmetic: captured tensors get indices, values get other dtypes, constants are made."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any, Protocol, TypeVar

from attnmask.ir import index, predicate
from attnmask.ir.lift.numbers import Numbers
from attnmask.ir.lift.operations import RULES
from attnmask.ir.lift.traced import Traced
from attnmask.ir.lift.values import INTEGERS, Cells, Operand, Profile, Ratio, Refused, Stack, kind
from attnmask.ir.nodes import Index


class Context(Protocol):
    """What these operations need to know of the trace."""

    numbers: Numbers

    def operand(self, value: Any) -> Operand: ...
    def captured(self, tensor: Any) -> Operand: ...


Shaped = Callable[..., Any]
F = TypeVar("F", bound=Shaped)
SHAPED: dict[str, Shaped] = {}


def shaped(*names: str) -> Callable[[F], F]:
    def register(function: F) -> F:
        SHAPED.update(dict.fromkeys(names, function))
        return function

    return register


def dtype_name(dtype: object) -> str:
    """`torch.int32` → "int32"; Python's types stand for torch's widest of their kind."""
    if isinstance(dtype, type):
        return {bool: "bool", int: "int64", float: "float64"}.get(dtype, dtype.__name__)
    return str(dtype).removeprefix("torch.")


def is_dtype(value: object) -> bool:
    return isinstance(value, type) or (type(value).__name__ == "dtype" and str(value).startswith("torch."))


# ---- indexing ----------------------------------------------------------------------------------------


@shaped("__getitem__")
def entry(c: Context, source: Any, key: Any) -> Operand:
    """`source[key]`, the source a captured tensor or what is left of one after some indices."""
    cells = c.operand(source) if isinstance(source, Traced) else c.captured(source)
    keys = tuple(key) if isinstance(key, tuple) else (key,)
    if not isinstance(cells.value, Cells):
        if all(item is Ellipsis for item in keys):
            return cells
        raise Refused("a single value is indexed")
    slots = list(cells.value.slots)
    for axis, item in _aligned(keys, cells.value.open):
        if not (isinstance(item, slice) and item == slice(None)):
            slots[axis] = position(c, item, cells.value.shape[axis])
    return complete(Cells(cells.value.name, cells.value.shape, tuple(slots)), cells.dtype)


@shaped("index")
def index_(c: Context, source: Any, keys: Sequence[Any]) -> Operand:
    """aten's form of `source[keys]`."""
    return entry(c, source, tuple(slice(None) if key is None else key for key in keys))


@shaped("take")
def take(c: Context, source: Any, position: Any) -> Operand:
    """An entry of the flattened tensor."""
    return entry(c, source.reshape(-1), position)


def complete(cells: Cells, dtype: str) -> Operand:
    """An entry once every dimension has its index; until then the cells."""
    at = [slot for slot in cells.slots if slot is not None]
    if len(at) < len(cells.slots):
        return Operand(cells, dtype)
    if dtype == "bool":
        return Operand(predicate.bool_table(cells.name, at), dtype)
    if dtype not in INTEGERS:
        raise Refused(
            f"the tensor '{cells.name}' holds {dtype} values", "masks are decided by integers and booleans"
        )
    return Operand(index.table(cells.name, at), dtype)


def _aligned(keys: tuple[Any, ...], open_: tuple[int, ...]) -> list[tuple[int, Any]]:
    """Each key with the dimension that it is for."""
    if any(key is None for key in keys):
        raise Refused("an index adds a dimension")
    dots = [at for at, key in enumerate(keys) if key is Ellipsis]
    if len(keys) - len(dots) > len(open_) or len(dots) > 1:
        raise Refused(f"a tensor with {len(open_)} dimensions gets {len(keys) - len(dots)} indices")
    first = dots[0] if dots else len(keys)
    after = keys[first + 1 :]
    at_the_end = open_[len(open_) - len(after) :]
    return [*zip(open_, keys[:first], strict=False), *zip(at_the_end, after, strict=True)]


def position(c: Context, item: Any, size: int) -> Index:
    """An index that counts from the start; torch counts negative ones from the end."""
    if isinstance(item, slice | list):
        raise Refused(f"an index is a {type(item).__name__}", "index with single positions")
    if not isinstance(item, Traced) and not hasattr(item, "dtype"):
        item = operator.index(item)
    found = c.operand(item)
    if found.dtype not in INTEGERS or (found.dtype == "uint8" and not found.weak):
        raise Refused(f"an index has the type {found.dtype}", "cast it to int64")
    at = c.numbers.integer(found)
    low, high = c.numbers.intervals.of(at)
    if low >= 0:
        return at
    if low >= -size and high < size:
        return index.mod(at, index.const(size))
    return predicate.where(predicate.compare(at, "<", index.const(0)), index.add(at, index.const(size)), at)


# ---- stacks ------------------------------------------------------------------------------------------


@shaped("stack")
def stack(c: Context, values: Sequence[Any], dim: int = 0) -> Operand:
    parts = tuple(c.operand(value) for value in values)
    return Operand(Stack(parts), c.numbers.common(*parts))


def _reduced(name: str, pair: str) -> Shaped:
    """A reduction of stacked values, or of a single one, by an operation on pairs."""

    def reduce_(c: Context, source: Any, dim: Any = None, keepdim: bool = False) -> Operand:
        value = c.operand(source)
        parts = value.value.parts if isinstance(value.value, Stack) else (value,)
        if isinstance(value.value, Profile) or keepdim or dim not in (None, 0, -1):
            raise Refused(f"{name} keeps a dimension")
        if name in ("any", "all"):
            parts = tuple(Operand(c.numbers.truth(part), "bool") for part in parts)
        elif name == "sum" and kind(value.dtype) < 2:  # counted in 64 bits, truth values too
            parts = tuple(cast(c, part, "int64") for part in parts)
        return reduce(lambda lhs, rhs: RULES[pair](c.numbers, lhs, rhs), parts)

    return reduce_


for _name, _pair in {"any": "or", "all": "and", "sum": "add", "amax": "maximum", "amin": "minimum"}.items():
    shaped(_name)(_reduced(_name, _pair))


# ---- dtypes ------------------------------------------------------------------------------------------


def cast(c: Context, value: Operand, dtype: str) -> Operand:
    if dtype == value.dtype and not value.weak:
        return value
    n = c.numbers
    if dtype == "bool":
        return Operand(n.truth(value), dtype)
    if isinstance(value.value, Cells):
        raise Refused(f"the tensor '{value.value.name}' is cast before all its indices are given")
    if n.is_float(dtype):
        return Operand(n.ratio(value, dtype), dtype)
    if isinstance(value.value, Ratio) and not n.within(n.integer(value), INTEGERS[dtype]):
        raise Refused(f"a float may lie outside of {dtype}, where a cast gives no number to rely on")
    return n.made(n.integer(value), dtype)


@shaped("to")
def to(c: Context, source: Any, *args: Any, dtype: Any = None, **ignored: Any) -> Operand:
    for arg in args:
        if is_dtype(arg):
            dtype = arg
        elif hasattr(arg, "dtype"):
            dtype = arg.dtype
    value = c.operand(source)
    return value if dtype is None else cast(c, value, dtype_name(dtype))


@shaped("type")
def type_(c: Context, source: Any, dtype: Any) -> Operand:
    return cast(c, c.operand(source), dtype_name(dtype))


@shaped("type_as")
def type_as(c: Context, source: Any, other: Any) -> Operand:
    return to(c, source, other)


def _cast_method(dtype: str) -> Shaped:
    return lambda c, source: cast(c, c.operand(source), dtype)


_CASTS = {
    "bool": "bool",
    "byte": "uint8",
    "char": "int8",
    "short": "int16",
    "int": "int32",
    "long": "int64",
    "half": "float16",
    "bfloat16": "bfloat16",
    "float": "float32",
    "double": "float64",
}
for _method, _dtype in _CASTS.items():
    shaped(_method)(_cast_method(_dtype))
# What gives back its argument, or a view of it, where there is nothing to do.
ALIASES = frozenset(
    {
        "to",
        "type",
        "type_as",
        *_CASTS,
        "detach",
        "contiguous",
        "cpu",
        "cuda",
        "squeeze",
        "alias",
        "__getitem__",
    }
)


@shaped("clone", "detach", "contiguous", "cpu", "cuda", "squeeze", "alias")
def same(c: Context, source: Any, *args: Any, **options: Any) -> Operand:
    return c.operand(source)


@shaped("masked_fill")
def masked_fill(c: Context, source: Any, mask: Any, value: Any) -> Operand:
    kept = c.operand(source)
    filled = RULES["where"](c.numbers, c.operand(mask), cast(c, c.operand(value), kept.dtype), kept)
    return Operand(filled.value, kept.dtype)


# ---- constants ---------------------------------------------------------------------------------------


def _constant(c: Context, source: Any, number: Any, dtype: Any) -> Operand:
    name = c.operand(source).dtype if dtype is None else dtype_name(dtype)
    value = cast(c, c.operand(number), name)
    return Operand(value.value, name)


def _like(number: int) -> Shaped:
    return lambda c, source, dtype=None, **ignored: _constant(c, source, number, dtype)


def _new(number: int) -> Shaped:
    def make(c: Context, source: Any, *size: Any, dtype: Any = None, **ignored: Any) -> Operand:
        _require_single(size)
        return _constant(c, source, number, dtype)

    return make


SHAPED |= {"zeros_like": _like(0), "ones_like": _like(1), "new_zeros": _new(0), "new_ones": _new(1)}


@shaped("full_like")
def full_like(c: Context, source: Any, fill_value: Any, *, dtype: Any = None, **ignored: Any) -> Operand:
    return _constant(c, source, fill_value, dtype)


@shaped("new_full")
def new_full(
    c: Context, source: Any, size: Any, fill_value: Any, *, dtype: Any = None, **ignored: Any
) -> Operand:
    _require_single((size,))
    return _constant(c, source, fill_value, dtype)


@shaped("new_tensor")
def new_tensor(c: Context, source: Any, data: Any, *, dtype: Any = None, **ignored: Any) -> Operand:
    return _constant(c, source, data, dtype)


def _require_single(size: tuple[Any, ...]) -> None:
    if any(len(part) if isinstance(part, tuple | list) else True for part in size):
        raise Refused(f"a constant of shape {size} is made", "masks compute with single values: shape ()")
