"""A lifted mask against its function, on sampled positions."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import CellType, CodeType, FunctionType, MethodType
from typing import Any

import numpy as np
import torch

from attnmask.errors import LiftError, MaskError
from attnmask.ir.domain import Domain
from attnmask.ir.evaluate import evaluate
from attnmask.ir.lift import Lifted
from attnmask.ir.nodes import Predicate
from attnmask.lower.lifting import CPU, Tables, bound

_FEW, _MANY = 6, 64
_MOST_HELD = 64
_MOST_COMPARED = 4096
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
    mask_mod: Callable[..., Any], found: Lifted, domain: Domain, device: torch.device = CPU
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
    if len(_compared) >= _MOST_COMPARED:
        _compared.clear()
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
