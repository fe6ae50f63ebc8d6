"""Lifting with torch at hand: its dtypes for the traced function, and its tensors as tables."""

from __future__ import annotations

import operator
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import CellType, CodeType, FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from attnmask.errors import LiftError, MaskError
from attnmask.ir.domain import Domain
from attnmask.ir.evaluate import evaluate
from attnmask.ir.lift import Lifted, lift
from attnmask.ir.nodes import Predicate
from attnmask.ir.tables import TableData, fit, table_data

_DTYPES = {
    name: getattr(torch, name)
    for name in (
        *("bool", "uint8", "int8", "int16", "int32", "int64", "uint16", "uint32", "uint64"),
        *("float16", "bfloat16", "float32", "float64"),
    )
}
_CPU = torch.device("cpu")
Tables = tuple[tuple[str, TableData], ...]


@dataclass(frozen=True, slots=True)
class Torch:
    """torch as lifting sees it."""

    device: torch.device
    default_float: str
    dtypes: Mapping[str, torch.dtype]

    def tensor(self, array: NDArray[Any], dtype: str) -> torch.Tensor:
        # By way of numpy: torch.tensor takes milliseconds for what that copies in microseconds.
        copied = torch.from_numpy(np.array(array, dtype="float32" if dtype == "bfloat16" else dtype))
        return copied.to(self.device, self.dtypes[dtype])

    def apply(
        self, name: str, function: Any, args: Sequence[Any], options: Mapping[str, Any]
    ) -> torch.Tensor:
        if function is None:
            # Python's operators also take a number on the left.
            python = getattr(operator, name, None) or getattr(operator, f"{name}_", None)
            function = getattr(torch.Tensor, name) if options or python is None else python
        made: torch.Tensor = function(*args, **options)
        return made


def lifted(
    mask_mod: Callable[..., Any], domain: Domain, device: torch.device = _CPU, *, tabulate: bool
) -> Lifted:
    """The meaning of a mask_mod; its tensors stay where they are. LiftError when it cannot be lifted.

    `tabulate`: the domain is that of a call, so what has no integer form may be computed for all its positions.
    """
    if not callable(mask_mod):
        raise MaskError(f"a mask_mod is a function of b, h, q and k, not {type(mask_mod).__name__}")
    mask_mod = getattr(mask_mod, "_torchdynamo_orig_callable", mask_mod)  # of a compiled function
    default_float = str(torch.get_default_dtype()).removeprefix("torch.")
    # Functions that compute on their own tensors do so without a graph of gradients.
    with torch.no_grad():
        return lift(mask_mod, Torch(device, default_float, _DTYPES), domain, tabulate=tabulate)


def bound(found: Lifted) -> tuple[Predicate, Tables]:
    """The predicate with its tensors copied to the host; single numbers take the place of their names."""
    data = {name: table_data(name, tensor) for name, tensor in found.tensors.items()}
    root, _ = fit(found.predicate, data, found.origins)
    tables = tuple(sorted((name, table) for name, table in data.items() if table.array.ndim))
    return root, tables


_FEW, _MANY = 6, 64
_MOST_HELD = 64
# What functions are made of, where a few positions were compared: once is enough for each.
_compared: set[frozenset[CodeType]] = set()


def verify(mask_mod: Callable[..., Any], found: Lifted, domain: Domain, device: torch.device) -> None:
    """MaskError where the predicate and the function differ on sampled positions, or the function with itself."""
    root, tables = bound(found)
    for at in _sampled(domain, _MANY):
        says = _lifted_value(root, tables, domain, at)
        answers = [bool(mask_mod(*_tensors(at, device))) for _ in range(2)]
        if answers != [says, says]:
            raise MaskError(
                f"the function says {answers[0]}, then {answers[1]} at {_named(at)}, and its lifted mask says {says}",
                hint="a mask_mod must neither draw random numbers nor change what it reads",
            )


def compare_once(
    mask_mod: Callable[..., Any], found: Lifted, domain: Domain, device: torch.device = _CPU
) -> None:
    """LiftError where the function differs from what was lifted, on a few positions, when its code is first seen.

    A function can tell that it is traced, as by isinstance(q, torch.Tensor), and do something else then.
    """
    codes = frozenset(_codes(mask_mod))
    if codes in _compared:
        return
    root, tables = bound(found)
    for at in _sampled(domain, _FEW):
        try:
            answer = bool(mask_mod(*_tensors(at, device)))
        except Exception as error:  # whatever the function raises; torch's builder will raise it too
            raise LiftError(f"the function raises {type(error).__name__} at {_named(at)}") from error
        if answer != _lifted_value(root, tables, domain, at):
            raise LiftError(
                f"the function says {answer} at {_named(at)}, and did something else when it was lifted",
                hint="it may draw random numbers, or treat tensors and numbers differently",
            )
    _compared.add(codes)


def _codes(function: Any) -> Iterator[CodeType]:
    """The code of a callable and of those that it holds, as far as these are functions, methods and partials."""
    pending, seen = [function], set[int]()
    while pending:
        part = pending.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, partial):
            pending += [part.func, *part.args, *part.keywords.values()]
        elif isinstance(part, MethodType):
            pending += [part.__func__]
        elif isinstance(part, tuple | list) and len(part) < _MOST_HELD:
            pending += part
        elif isinstance(part, FunctionType):
            yield part.__code__
            pending += [cell.cell_contents for cell in part.__closure__ or () if _filled(cell)]
        elif part is function and callable(part):
            pending += [type(part).__call__]


def _filled(cell: CellType) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:
        return False


def _sampled(domain: Domain, number: int) -> Iterator[dict[str, int]]:
    """Positions: the first, the last, then drawn ones, the same in every process."""
    draw = random.Random(0)
    for count in range(number):
        at = {}
        for name in "bhqk":
            low, high = domain.bounds(name)
            at[name] = (low, high, draw.randint(low, high))[min(count, 2)]
        yield at


def _lifted_value(root: Predicate, tables: Tables, domain: Domain, at: Mapping[str, int]) -> bool:
    sizes = {name: domain.bounds(name)[0] for name in "QKBH"}
    variables = {name: np.asarray(value) for name, value in {**at, **sizes}.items()}
    return bool(evaluate(root, variables, {name: data.array for name, data in tables}))


def _tensors(at: Mapping[str, int], device: torch.device) -> list[torch.Tensor]:
    return [torch.tensor(at[name], device=device) for name in "bhqk"]


def _named(at: Mapping[str, int]) -> str:
    return ", ".join(f"{name}={value}" for name, value in at.items())
