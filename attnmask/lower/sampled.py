"""A lifted mask against its function, on sampled positions."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from types import BuiltinFunctionType, CellType, CodeType, FunctionType, MethodType
from typing import Any
from weakref import ref

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.attention.flex_attention import create_mask

from attnmask.errors import LiftError, MaskError
from attnmask.ir.domain import Domain
from attnmask.ir.evaluate import evaluate
from attnmask.ir.lift import Lifted
from attnmask.lower.lifting import CPU, bound

_MOST_HELD = 64
_MOST_COMPARED = 4096
_FEW, _MANY = 3, 12
# What a function is made of: its code and that of functions it holds, and the objects that it holds and may call.
Makeup = tuple[frozenset[CodeType], frozenset[int]]
# The makeups of functions that were compared once, with their objects: while these live, their ids are their own.
_compared: dict[Makeup, list[ref[Any]]] = {}
Positions = dict[str, list[int]]


def verify(mask_mod: Callable[..., Any], found: Lifted, domain: Domain, device: torch.device) -> None:
    """MaskError where the predicate and the function differ on sampled positions, or the function with itself."""
    at = _sampled(domain, _MANY)
    lifted = _by_definition(found, domain, at)
    for _ in range(2):
        try:
            answers = _by_torch(mask_mod, at, device)
        except Exception as error:  # whatever the function raises
            raise MaskError(f"the function raises {type(error).__name__}: {error}".split("\n")[0]) from error
        if (place := _first_difference(answers, lifted, at)) is not None:
            raise MaskError(
                f"the function and its lifted mask differ at {place}",
                hint="a mask_mod must neither draw random numbers nor change what it reads",
            )


def compare_once(
    mask_mod: Callable[..., Any], found: Lifted, domain: Domain, device: torch.device = CPU
) -> None:
    """LiftError where the function differs from what was lifted, on a few positions, when its code is first seen.

    A function can tell that it is traced, as by isinstance(q, torch.Tensor), and do something else then.
    """
    makeup, objects = _makeup(mask_mod)
    if makeup in _compared and all(held() is not None for held in _compared[makeup]):
        return
    at = _sampled(domain, _FEW)
    try:
        answers = _by_torch(mask_mod, at, device)
    except Exception as error:  # whatever the function raises; torch's builder will raise it too
        raise LiftError(f"the function raises {type(error).__name__} when torch calls it") from error
    if (place := _first_difference(answers, _by_definition(found, domain, at), at)) is not None:
        raise LiftError(
            f"the function gives something else at {place} than when it was lifted",
            hint="it may draw random numbers, or treat tensors and numbers differently",
        )
    if len(_compared) >= _MOST_COMPARED:
        _compared.clear()
    with suppress(TypeError):  # of objects that cannot be referred to weakly: they are compared each time
        _compared[makeup] = [ref(held) for held in objects]


def _sampled(domain: Domain, number: int) -> Positions:
    """Of each variable the first, the last, and some between, the same in every process."""
    draw = random.Random(0)
    at = {}
    for name in "bhqk":
        low, high = domain.bounds(name)
        wanted = number if name in "qk" else 2
        between = [draw.randint(low, high) for _ in range(wanted - 2)]
        at[name] = sorted({low, high, *between})
    return at


def _by_torch(mask_mod: Callable[..., Any], at: Positions, device: torch.device) -> NDArray[np.bool_]:
    """bool [b, h, q, k] of the given positions, as torch's builder asks for them: under vmap."""
    given = [torch.tensor(at[name], device=device) for name in "bhqk"]

    # torch counts the parameters of a mask_mod, so they are spelled out.
    def asked(b: torch.Tensor, h: torch.Tensor, q: torch.Tensor, k: torch.Tensor) -> Any:
        return mask_mod(*(values[number] for values, number in zip(given, (b, h, q, k), strict=True)))

    b, h, q, k = (len(at[name]) for name in "bhqk")
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's notes on slow batching rules are not about the user's call
        made = create_mask(asked, b, h, q, k, device=device)
    return np.broadcast_to(made.cpu().numpy(), (b, h, q, k))


def _by_definition(found: Lifted, domain: Domain, at: Positions) -> NDArray[np.bool_]:
    root, tables = bound(found)
    variables = {name: np.asarray(domain.bounds(name)[0]) for name in "QKBH"}
    for axis, name in enumerate("bhqk"):
        variables[name] = np.asarray(at[name]).reshape([-1 if axis == other else 1 for other in range(4)])
    values = evaluate(root, variables, {name: data.array for name, data in tables})
    return np.broadcast_to(values, [len(at[name]) for name in "bhqk"])


def _first_difference(answers: NDArray[np.bool_], lifted: NDArray[np.bool_], at: Positions) -> str | None:
    places = np.argwhere(answers != lifted)
    if not len(places):
        return None
    return ", ".join(f"{name}={at[name][place]}" for name, place in zip("bhqk", places[0], strict=True))


def _makeup(function: Any) -> tuple[Makeup, list[Any]]:
    """What a function is made of, and the objects among that."""
    pending, seen = [function], set[int]()
    codes: set[CodeType] = set()
    objects: list[Any] = []
    while pending:
        part = pending.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, partial):
            pending += [part.func, *part.args, *part.keywords.values()]
        elif isinstance(part, MethodType):
            pending += [part.__func__]
            objects.append(part.__self__)
        elif isinstance(part, tuple | list) and len(part) < _MOST_HELD:
            pending += part
        elif isinstance(part, FunctionType):
            codes.add(part.__code__)
            pending += [cell.cell_contents for cell in part.__closure__ or () if _filled(cell)]
        elif callable(part) and not isinstance(part, type | BuiltinFunctionType):
            objects.append(part)
    return (frozenset(codes), frozenset(map(id, objects))), objects


def _filled(cell: CellType) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:
        return False
