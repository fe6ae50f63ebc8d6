"""Lifting with torch at hand: its dtypes for the traced function, and its tensors as tables."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from attnmask.errors import MaskError
from attnmask.ir.domain import Domain
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
CPU = torch.device("cpu")
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
    mask_mod: Callable[..., Any], domain: Domain, device: torch.device = CPU, *, tabulate: bool
) -> Lifted:
    """The meaning of a mask_mod; its tensors stay where they are. LiftError when it cannot be lifted.

    `tabulate`: the domain is that of a call, so what has no integer form may be computed for all its positions.
    """
    if not callable(mask_mod):
        raise _no_function(mask_mod)
    mask_mod = getattr(mask_mod, "_torchdynamo_orig_callable", mask_mod)  # of a compiled function
    default_float = str(torch.get_default_dtype()).removeprefix("torch.")
    # Functions that compute on their own tensors do so without a graph of gradients.
    with torch.no_grad():
        return lift(mask_mod, Torch(device, default_float, _DTYPES), domain, tabulate=tabulate)


def _no_function(given: object) -> MaskError:
    hint = "am.compile(text).block_mask(q_len) builds one" if isinstance(given, str) else None
    hint = "mask.block_mask(q_len) builds one" if hasattr(given, "predicate") else hint
    return MaskError(f"a mask_mod is a function of b, h, q and k, not {type(given).__name__}", hint=hint)


def bound(found: Lifted) -> tuple[Predicate, Tables]:
    """The predicate with its tensors copied to the host; single numbers take the place of their names."""
    data = {name: table_data(name, tensor) for name, tensor in found.tensors.items()}
    root, _ = fit(found.predicate, data, found.origins)
    tables = tuple(sorted((name, table) for name, table in data.items() if table.array.ndim))
    return root, tables
