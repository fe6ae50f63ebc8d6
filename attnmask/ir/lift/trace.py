"""lift: calls a function with traced values once, and takes the predicate from what it returns."""

from __future__ import annotations

import numbers as abstract
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from attnmask.errors import LiftError, MaskError, Place
from attnmask.ir import index
from attnmask.ir.domain import Domain
from attnmask.ir.interval import Bounds, Intervals
from attnmask.ir.kinds import describe
from attnmask.ir.lift.numbers import Numbers, number
from attnmask.ir.lift.operations import RULES
from attnmask.ir.lift.places import Places, Spot, calling_frame, name_in, raised_at, spot
from attnmask.ir.lift.shapes import ALIASES, SHAPED, cast, complete, dtype_name
from attnmask.ir.lift.tabulate import POINTWISE, Tabulator
from attnmask.ir.lift.traced import OPERATORS, Traced
from attnmask.ir.lift.values import INTEGERS, Cells, Operand, Profile, Refused, kind
from attnmask.ir.nodes import Expr, Predicate
from attnmask.ir.walk import table_names

# Names that the language reads as something else than a table.
_RESERVED = frozenset("qkbhisQKBH")


class Framework(Protocol):
    """torch as the traced function may see it, and as tabulating needs it. Torch itself is not known here."""

    @property
    def device(self) -> Any: ...
    @property
    def dtypes(self) -> Mapping[str, Any]: ...
    @property
    def default_float(self) -> str: ...

    def tensor(self, array: NDArray[Any], dtype: str) -> Any:
        """A tensor on the device."""
        ...

    def apply(self, name: str, function: Any, args: Sequence[Any], options: Mapping[str, Any]) -> Any:
        """The function called, or where it is None the operator or the method of this name."""
        ...


@dataclass(frozen=True, slots=True)
class Lifted:
    """A function's meaning: the predicate, the tensors that it reads, and where its expressions were made."""

    predicate: Predicate
    tensors: Mapping[str, Any]
    origins: Mapping[Expr, Place] = field(repr=False)


def lift(function: Callable[..., Any], framework: Framework, domain: Domain, *, tabulate: bool) -> Lifted:
    """The predicate of `function(b, h, q, k)` for positions of the domain; it is called once.

    `tabulate`: the domain is that of a call, and what has no integer form may be computed for all its positions.
    LiftError names what cannot be lifted and where. Captured tensors become tables and are not copied.
    """
    trace = Trace(framework, domain)
    if tabulate:
        trace.tabulator = Tabulator(trace, framework, domain)
    b, h, q, k = (index.var("b"), index.var("h"), index.var("q"), index.var("k"))
    positions = [Traced(Operand(variable, "int64"), trace) for variable in (b, h, q, k)]
    try:
        returned = function(*positions)
    except (LiftError, RecursionError):
        raise
    except Exception as error:  # whatever the user's function, or torch inside it, raises
        at = raised_at(error.__traceback__)
        message = f"the function raises {type(error).__name__} when it is traced: {error}".split("\n")[0]
        raise _refusal(message, None, at) from error
    root = trace.result(returned)
    tables = {**trace.tensors, **trace.numbers.tables}
    return Lifted(root, {name: tables[name] for name in table_names(root)}, Places(trace.spots))


