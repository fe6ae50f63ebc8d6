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
from attnmask.ir.interval import Intervals
from attnmask.ir.kinds import describe
from attnmask.ir.lift.arguments import LOOK_UPS, POINTWISE
from attnmask.ir.lift.captured import Captured
from attnmask.ir.lift.numbers import Numbers, number
from attnmask.ir.lift.operations import RULES
from attnmask.ir.lift.places import Places, Spot, calling_frame, raised_at, spot
from attnmask.ir.lift.shapes import ALIASES, SHAPED, cast
from attnmask.ir.lift.tabulate import Tabulator
from attnmask.ir.lift.traced import OPERATORS, Traced
from attnmask.ir.lift.values import Cells, Operand, Profile, Refused, kind
from attnmask.ir.nodes import Expr, Predicate
from attnmask.ir.walk import table_names


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
    tensors = trace.tables.tensors
    return Lifted(root, {name: tensors[name] for name in table_names(root)}, Places(trace.spots))


class Trace:
    """One call of a function: the tensors it has read, and what its values mean."""

    def __init__(self, framework: Framework, domain: Domain) -> None:
        self.framework = framework
        self.tables = Captured()
        self.spots: dict[Expr, Spot] = {}
        self.tabulator: Tabulator | None = None
        intervals = Intervals(domain.bounds, self.tables.bounds)
        self.numbers = Numbers(intervals, framework.default_float, self.named)

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
        except (ValueError, AttributeError, KeyError) as error:
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
        except (Refused, MaskError, TypeError) as error:
            if isinstance(error, LiftError):
                raise
            hint = error.hint if isinstance(error, MaskError) else None
            refused = error if isinstance(error, Refused) else Refused(str(error).split("\n")[0], hint)
            if self.tabulator is None and not refused.final:
                plain = _plain(name)[0]
                if plain in POINTWISE or plain in LOOK_UPS or plain == "__getitem__":
                    refused.hint = (
                        f"{refused.hint or 'compute with integers'}, or give lengths: create_block_mask"
                    )
            if self.tabulator is None or refused.final:
                raise refused from None
            try:
                plain, swapped = _plain(name)
                if swapped:
                    return self.tabulator.call(plain, None, args[::-1], options)
                return self.tabulator.call(plain, function, args, options)
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
        if len(args) == 1 and name in ("max", "min"):
            name = f"a{name}"
        if name in SHAPED:
            return SHAPED[name](self, *args, **options)
        if name not in RULES:
            raise Refused(
                "this operation cannot be lifted", "masks are made of integers, comparisons and tables"
            )
        options.pop("out", None)
        if any(arg is None or isinstance(arg, str) for arg in args[:2]):
            raise Refused("an argument is neither a number nor a tensor", final=True)
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
        return self.tables.operand(tensor)

    def named(self, tensor: Any, stem: str) -> str:
        """The name of a table that was computed here."""
        return self.tables.named(tensor, stem)

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
            self.tables.require_unchanged()
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
