"""From sets of units to tiles: where a choice certainly holds on all of a tile, and where it may hold at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch

from attnmask.ir.choices import is_diagonal
from attnmask.ir.domain import Domain
from attnmask.ir.nodes import Choice
from attnmask.ir.tables import TableData
from attnmask.lower.choose.planes import differs, extent, of_part, parts
from attnmask.lower.choose.scores import axes
from attnmask.lower.choose.sets import Chosen, Intervals, Members, Pairs, with_units
from attnmask.lower.choose.spans import span_tiles
from attnmask.lower.choose.units import Units, ends_of_blocks, ids_on

Tensor = torch.Tensor


@dataclass(frozen=True, slots=True)
class Outcomes:
    """bool [B or 1, H or 1, rows, columns]: where a predicate holds nowhere on a tile, and where everywhere.

    Sound and not always exact: a tile that is neither may be anything. The end of a text is no end here: a ragged
    tile counts as full where the predicate holds on all that exists of it.
    """

    never: Tensor
    full: Tensor


def choice_outcomes(
    choice: Choice, found: Chosen, domain: Domain, tables: Mapping[str, TableData], block: tuple[int, int]
) -> Outcomes:
    """The tiles of what was chosen, for as many heads as there are sets, or all heads."""
    if isinstance(found, Members):
        return _cluster_outcomes(found, domain, block)
    if differs(choice):
        return _apart(choice, found, domain, tables, block)
    at_q, at_k = axes(choice, domain, tables)
    if isinstance(found, Intervals):
        outcomes = Outcomes(*span_tiles(found, at_q, (domain.q_len, domain.kv_len), block))
        return _for_all_heads(outcomes, found.low.shape[1], domain.heads)
    taken = with_units(found.taken, at_q.count, at_k.count)
    if is_diagonal(choice):
        outcomes = _diagonal_outcomes(taken[:, :, 0], at_k, domain, block)
    else:
        some, every = (
            _along(_along(taken, 2, at_q, domain.q_len, block[0], how), 3, at_k, domain.kv_len, block[1], how)
            for how in ("any", "all")
        )
        outcomes = Outcomes(~some, every)
    return _for_all_heads(outcomes, taken.shape[1], domain.heads)


def _apart(
    choice: Choice,
    found: Pairs | Intervals,
    domain: Domain,
    tables: Mapping[str, TableData],
    block: tuple[int, int],
) -> Outcomes:
    """The same where units differ between batch rows or heads."""
    sets = (found.taken if isinstance(found, Pairs) else found.low).shape[1]
    first = extent(choice, domain, tables, sets)[0]
    tiles = -(-domain.q_len // block[0]), -(-domain.kv_len // block[1])
    rows: list[list[Outcomes]] = []
    for part in parts(choice, domain, tables, sets):
        mine = choice_outcomes(part.choice, of_part(found, part, first), part.domain, tables, block)
        if not part.number:
            rows.append([])
        heads = -1 if part.number is None else part.domain.heads
        rows[-1].append(Outcomes(*(x.expand(-1, heads, *tiles) for x in (mine.never, mine.full))))
    return _joined([_joined(row, 1) for row in rows], 0)


def _joined(found: Sequence[Outcomes], dim: int) -> Outcomes:
    return Outcomes(
        *(torch.cat([getattr(each, name) for each in found], dim=dim) for name in ("never", "full"))
    )


def _for_all_heads(outcomes: Outcomes, sets: int, heads: int) -> Outcomes:
    if sets in (1, heads):
        return outcomes
    each = heads // sets
    return Outcomes(*(x.repeat_interleave(each, dim=1) for x in (outcomes.never, outcomes.full)))


def _along(taken: Tensor, dim: int, found: Units, length: int, block: int, how: str) -> Tensor:
    """Any or all of the positions of each block along a dimension of units."""
    if taken.shape[dim] == 1:
        return taken
    tiles = -(-length // block)
    run = found.run
    if run is not None and run % block == 0:
        return taken.repeat_interleave(run // block, dim=dim).narrow(dim, 0, tiles)
    if run is not None and block % run == 0:
        parts = _padded(taken, dim, tiles * (block // run), how == "all")
    elif (ends := ends_of_blocks(found, block, taken.device)) is not None:
        return _between(taken, dim, *ends, how)
    else:
        last = length - 1
        at = torch.arange(tiles * block, device=taken.device).clamp(max=last)
        parts = taken.index_select(dim, ids_on(found, taken.device)[at])
    parts = torch.unflatten(parts, dim, (tiles, -1))
    return parts.any(dim + 1) if how == "any" else parts.all(dim + 1)


def _between(taken: Tensor, dim: int, first: Tensor, last: Tensor, how: str) -> Tensor:
    """Any or all of the units from each first to each last, along a dimension of units."""
    sums = torch.nn.functional.pad(taken.transpose(dim, -1).cumsum(-1, dtype=torch.int32), (1, 0))
    number = (sums.index_select(-1, last + 1) - sums.index_select(-1, first)).transpose(dim, -1)
    if how == "any":
        return number > 0
    width = (last + 1 - first).reshape([-1 if at == dim else 1 for at in range(taken.dim())])
    return number == width


def _padded(x: Tensor, dim: int, length: int, value: bool) -> Tensor:
    missing = length - x.shape[dim]
    if missing <= 0:
        return x
    padding = [0, 0] * (x.dim() - 1 - dim) + [0, missing]
    return torch.nn.functional.pad(x, padding, value=value)


def _diagonal_outcomes(taken: Tensor, at_k: Units, domain: Domain, block: tuple[int, int]) -> Outcomes:
    """taken [B, H, units of distances]; later keys lie on none of the diagonals."""
    device = taken.device
    by_distance = taken[:, :, ids_on(at_k, device)]
    sums = torch.nn.functional.pad(by_distance.cumsum(-1, dtype=torch.int32), (1, 0))
    rows, columns = -(-domain.q_len // block[0]), -(-domain.kv_len // block[1])
    first_q = torch.arange(rows, device=device)[:, None] * block[0]
    last_q = (first_q + block[0] - 1).clamp(max=domain.q_len - 1)
    first_k = torch.arange(columns, device=device) * block[1]
    last_k = (first_k + block[1] - 1).clamp(max=domain.kv_len - 1)
    low, high = first_q + domain.q_offset - last_k, last_q + domain.q_offset - first_k
    number = sums[:, :, (high + 1).clamp(min=0)] - sums[:, :, low.clamp(min=0)]
    return Outcomes(number == 0, number == high - low + 1)


def _cluster_outcomes(found: Members, domain: Domain, block: tuple[int, int]) -> Outcomes:
    some, every = (
        _common(
            _by_block(found.q, domain.q_len, block[0], how), _by_block(found.k, domain.kv_len, block[1], how)
        )
        for how in ("any", "all")
    )
    return Outcomes(~some, every)


def _by_block(members: Tensor, length: int, block: int, how: str) -> Tensor:
    tiles = -(-length // block)
    parts = torch.unflatten(_padded(members, 2, tiles * block, how == "all"), 2, (tiles, block))
    return parts.any(3) if how == "any" else parts.all(3)


def _common(q: Tensor, k: Tensor) -> Tensor:
    """bool [B, H, rows, columns]: whether some cluster has both."""
    return (q.to(torch.float32) @ k.to(torch.float32).mT) > 0