class Trace:
    """One call of a function: the tensors it has read, and what its values mean."""

    def __init__(self, framework: Framework, domain: Domain) -> None:
        self.framework = framework
        self.tensors: dict[str, Any] = {}
        self.cells: dict[int, Operand] = {}
        self.spots: dict[Expr, Spot] = {}
        self.known_entries: dict[str, Bounds] = {}
        self.tabulator: Tabulator | None = None
        self.numbers = Numbers(Intervals(domain.bounds, self._entries), framework.default_float)

    # ---- what traced values ask for -------------------------------------------------------------------

    def call(self, name: str, args: Sequence[Any], options: Mapping[str, Any], function: Any = None) -> Any:
        try:
            written = _written(name, args)
            if written is not None:
                return self._changed(args[0], self._apply_or_tabulate(written, args, options, None))
            found = self._apply_or_tabulate(name, args, options, function)
        except LiftError:
            raise
        except (Refused, MaskError) as error:
            raise self.refusal(f"{_shown(name)}: {error.message}", error.hint) from None
        except (ValueError, AttributeError) as error:
            raise self.refusal(f"{_shown(name)} is called in a way that cannot be lifted: {error}") from None
        if not isinstance(found, Operand):
            return found
        if name in ALIASES and isinstance(args[0], Traced) and found is args[0].operand:
            return args[0]  # as in torch, where a later change in place shows under both names
        if isinstance(found.value, Expr) and found.value not in self.spots:
            at = spot(calling_frame())
            if at is not None:
                self.spots[found.value] = at
        return Traced(found, self)

    def _changed(self, target: Traced, found: Operand) -> Traced:
        """The value that an operation in place has written to; its dtype stays."""
        if kind(found.dtype) > kind(target.operand.dtype):
            raise Refused(
                f"a {found.dtype} result does not fit into a {target.operand.dtype} value", final=True
            )
        target.operand = cast(self, found, target.operand.dtype)
        return target

    def knows(self, name: str) -> bool:
        return name in RULES or name in SHAPED or name in POINTWISE

    def attribute(self, name: str, operand: Operand) -> Any:
        open_: list[int] = []
        if isinstance(operand.value, Cells):
            open_ = [operand.value.shape[axis] for axis in operand.value.open]
        elif isinstance(operand.value, Profile):
            open_ = list(operand.value.shape)
        match name:
            case "dtype":
                return self.framework.dtypes[operand.dtype]
            case "device":
                return self.framework.device
            case "shape":
                return tuple(open_)
            case "ndim":
                return len(open_)
            case "requires_grad":
                return False
        return None

    def refusal(self, message: str, hint: str | None = None) -> LiftError:
        return _refusal(message, hint, spot(calling_frame()))

    # ---- operations ------------------------------------------------------------------------------------

    def _apply_or_tabulate(
        self, name: str, args: Sequence[Any], options: Mapping[str, Any], function: Any
    ) -> Any:
        try:
            return self._apply(name, list(args), dict(options))
        except (Refused, TypeError) as error:
            refused = error if isinstance(error, Refused) else Refused(f"{error}")
            if self.tabulator is None or refused.final:
                raise
            try:
                plain, swapped = _plain(name)
                return self.tabulator.call(plain, function, args[::-1] if swapped else args, options)
            except Refused as further:
                raise further if further.final else refused from None

    def _apply(self, name: str, args: list[Any], options: dict[str, Any]) -> Any:
        if options.get("out") is not None:
            raise Refused(
                "the result is written into another tensor", "use the value that it returns", final=True
            )
        name, swapped = _plain(name)
        if swapped:
            args.reverse()
        if name in SHAPED:
            return SHAPED[name](self, *args, **options)
        if name not in RULES:
            raise Refused(
                "this operation cannot be lifted", "masks are made of integers, comparisons and tables"
            )
        options.pop("out", None)
        given = {key: value if key == "alpha" else self._option(value) for key, value in options.items()}
        return RULES[name](self.numbers, *(self._option(arg) for arg in args), **given)

    def _option(self, value: Any) -> Any:
        """Numbers and values as operands; what only says how to compute stays as it is."""
        if value is None or isinstance(value, str):
            return value
        return self.operand(value)

    def operand(self, value: Any) -> Operand:
        if isinstance(value, Traced):
            if value.tracer is not self:
                raise Refused("a value of another trace is used", "do not keep values between calls")
            return value.operand
        if isinstance(value, bool | np.bool_):
            return number(bool(value), self.framework.default_float)
        if isinstance(value, abstract.Integral):
            return number(operator.index(value), self.framework.default_float)
        if isinstance(value, abstract.Real):
            return number(float(value), self.framework.default_float)
        if hasattr(value, "__torch_function__"):
            found = self.captured(value)
            if isinstance(found.value, Cells):
                shape = found.value.shape
                raise Refused(
                    f"the tensor '{found.value.name}' of shape {shape} is used as a single value",
                    "index it by positions, as in doc[q]",
                )
            return found
        raise Refused(f"an argument is a {type(value).__name__}")

    def captured(self, tensor: Any) -> Operand:
        """A tensor that the function reads from outside, as a table."""
        if id(tensor) not in self.cells:
            name = self.named(tensor, name_in(calling_frame(), tensor))
            dtype = dtype_name(tensor.dtype)
            self.cells[id(tensor)] = complete(
                Cells(name, tuple(tensor.shape), (None,) * len(tensor.shape)), dtype
            )
        return self.cells[id(tensor)]

    def named(self, tensor: Any, found: str | None) -> str:
        """A name of its own for a tensor, which is kept: its id stays its own."""
        stem = found if found is not None and found.isidentifier() and found not in _RESERVED else "table"
        name, number = stem, 2
        while name in self.tensors or name in self.numbers.tables:
            name, number = f"{stem}_{number}", number + 1
        self.tensors[name] = tensor
        return name

    def _entries(self, name: str) -> Bounds:
        """Bounds of a table's entries; of its dtype where looking would have to wait for a device."""
        if name not in self.known_entries:
            self.known_entries[name] = self._looked_up(name)
        return self.known_entries[name]

    def _looked_up(self, name: str) -> Bounds:
        if name in self.numbers.tables:
            return int(self.numbers.tables[name].min()), int(self.numbers.tables[name].max())
        tensor = self.tensors[name]
        if tensor.device.type == "cpu" and tensor.numel():
            # numpy's, since torch's wake all threads for it
            entries = tensor.detach().numpy()
            return int(entries.min()), int(entries.max())
        allowed = INTEGERS[dtype_name(tensor.dtype)]
        return allowed.start, allowed.stop - 1

    # ---- the result --------------------------------------------------------------------------------------

    def result(self, returned: Any) -> Predicate:
        """MaskError unless the function returned a truth value."""
        hint = "return a comparison, as in q >= k"
        if isinstance(returned, bool | int | float | None) or not (
            isinstance(returned, Traced) or hasattr(returned, "__torch_function__")
        ):
            raise LiftError(
                f"the function returns {_kind(returned)}, and FlexAttention needs a boolean tensor", hint=hint
            )
        try:
            value = self.operand(returned).value
        except Refused as error:
            raise LiftError(f"the function's result: {error.message}", hint=hint) from None
        if not isinstance(value, Predicate):
            what = describe(value) if isinstance(value, Expr) else "numbers"
            raise LiftError(f"the function returns {what}, and a mask is made of truth values", hint=hint)
        return value


