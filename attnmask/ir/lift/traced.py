"""Traced: what the user's function gets for b, h, q and k, and makes of them; it behaves as a 0-d tensor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn, Protocol

from attnmask.errors import LiftError
from attnmask.ir.lift.values import Cells, Operand


class Tracer(Protocol):
    """What a traced value needs to know of its trace."""

    def call(
        self, name: str, args: Sequence[Any], options: Mapping[str, Any], function: Any = None
    ) -> Any: ...
    def knows(self, name: str) -> bool: ...
    def attribute(self, name: str, operand: Operand) -> Any: ...
    def refusal(self, message: str, hint: str | None = None) -> LiftError: ...


class Traced:
    """A value that depends on b, h, q and k. Operators and torch functions on it give further ones."""

    __slots__ = ("operand", "tracer")

    def __init__(self, operand: Operand, tracer: Tracer) -> None:
        self.operand = operand
        self.tracer = tracer

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """torch calls this in place of a function that is given a traced value."""
        kwargs = kwargs or {}
        tracer = _tracer_of((args, tuple(kwargs.values())))
        name = str(getattr(function, "__name__", function)).split(".")[0]
        if not _is_torchs(function):
            raise tracer.refusal(f"'{name}' is an operation of somebody else's, and cannot be lifted")
        return tracer.call(name, args, kwargs, function)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        found = self.tracer.attribute(name, self.operand)
        if found is not None:
            return found
        if self.tracer.knows(name) or name.endswith("_"):
            return lambda *args, **options: self.tracer.call(name, (self, *args), options)
        raise self.tracer.refusal(f"'.{name}' cannot be lifted")

    def __getitem__(self, key: Any) -> Any:
        return self.tracer.call("__getitem__", (self, key), {})

    def __bool__(self) -> NoReturn:
        raise self.tracer.refusal(
            "Python decides here by a value that depends on positions",
            "write & | ~ for and, or, not; torch.where for if; and split chained comparisons",
        )

    def __int__(self) -> NoReturn:
        raise self._no_number()

    def __float__(self) -> NoReturn:
        raise self._no_number()

    def __index__(self) -> NoReturn:
        raise self._no_number()

    def __iter__(self) -> Iterator[Any]:
        raise self.tracer.refusal("a value that depends on positions is iterated over")

    def __len__(self) -> int:
        if isinstance(self.operand.value, Cells) and self.operand.value.open:
            return int(self.tracer.attribute("shape", self.operand)[0])
        raise self.tracer.refusal("a single value has no length")

    def __repr__(self) -> str:
        return f"Traced({self.operand.value!r})"

    __hash__ = object.__hash__

    def _no_number(self) -> LiftError:
        return self.tracer.refusal(
            "Python asks here for the number behind a value that depends on positions",
            "index torch tensors with it, not lists or numpy arrays",
        )


OPERATORS = (
    *("add", "sub", "mul", "floordiv", "mod", "truediv", "pow"),
    *("and", "or", "xor", "lshift", "rshift"),
)
_COMPARISONS = ("lt", "le", "gt", "ge", "eq", "ne")


def _operator(name: str) -> Callable[..., Any]:
    return lambda self, *others: self.tracer.call(name, (self, *others), {})


for _name in (*OPERATORS, *_COMPARISONS, "neg", "pos", "abs", "invert", "setitem"):
    setattr(Traced, f"__{_name}__", _operator(_name if _name != "setitem" else "__setitem__"))
for _name in OPERATORS:
    setattr(Traced, f"__r{_name}__", _operator(f"__r{_name}__"))
    # Without these Python would turn `x += 1` into `x = x + 1`; a tensor changes in place, under all its names.
    setattr(Traced, f"__i{_name}__", _operator(f"__i{_name}__"))


def _is_torchs(function: Any) -> bool:
    """Whether a name means what it means in torch: libraries have operations of their own, under any name."""
    operator = getattr(function, "_qualified_op_name", None) or getattr(function, "namespace", "aten")
    module = getattr(function, "__module__", None) or "torch"
    return str(operator).split(":")[0] == "aten" and str(module).split(".")[0] == "torch"


def _tracer_of(values: Any) -> Tracer:
    """The tracer of the first traced value in nested arguments; torch has found one there."""
    pending = [values]
    while pending:
        value = pending.pop()
        if isinstance(value, Traced):
            return value.tracer
        if isinstance(value, tuple | list):
            pending.extend(value)
    raise AssertionError("torch calls __torch_function__ where an argument has it")
