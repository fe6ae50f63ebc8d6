"""Scores of pooled queries and pooled keys."""

from __future__ import annotations

from math import sqrt
from typing import assert_never

import numpy as np

from attnmask.errors import MaskError
from attnmask.ir.chosen.call import Bools, Call, Floats
from attnmask.ir.chosen.heads import averaged, joined, reduced
from attnmask.ir.chosen.pools import largest_product, pooled, softmax
from attnmask.ir.chosen.scopes import scopes
from attnmask.ir.chosen.units import Units
from attnmask.ir.rules import Blocks, Norm, Over, Pool


def block_scores(score: Blocks, call: Call, units: Units, candidates: Bools, over: Over) -> Floats:
    """[B, sets, rows, keys]; `units` and `candidates` [B, sets, rows, keys] are those of the sets."""
    call = averaged(call, score.proxy)
    batch, heads = call.q.shape[:2]
    sets = candidates.shape[1]
    products = np.zeros((batch, heads, units.n_rows, units.n_keys))
    for b in range(batch):
        for h in range(heads):
            products[b, h] = _products(score, call, units, b, h, h // (heads // sets))
    products = joined(products, score.heads)
    allowed = np.repeat(candidates, products.shape[1] // sets, axis=1)
    return reduced(_normed(products, allowed, score.norm, over), score.heads, sets)


def _products(score: Blocks, call: Call, units: Units, b: int, h: int, of_set: int) -> Floats:
    """[rows, keys] for one head; zeros where a unit does not exist."""
    heads, kv_heads = call.q.shape[1], call.kv_heads
    kv_head = h // (heads // kv_heads)
    result = np.zeros((units.n_rows, units.n_keys))
    bounds = score.pool == Pool("bounds")
    keys_of = {}
    for unit in np.unique(units.of_keys[b, of_set]):
        keys = call.k[b, kv_head, units.of_keys[b, of_set] == unit]
        keys_of[unit] = keys if bounds else pooled(keys, score.pool, call, kv_head, kv_heads)
    for row in np.unique(units.rows[b, of_set]):
        query = pooled(call.q[b, h, units.rows[b, of_set] == row], score.q_pool, call, h, heads)
        for unit, key in keys_of.items():
            if query.size != key.shape[-1]:
                raise MaskError(f"pooled queries have {query.size} channels, and keys {key.shape[-1]}")
            product = largest_product(query, key) if bounds else float(query @ key)
            scale = 1 / sqrt(query.size) if score.scale is None else score.scale
            result[row, unit] = product * scale
    return result


def _normed(scores: Floats, candidates: Bools, norm: Norm, over: Over) -> Floats:
    """What is no candidate has no share of a softmax or a minmax: zero, also where it is counted."""
    match norm:
        case "none":
            return scores
        case "softmax":
            return softmax(scores, candidates)
        case "rowmax":
            highest = np.where(candidates, scores, -np.inf).max(-1, keepdims=True)
            return scores - np.where(np.isfinite(highest), highest, 0.0)
        case "minmax":
            return _minmax(scores, candidates, over)
        case _:
            assert_never(norm)


def _minmax(scores: Floats, candidates: Bools, over: Over) -> Floats:
    """Zeros where nothing differs."""
    result = np.zeros(scores.shape)
    for b in range(len(scores)):
        flat, allowed = scores[b].ravel(), candidates[b].ravel()
        for scope in scopes(over, scores.shape[1:]):
            places = scope[allowed[scope]]
            if places.size and np.ptp(flat[places]) > 0:
                low = flat[places].min()
                result[b].reshape(-1)[places] = (flat[places] - low) / (flat[places].max() - low)
    return result
