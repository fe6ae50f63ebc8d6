"""What was chosen, as tensors on the device: pairs of units, intervals of keys, members of clusters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

import torch

from attnmask.errors import MaskError

Tensor = torch.Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """bool [B, heads, query units, key units]: pairs of units; each set serves as many query heads in a row."""

    taken: Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Intervals:
    """int32 [B, heads, rows, n]: the first and the last key of every span, and the unit that it is around.

    Where there is none low > high, and the unit is -1. Rows are units of queries, or the queries where `by_query`.
    `units`: how many units of keys were chosen from.
    """

    low: Tensor
    high: Tensor
    unit: Tensor
    by_query: bool
    units: int


@dataclass(frozen=True, slots=True, eq=False)
class Members:
    """bool q [B, H, Q, clusters] and k [B, H, K, clusters]: who belongs to which; a pair attends in a common one."""

    q: Tensor
    k: Tensor


Chosen = Pairs | Members | Intervals


def tensors(found: Chosen) -> tuple[Tensor, ...]:
    """All that is kept of a choice."""
    match found:
        case Pairs(taken):
            return (taken,)
        case Intervals():
            return found.low, found.high, found.unit
        case Members():
            return found.q, found.k
        case _:
            assert_never(found)


def require_rows(made: int, needed: int) -> None:
    """MaskError where rows that were chosen belong to another call."""
    if made != needed:
        raise MaskError(
            f"the choices were made for {made} units of queries, and the call has {needed}",
            hint="choose again, or choose with one unit for all queries",
        )


def with_units(taken: Tensor, queries: int, keys: int) -> Tensor:
    """The set with a row for each unit of queries, or one for all, and a column for each unit of keys.

    Units of keys that came after the choice was made are not in it; keys that came into a chosen unit are.
    MaskError where its rows belong to another call.
    """
    require_rows(taken.shape[2], queries)
    missing = keys - taken.shape[3]
    return torch.nn.functional.pad(taken, (0, missing)) if missing > 0 else taken
