"""Score maps that look at tokens: exact scores, strided antidiagonals, the last queries, compressed windows.

None of them holds scores of all pairs of tokens: rows of queries are taken in portions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from attnmask.errors import MaskError
from attnmask.ir.domain import Domain
from attnmask.ir.rules import Antidiagonal, Compressed, Exact, Probe
from attnmask.lower.choose.heads import joined, products, proxies, reduced, sets_after
from attnmask.lower.choose.pools import wide
from attnmask.lower.choose.units import Units, ids_on, summed

Tensor = torch.Tensor
PORTION = 1 << 25  # scores at a time
_SHORTER = 4


def portions(rows: int, each: int) -> Iterator[slice]:
    """Slices of rows that have at most `PORTION` scores together, `each` a row."""
    step = max(1, PORTION // max(each, 1))
    return (slice(first, min(first + step, rows)) for first in range(0, rows, step))


def _softmax(logits: Tensor, seen: Tensor | None) -> Tensor:
    """Weights over the last dimension; zeros where nothing is seen."""
    if seen is None:
        return logits.softmax(-1)
    weights = logits.masked_fill(~seen, -torch.inf).softmax(-1)
    return weights.masked_fill(~seen.any(-1, keepdim=True), 0.0)


def _seen(q_at: Tensor, k_at: Tensor, causal: bool) -> Tensor | None:
    return k_at <= q_at[:, None] if causal else None


def exact_scores(
    rule: Exact, q: Tensor, k: Tensor, at: tuple[Units, Units], domain: Domain
) -> tuple[int, Callable[[slice], Tensor]]:
    """The number of sets, and the scores of some rows: [B, sets, rows, key units].

    Where every query is a unit, rows are scored when they are asked for, and never all at once.
    """
    kv_heads = k.shape[1]
    q, k = proxies(q, k, rule.proxy)
    tokens = _tokens(rule, q, wide(k), at, domain, kv_heads)
    sets = sets_after(rule.heads, q.shape[1], kv_heads)
    if at[0].run == rule.stride == 1:
        return sets, lambda rows: _finished(rule, *tokens.by_key_unit(rows))
    shape = (q.shape[0], sets, at[0].count, at[1].count)
    total = torch.full(
        shape, -torch.inf if rule.reduce == "max" else 0.0, dtype=tokens.k.dtype, device=q.device
    )
    pairs = torch.zeros(shape[-2:], dtype=total.dtype, device=q.device)
    for rows in portions(tokens.q.shape[2], q.shape[0] * q.shape[1] * tokens.k.shape[2]):
        columns, seen = tokens.by_key_unit(rows)
        ids = tokens.q_ids[rows]
        pairs.index_add_(0, ids, seen)
        if rule.reduce == "max":
            total = total.scatter_reduce(2, ids[:, None].expand(columns.shape), columns, "amax")
        else:
            total.index_add_(2, ids, columns)
    found = _finished(rule, total, pairs)
    return sets, lambda rows: found[:, :, rows]


def _finished(rule: Exact, total: Tensor, pairs: Tensor) -> Tensor:
    """Scores from sums (or maxima) over pairs, and the number of these."""
    if rule.reduce == "mean":
        return total / pairs.clamp(min=1)
    return total.masked_fill(total == -torch.inf, 0.0)  # pairs of units of which no query sees a key


@dataclass(frozen=True, slots=True)
class _Tokens:
    """The queries and keys that are scored one by one, their positions, and the units that they belong to."""

    rule: Exact
    q: Tensor
    k: Tensor
    q_at: Tensor
    k_at: Tensor
    q_ids: Tensor
    k_ids: Tensor
    key_units: Units
    kv_heads: int

    def by_key_unit(self, rows: slice) -> tuple[Tensor, Tensor]:
        """[B, sets, rows, units]: sums over keys of a unit, or maxima; and the number of keys [rows, units]."""
        rule, found = self.rule, self.key_units
        logits = joined(products(wide(self.q[:, :, rows]), self.k), rule.heads) / math.sqrt(self.q.shape[-1])
        seen = _seen(self.q_at[rows], self.k_at, rule.causal)
        scores = _softmax(logits, seen) if rule.norm == "softmax" else logits
        scores = reduced(scores, rule.heads, self.kv_heads)
        visible = scores.new_ones(scores.shape[-2:], dtype=torch.bool) if seen is None else seen
        counted = visible if rule.norm == "none" else torch.ones_like(visible)
        pairs = _by_unit(counted.to(scores.dtype), found, rule.stride)
        if rule.reduce != "max":
            return _by_unit(scores.masked_fill(~visible, 0.0), found, rule.stride), pairs
        scores = scores.masked_fill(~visible, -torch.inf)
        if found.run == 1 and rule.stride == 1:
            return scores, pairs
        columns = scores.new_full((*scores.shape[:-1], found.count), -torch.inf)
        return columns.scatter_reduce(-1, self.k_ids.expand(scores.shape), scores, "amax"), pairs


def _tokens(
    rule: Exact, q: Tensor, k: Tensor, at: tuple[Units, Units], domain: Domain, kv_heads: int
) -> _Tokens:
    """The tokens that take part: all, or the first of every `stride`."""
    q_at = torch.arange(domain.q_offset, domain.q_offset + q.shape[2], device=q.device)
    k_at = torch.arange(k.shape[2], device=q.device)
    q_ids, k_ids = ids_on(at[0], q.device), ids_on(at[1], q.device)
    if rule.stride > 1:
        first = min(-domain.q_offset % rule.stride, q.shape[2])  # perhaps no query of the call
        rows, columns = slice(first, None, rule.stride), slice(None, None, rule.stride)
        q, q_at, q_ids = q[:, :, rows], q_at[rows], q_ids[rows]
        k, k_at, k_ids = k[:, :, columns], k_at[columns], k_ids[columns]
    return _Tokens(rule, q, k, q_at, k_at, q_ids, k_ids, at[1], kv_heads)


def antidiagonal_scores(
    rule: Antidiagonal, q: Tensor, k: Tensor, at: tuple[Units, Units], domain: Domain
) -> Tensor:
    """[B, H, query units, key units]; cells are attributed to the unit of their first position."""
    stride = rule.stride
    if domain.q_offset % stride:
        raise MaskError(f"antidiag needs a query offset that is a multiple of its stride {stride}")
    for found in at:
        _require_whole_cells(found, stride)
    strided_q, strided_k = (_cells(wide(x), stride, rule.mode == "anti" and x is q) for x in (q, k))
    logit_scale = rule.scale / (stride * math.sqrt(q.shape[-1]))
    q_at = torch.arange(strided_q.shape[2], device=q.device) + domain.q_offset // stride
    k_at = torch.arange(strided_k.shape[2], device=q.device)
    q_unit = ids_on(at[0], q.device)[::stride]
    total = strided_q.new_zeros(*q.shape[:2], at[0].count, at[1].count)
    # Later cells weigh nothing: the shorter the portions, the fewer of them are computed.
    each = q.shape[0] * q.shape[1] * strided_k.shape[2] * (_SHORTER if rule.causal else 1)
    for rows in portions(strided_q.shape[2], each):
        past = domain.q_offset // stride + rows.stop if rule.causal else len(k_at)
        logits = products(strided_q[:, :, rows], strided_k[:, :, :past]) * logit_scale
        weights = _softmax(logits, _seen(q_at[rows], k_at[:past], rule.causal))
        total.index_add_(2, q_unit[rows], _by_unit(weights, at[1], stride))
    return total


def _require_whole_cells(found: Units, stride: int) -> None:
    if found.run is not None and found.run % stride == 0:
        return
    if (np.repeat(found.ids[::stride], stride)[: len(found.ids)] != found.ids).any():
        raise MaskError(f"antidiag needs units that are made of whole cells of {stride} positions")


def _by_unit(weights: Tensor, found: Units, stride: int = 1) -> Tensor:
    """[..., cells of the first positions] → [..., units]: sums over the cells of each unit."""
    if found.run == stride == 1:
        return weights
    if found.run is not None and found.run % stride == 0:
        size = found.run // stride
        parts = torch.nn.functional.pad(weights, (0, -weights.shape[-1] % size))
        sums = torch.unflatten(parts, -1, (-1, size)).sum(-1)
        return torch.nn.functional.pad(sums, (0, found.count - sums.shape[-1]))
    at = ids_on(found, weights.device)[::stride][: weights.shape[-1]]
    return weights.new_zeros(*weights.shape[:-1], found.count).index_add(-1, at, weights)


def _cells(x: Tensor, stride: int, backwards: bool) -> Tensor:
    """[B, H, N, D] → [B, H, cells, stride * D]: the positions of a cell side by side, zeros past the end."""
    padded = torch.nn.functional.pad(x, (0, 0, 0, -x.shape[2] % stride))
    cells = torch.unflatten(padded, 2, (-1, stride))
    return torch.flatten(cells.flip(3) if backwards else cells, 3)


def probe_scores(rule: Probe, q: Tensor, k: Tensor, found: Units, domain: Domain) -> Tensor:
    """[B, H, 1, units] of keys, or of diagonals."""
    rows = min(rule.rows, q.shape[2])
    last = domain.q_offset + q.shape[2]
    q_at = torch.arange(last - rows, last, device=q.device)
    k_at = torch.arange(k.shape[2], device=q.device)
    k_wide = wide(k)
    diagonals = rule.along == "diagonals"
    heads = sets_after(rule.heads, q.shape[1], k.shape[1])
    total = k_wide.new_zeros(q.shape[0], heads, last if diagonals else k.shape[2])
    for part in portions(rows, q.shape[0] * q.shape[1] * k.shape[2]):
        tail = wide(q[:, :, q.shape[2] - rows :][:, :, part])
        logits = joined(products(tail, k_wide), rule.heads) / math.sqrt(q.shape[-1])
        weights = _softmax(logits, _seen(q_at[part], k_at, rule.causal))
        weights = reduced(weights, rule.heads, k.shape[1])
        if not diagonals:
            total += weights.sum(2)
            continue
        distance = q_at[part][:, None] - k_at
        counted = weights.masked_fill(distance < 0, 0.0).flatten(2)
        total = total.index_add(2, distance.clamp(min=0).flatten(), counted)
    if rule.width > 1 and not diagonals:
        total = _smoothed(total, rule.width)
    return summed(total, found, 2)[:, :, None]


def _smoothed(x: Tensor, width: int) -> Tensor:
    """Means over `width` neighbours, of which those that do not exist are left out."""
    before = (width - 1) // 2
    sums = torch.nn.functional.pad(x, (before, width - 1 - before)).unfold(-1, width, 1).sum(-1)
    ones = torch.nn.functional.pad(torch.ones_like(x[:1, :1]), (before, width - 1 - before))
    return sums / ones.unfold(-1, width, 1).sum(-1)


def compressed_scores(
    rule: Compressed, q: Tensor, k: Tensor, at: tuple[Units, Units], domain: Domain
) -> tuple[int, Callable[[slice], Tensor]]:
    """The number of heads, and the scores of some rows: [B, H, rows, key units]."""
    run = at[1].run
    if run is None or run % rule.stride or rule.kernel % rule.stride:
        raise MaskError(
            f"compressed needs blocks and a kernel of a multiple of its stride {rule.stride}",
            hint="compressed(64, kernel=32, stride=16)",
        )
    windows = max((k.shape[2] - rule.kernel) // rule.stride + 1, 0)
    k_wide = wide(k)
    if windows:
        means = k_wide.unfold(2, rule.kernel, rule.stride).mean(-1)
    else:
        means = k_wide[:, :, :0]
    ends = torch.arange(windows, device=q.device) * rule.stride + rule.kernel - 1
    overlap = _overlaps(rule, windows, run, at[1].count, means)
    q_at = torch.arange(domain.q_offset, domain.q_offset + q.shape[2], device=q.device)
    heads = sets_after(rule.heads, q.shape[1], k.shape[1])
    apart = 1 if rule.heads == "concat" else q.shape[1]  # heads whose weights are reduced last

    def of_tokens(part: slice) -> Tensor:
        if not windows:
            return means.new_zeros(q.shape[0], apart, part.stop - part.start, at[1].count)
        logits = joined(products(wide(q[:, :, part]), means), rule.heads) / math.sqrt(q.shape[-1])
        return _softmax(logits, ends <= q_at[part][:, None]) @ overlap

    def rows(part: slice) -> Tensor:
        if at[0].run == 1:
            return reduced(of_tokens(part), rule.heads, k.shape[1])
        total = means.new_zeros(q.shape[0], apart, at[0].count, at[1].count)
        for some in portions(q.shape[2], q.shape[0] * q.shape[1] * max(windows, at[1].count)):
            total = total.index_add(2, ids_on(at[0], q.device)[some], of_tokens(some))
        return reduced(total[:, :, part], rule.heads, k.shape[1])

    return heads, rows


def _overlaps(rule: Compressed, windows: int, run: int, count: int, like: Tensor) -> Tensor:
    """[windows, units]: how many of a window's pieces of `stride` keys lie in a unit."""
    pieces = torch.arange(windows, device=like.device)[:, None] + torch.arange(
        rule.kernel // rule.stride, device=like.device
    )
    unit = torch.div(pieces * rule.stride, run, rounding_mode="floor")
    return like.new_zeros(windows, count).scatter_add(1, unit, torch.ones_like(unit, dtype=like.dtype))
