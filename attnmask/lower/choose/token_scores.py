"""Score maps that look at tokens: exact scores, strided antidiagonals, the last queries, compressed windows.

None of them holds scores of all pairs of tokens: rows of queries are taken in portions.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch

from attnmask.errors import MaskError
from attnmask.ir.domain import Domain
from attnmask.ir.rules import Antidiagonal, Compressed, Exact, Probe
from attnmask.lower.choose.heads import products, proxies, reduced
from attnmask.lower.choose.pools import wide
from attnmask.lower.choose.units import Units, ids_on, summed

Tensor = torch.Tensor
PORTION = 1 << 25  # scores at a time


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


def exact_scores(rule: Exact, q: Tensor, k: Tensor, at: tuple[Units, Units], domain: Domain) -> Tensor:
    """[B, H, query units, key units]."""
    kv_heads = k.shape[1]
    q, k = proxies(q, k, rule.proxy)
    q_at = torch.arange(domain.q_offset, domain.q_offset + q.shape[2], device=q.device)
    k_at = torch.arange(k.shape[2], device=q.device)
    q_ids, k_ids = ids_on(at[0], q.device), ids_on(at[1], q.device)
    if rule.stride > 1:
        columns = torch.arange(0, k.shape[2], rule.stride, device=q.device)
        first = min(-domain.q_offset % rule.stride, q.shape[2])  # perhaps no query of the call
        rows = torch.arange(first, q.shape[2], rule.stride, device=q.device)
        q, q_at, q_ids = q[:, :, rows], q_at[rows], q_ids[rows]
        k, k_at, k_ids = k[:, :, columns], k_at[columns], k_ids[columns]
    k = wide(k)
    shared = reduced(q[:, :, :0, :0], rule.heads, kv_heads).shape[1]
    shape = (q.shape[0], shared, at[0].count, at[1].count)
    lowest = -torch.inf if rule.reduce == "max" else 0.0
    total = torch.full(shape, lowest, dtype=k.dtype, device=q.device)
    seen_pairs = torch.zeros(shape[-2:], dtype=k.dtype, device=q.device)
    for rows_ in portions(q.shape[2], q.shape[0] * q.shape[1] * k.shape[2]):
        logits = products(wide(q[:, :, rows_]), k) / math.sqrt(q.shape[-1])
        seen = _seen(q_at[rows_], k_at, rule.causal)
        scores = _softmax(logits, seen) if rule.norm == "softmax" else logits
        scores = reduced(scores, rule.heads, kv_heads)
        hidden = torch.zeros_like(scores[0, 0], dtype=torch.bool) if seen is None else ~seen
        if rule.reduce == "max":
            scores = scores.masked_fill(hidden, -torch.inf)
            columns = total.new_full((*scores.shape[:-1], at[1].count), -torch.inf)
            columns = columns.scatter_reduce(-1, k_ids.expand(scores.shape), scores, "amax")
            row_ids = q_ids[rows_][:, None].expand(columns.shape)
            total = total.scatter_reduce(2, row_ids, columns, "amax")
            continue
        total.index_add_(2, q_ids[rows_], _by_unit(scores.masked_fill(hidden, 0.0), at[1], rule.stride))
        pairs = (~hidden).to(k.dtype) if rule.norm == "none" else torch.ones_like(hidden, dtype=k.dtype)
        seen_pairs.index_add_(0, q_ids[rows_], _by_unit(pairs, at[1], rule.stride))
    if rule.reduce == "mean":
        return total / seen_pairs.clamp(min=1)
    return total.masked_fill(total == -torch.inf, 0.0)  # pairs of units of which no query sees a key


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
    for rows in portions(strided_q.shape[2], q.shape[0] * q.shape[1] * strided_k.shape[2]):
        past = (
            domain.q_offset // stride + rows.stop if rule.causal else len(k_at)
        )  # later cells weigh nothing
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
    heads = reduced(q[:, :, :0, :0], rule.heads, k.shape[1]).shape[1]
    total = k_wide.new_zeros(q.shape[0], heads, last if diagonals else k.shape[2])
    for part in portions(rows, q.shape[0] * q.shape[1] * k.shape[2]):
        tail = wide(q[:, :, q.shape[2] - rows :][:, :, part])
        weights = _softmax(
            products(tail, k_wide) / math.sqrt(q.shape[-1]), _seen(q_at[part], k_at, rule.causal)
        )
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
    heads = reduced(q[:, :, :0, :0], rule.heads, k.shape[1]).shape[1]

    def of_tokens(part: slice) -> Tensor:
        if not windows:
            return means.new_zeros(q.shape[0], q.shape[1], part.stop - part.start, at[1].count)
        logits = products(wide(q[:, :, part]), means) / math.sqrt(q.shape[-1])
        return _softmax(logits, ends <= q_at[part][:, None]) @ overlap

    def rows(part: slice) -> Tensor:
        if at[0].run == 1:
            return reduced(of_tokens(part), rule.heads, k.shape[1])
        total = means.new_zeros(q.shape[0], q.shape[1], at[0].count, at[1].count)
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
