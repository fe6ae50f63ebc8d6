"""Spans: the keys around every unit that is chosen, as intervals of keys."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
import torch

from attnmask.errors import MaskError
from attnmask.ir.nodes import Choice
from attnmask.ir.rules import Amount, Spans, Top
from attnmask.lower.choose.evaluate import chosen
from attnmask.lower.choose.scores import Inputs, axes
from attnmask.lower.choose.sets import Intervals
from attnmask.lower.choose.units import Units, ends_on, ids_on

Tensor = torch.Tensor
_LAST = 2**31 - 1


def intervals(choice: Choice, rule: Spans, inputs: Inputs) -> Intervals:
    """The spans around what `rule.chosen` takes. MaskError where units of keys do not follow each other."""
    at_q, at_k = axes(choice, inputs.domain, inputs.tables)
    if (np.diff(at_k.ids) < 0).any():
        raise MaskError("spans need units of keys that follow each other", hint="number them by k // n")
    selector = rule.chosen.selector
    assert isinstance(selector, Top) and isinstance(selector.amount, float), "such a choice alone has spans"
    unit = chosen(choice, rule.chosen, inputs, partial(_listed, number=int(selector.amount)))
    back, ahead = (reach_of(amount, inputs.given, inputs.q) for amount in (rule.back, rule.ahead))
    by_query = max(back.shape[2], ahead.shape[2]) > 1
    if by_query and unit.shape[2] > 1:
        unit = unit[:, :, ids_on(at_q, unit.device)]
    if max(back.shape[1], ahead.shape[1]) > unit.shape[1]:
        unit = unit.repeat_interleave(inputs.q.shape[1] // unit.shape[1], dim=1)
    first, last = ends_on(at_k, unit.device)
    at, none = unit.clamp(min=0), unit < 0
    low = (first[at] - back[..., None]).masked_fill(none, _LAST)
    high = (last[at] + ahead[..., None]).masked_fill(none, -1)
    shape = (low + high).shape
    low, high, unit = (
        x.clamp(-1, _LAST).to(torch.int32).expand(shape).contiguous() for x in (low, high, unit)
    )
    return Intervals(low, high, unit, by_query, at_k.count)


def _listed(taken: Tensor, of_columns: Tensor | None, count: int, *, number: int) -> Tensor:
    """int64 [..., number]: the units that are taken, which are no more, and then -1; see `evaluate.Form`."""
    rank = taken.cumsum(-1).sub_(1).masked_fill_(~taken, number)
    listed = torch.full((*taken.shape[:-1], number + 1), -1, dtype=torch.int64, device=taken.device)
    every = torch.arange(count, device=taken.device) if of_columns is None else of_columns
    return listed.scatter(-1, rank, every.expand(taken.shape))[..., :number]


def reach_of(amount: Amount, given: Mapping[str, Tensor], q: Tensor) -> Tensor:
    """How far spans go: int64 [1 or B, 1 or H, 1 or Q]."""
    if not isinstance(amount, str):
        return torch.full((1, 1, 1), int(amount), dtype=torch.int64, device=q.device)
    found, shape = given[amount], tuple(q.shape[:3])
    sizes = (1,) * (3 - found.dim()) + tuple(found.shape)
    if len(sizes) != 3 or any(size not in (1, whole) for size, whole in zip(sizes, shape, strict=True)):
        raise MaskError(
            f"'{amount}' has shape {tuple(found.shape)}, which does not broadcast to {shape}: batch, heads, queries"
        )
    return found.reshape(sizes).to(torch.int64)


def span_tiles(
    found: Intervals, at_q: Units, lengths: tuple[int, int], block: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """bool [B, heads, rows, columns] of tiles: where no span of their queries is, and where one of each is whole.

    A tile that spans cover only together, none of them alone, is neither.
    """
    rows, columns = (-(-length // size) for length, size in zip(lengths, block, strict=True))
    low, high = _disjoint(found, at_q, lengths)
    size = block[1]
    some = _counted(low // size, high // size + 1, low <= high, (rows, columns), block[0]) > 0
    first, stop = -(-low // size), ((high + 1) // size).masked_fill(high == lengths[1] - 1, columns)
    whole = _counted(first, stop, (low <= high) & (first < stop), (rows, columns), block[0])
    queries = (lengths[0] - torch.arange(rows, device=low.device) * block[0]).clamp(max=block[0])
    return ~some, whole == queries[:, None]


def _disjoint(found: Intervals, at_q: Units, lengths: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """int64 [B, heads, queries, n]: the same keys in intervals that do not overlap, within the call."""
    q_len, kv_len = lengths
    low, order = found.low.clamp(0, kv_len).sort(dim=-1)
    high = found.high.clamp(max=kv_len - 1).gather(-1, order).cummax(-1).values
    low = torch.cat([low[..., :1], torch.maximum(low[..., 1:], high[..., :-1] + 1)], dim=-1)
    if low.shape[2] == 1:
        every = (x.expand(-1, -1, q_len, -1) for x in (low, high))
    elif found.by_query or at_q.run == 1:
        every = (x for x in (low, high))
    else:
        every = (x[:, :, ids_on(at_q, low.device)] for x in (low, high))
    low, high = (x.to(torch.int64) for x in every)
    return low, high


def _counted(first: Tensor, stop: Tensor, real: Tensor, shape: tuple[int, int], block: int) -> Tensor:
    """How many intervals [first, stop) of columns of each row of tiles, `block` queries, hold each column."""
    rows, columns = shape
    batch, heads, queries, number = first.shape
    counts = torch.zeros(batch, heads, rows, columns + 1, dtype=torch.int32, device=first.device)
    missing = rows * block - queries
    for at, sign in ((first, 1), (stop, -1)):
        change = (real * sign).to(torch.int32)
        at, change = (
            torch.nn.functional.pad(x, (0, 0, 0, missing)).reshape(batch, heads, rows, block * number)
            for x in (at.clamp(0, columns), change)
        )
        counts.scatter_add_(-1, at, change)
    return counts.cumsum(-1)[..., :columns]
