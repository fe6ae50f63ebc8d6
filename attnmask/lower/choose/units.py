"""Units: which positions of a call belong together, on the side of the queries and on that of the keys."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from attnmask.errors import MaskError
from attnmask.ir.check import check
from attnmask.ir.domain import Domain
from attnmask.ir.evaluate import evaluate
from attnmask.ir.nodes import Const, FloorDiv, Index, Var
from attnmask.ir.tables import TableData, require_bound
from attnmask.ir.walk import variables

Tensor = torch.Tensor
MOST_UNITS = 1 << 26
# Numbers with gaps cost as much as units: so many are allowed beside one for every position.
_MOST_BESIDE = 1 << 16


@dataclass(frozen=True, slots=True, eq=False)
class Units:
    """`ids` int64 [positions]: the unit of each position, counted from unit `first`; `count` of them in all.

    `run`: the length of the units where they follow each other from the first position on, else None.
    """

    first: int
    count: int
    ids: NDArray[np.int64]
    run: int | None

    @property
    def sizes(self) -> NDArray[np.int64]:
        """The number of positions in each unit."""
        return np.bincount(self.ids, minlength=self.count)


def units(unit: Index, axis: str, domain: Domain, tables: Mapping[str, TableData]) -> Units:
    """The units along "q" or "k". MaskError where they differ by head or batch row, or are numbered below zero."""
    require_bound(unit, tables, {})
    used = variables(unit)
    if {"b", "h"} & used:
        raise MaskError("units must be the same for all heads and batch rows", hint="number them by position")
    if ({"q", "k"} & used) - {axis}:
        raise MaskError(f"the units along {axis} must depend on {axis} alone")
    return _units(unit, axis, domain, tuple(sorted(tables.items())))


@lru_cache(maxsize=128)
def _units(unit: Index, axis: str, domain: Domain, tables: tuple[tuple[str, TableData], ...]) -> Units:
    check(unit, domain, dict(tables), {})
    low, high = domain.bounds(axis)
    sizes = {name: np.asarray(domain.bounds(name)[0]) for name in "QKBH"}
    at = np.arange(low, high + 1, dtype=np.int64)
    values = evaluate(unit, {**sizes, axis: at}, {name: data.array for name, data in tables})
    ids: NDArray[np.int64] = np.broadcast_to(values, at.shape).astype(np.int64)
    # Queries of a call may begin in the middle of a text; keys are all there.
    first = int(ids.min()) if axis == "q" else 0
    if ids.min() < 0:
        raise MaskError(f"units are numbered from 0, and a position has the number {ids.min()}")
    count = int(ids.max()) - first + 1
    require_few(count, len(at))
    return Units(first, count, ids - first, _run(unit, axis, low, len(at)))


def require_few(count: int, positions: int) -> None:
    """MaskError where units are numbered with so many gaps that they would cost more than positions do."""
    if count > min(MOST_UNITS, positions + _MOST_BESIDE):
        raise MaskError(
            f"units are numbered over {count}, and there are {positions} positions",
            hint="number them without gaps",
        )


def _run(unit: Index, axis: str, low: int, length: int) -> int | None:
    match unit:
        case Var(name) if name == axis:
            return 1
        case FloorDiv(Var(name), Const(size)) if name == axis and low % size == 0:
            return size
        case Const(0):
            return length
    return None


def diagonal_units(unit: Index, domain: Domain, tables: Mapping[str, TableData]) -> Units:
    """The units of distances q - k from 0 on; `ids` are by distance. The unit reads max(q - k, 0)."""
    require_bound(unit, tables, {})
    return _diagonal_units(unit, domain, tuple(sorted(tables.items())))


@lru_cache(maxsize=128)
def _diagonal_units(unit: Index, domain: Domain, tables: tuple[tuple[str, TableData], ...]) -> Units:
    if domain.q_offset + domain.q_len > MOST_UNITS:
        raise MaskError(f"there are {domain.q_offset + domain.q_len} diagonals, which are too many to score")
    check(unit, domain, dict(tables), {})
    at = np.arange(domain.q_offset + domain.q_len, dtype=np.int64)
    arrays = {name: data.array for name, data in tables}
    values = evaluate(unit, {"q": at, "k": np.zeros(1, np.int64)}, arrays)
    ids: NDArray[np.int64] = np.broadcast_to(values, at.shape).astype(np.int64)
    return Units(0, int(ids.max()) + 1, ids, None)


@lru_cache(maxsize=128)
def ids_on(found: Units, device: torch.device) -> Tensor:
    """The units' numbers as a tensor."""
    return torch.from_numpy(np.ascontiguousarray(found.ids)).to(device)


@lru_cache(maxsize=128)
def sizes_on(found: Units, device: torch.device) -> Tensor:
    """int64 [count]: positions of each unit."""
    return torch.from_numpy(found.sizes).to(device)


@lru_cache(maxsize=128)
def ends_on(found: Units, device: torch.device) -> tuple[Tensor, Tensor]:
    """int64 [count] each: the first and the last position of units whose numbers ascend along the positions."""
    numbers = np.arange(found.count)
    first, last = (np.searchsorted(found.ids, numbers, side) for side in ("left", "right"))
    return torch.from_numpy(first).to(device), torch.from_numpy(last - 1).to(device)


@lru_cache(maxsize=128)
def ends_of_blocks(found: Units, block: int, device: torch.device) -> tuple[Tensor, Tensor] | None:
    """int64 [blocks] each: the units of the first and of the last position of each block of positions.

    None where the units between these are not all of those in the block.
    """
    steps = np.diff(found.ids)
    if ((steps < 0) | (steps > 1)).any():
        return None
    first = found.ids[::block]
    last = found.ids[np.minimum(np.arange(len(first)) * block + block, len(found.ids)) - 1]
    return torch.from_numpy(first.copy()).to(device), torch.from_numpy(last).to(device)


def summed(x: Tensor, found: Units, dim: int) -> Tensor:
    """The sums of `x` over the positions of each unit along a dimension."""
    shape = list(x.shape)
    shape[dim] = found.count
    return x.new_zeros(shape).index_add(dim, ids_on(found, x.device), x)