def _refusal(message: str, hint: str | None, at: Spot | None) -> LiftError:
    where = "" if at is None else f" ({at.name})"
    return LiftError(f"{message}{where}", hint=hint, place=None if at is None else at.place)


def _kind(value: object) -> str:
    if value is None:
        return "nothing"
    return (
        f"{value!r}, a Python {type(value).__name__}"
        if isinstance(value, bool | int | float)
        else f"a {type(value).__name__}"
    )


def _plain(name: str) -> tuple[str, bool]:
    """torch's and Python's names of an operation as one, and whether its two arguments are swapped."""
    if name == "rsub":
        return "sub", True
    if not name.startswith("__"):
        return name, False
    inner = name[2:-2]
    if inner.startswith("r") and inner[1:] in (*OPERATORS, "div"):
        return inner[1:], True
    return (name, False) if name in SHAPED else (inner, False)


def _written(name: str, args: Sequence[Any]) -> str | None:
    """The operation whose result `name` writes into its first argument; None where it writes nowhere.

    Refused for tensors that the function has not made itself: others would see the change.
    """
    inner = name.strip("_")
    if name.startswith("__"):
        if inner != "setitem" and not (inner.startswith("i") and inner[1:] in OPERATORS):
            return None
        inner = inner[1:]
    elif not name.endswith("_"):
        return None
    if name == "__setitem__" or not isinstance(args[0], Traced):
        raise Refused("a tensor is changed in place", "write x = x + 1, which makes a new value", final=True)
    return {"fill": "full_like", "zero": "zeros_like"}.get(inner, inner)


def _shown(name: str) -> str:
    return f"'{name.strip('_')}'"
