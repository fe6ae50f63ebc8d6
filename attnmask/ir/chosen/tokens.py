"""Scores that are made of those of single queries and keys."""

from __future__ import annotations

from math import sqrt
from typing import assert_never

import numpy as np

from attnmask.errors import MaskError
from attnmask.ir.chosen.call import Bools, Call, Floats
from attnmask.ir.chosen.heads import averaged, joined, reduced
from attnmask.ir.chosen.pools import softmax
from attnmask.ir.chosen.units import Units
from attnmask.ir.rules import Compressed, Exact, Probe


def exact_scores(score: Exact, call: Call, units: Units, sets: int) -> Floats:
    """[B, sets, rows, keys]; zeros for a pair of units in which no pair is seen."""
    call = averaged(call, score.proxy)
    takes_part = (call.q_positions % score.stride == 0)[:, None] & (call.k_positions % score.stride == 0)
    seen = takes_part & _seen(call, score.causal)
    values = joined(_products(call.q, call.k), score.heads)
    if score.norm == "softmax":
        values = softmax(values, seen)
    counts = takes_part if score.norm == "softmax" else seen
    values = reduced(values, score.heads, sets)
    number = units.over_pairs(np.add, counts, 0)
    total = units.over_pairs(np.add, np.where(counts, values, 0.0), 0.0)
    match score.reduce:
        case "sum":
            return total
        case "mean":
            return np.asarray(total / np.maximum(number, 1))
        case "max":
            highest = units.over_pairs(np.maximum, np.where(counts, values, -np.inf), -np.inf)
            return np.where(number > 0, highest, 0.0)
        case _:
            assert_never(score.reduce)


def probe_scores(score: Probe, call: Call, units: Units, sets: int) -> Floats:
    """[B, sets, rows, keys], every row the same."""
    last = slice(-min(score.rows, call.domain.q_len), None)
    products = joined(_products(call.q[:, :, last], call.k), score.heads)
    weights = reduced(softmax(products, _seen(call, score.causal)[last]), score.heads, sets)
    if score.along == "diagonals":
        if score.width != 1:
            raise MaskError("width averages over neighbouring keys, and diagonals have none")
        weights = np.where(units.pairs[last], weights, 0.0)
        keys = units.keys[:, :, last]
    else:
        weights = _smoothed(weights.sum(2), score.width)[:, :, None]
        keys = units.keys[:, :, :1]
    batch, _, n, kv_len = keys.shape
    result = np.zeros((batch, sets, 1, units.n_keys))
    for b, s, row, at in np.ndindex(batch, sets, n, kv_len):
        result[b, s, 0, keys[b, s, row, at]] += weights[b, s, row, at]
    return np.repeat(result, units.n_rows, axis=2)


def compressed_scores(score: Compressed, call: Call, units: Units, sets: int) -> Floats:
    """[B, sets, rows, keys]; zeros for queries that see no whole window."""
    first = np.arange(0, call.domain.kv_len - score.kernel + 1, score.stride)
    windows = [call.k[:, :, at : at + score.kernel].mean(2) for at in first]
    if not windows:
        return np.zeros((call.domain.batch, sets, units.n_rows, units.n_keys))
    ends = first + score.kernel - 1 <= call.q_positions[:, None]
    weights = softmax(joined(_products(call.q, np.stack(windows, 2)), score.heads), ends)
    batch, heads = weights.shape[:2]
    result = np.zeros((batch, heads, units.n_rows, units.n_keys))
    for b, h, w in np.ndindex(batch, heads, len(first)):
        of_set = h // (heads // sets)
        inside = units.of_keys[b, of_set, first[w] : first[w] + score.kernel]
        times = np.bincount(inside, minlength=units.n_keys) // score.stride
        for i, row in enumerate(units.rows[b, of_set]):
            result[b, h, row] += weights[b, h, i, w] * times
    return reduced(result, score.heads, sets)


def _products(q: Floats, k: Floats) -> Floats:
    """[B, H, Q, K]: products of the queries and keys of each head over the root of their dimension."""
    of_heads = np.repeat(k, q.shape[1] // k.shape[1], axis=1)
    return np.asarray(q @ of_heads.swapaxes(2, 3) / sqrt(q.shape[-1]))


def _seen(call: Call, causal: bool) -> Bools:
    """[Q, K]: what each query sees."""
    below = call.k_positions <= call.q_positions[:, None]
    return below if causal else np.ones_like(below)


def _smoothed(weights: Floats, width: int) -> Floats:
    """The mean over `width` neighbours [B, H, K], fewer at the ends."""
    if width % 2 == 0:
        raise MaskError(f"width must be odd, with as many neighbours on either side, and is {width}")
    n, aside = weights.shape[2], width // 2
    means = [weights[:, :, max(0, i - aside) : i + aside + 1].mean(2) for i in range(n)]
    return np.stack(means, 2)
