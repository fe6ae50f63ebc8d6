"""How the vectors of a unit become one."""

from __future__ import annotations

from math import sqrt
from typing import assert_never

import numpy as np

from attnmask.errors import MaskError
from attnmask.ir.chosen.call import Bools, Call, Floats
from attnmask.ir.rules import Concat, Linear, Pool, Pooling


def pooled(vectors: Floats, pool: Pooling, call: Call, head: int, heads: int) -> Floats:
    """The one vector that the vectors [n, D] of a unit of this head make, in the order of their positions."""
    match pool:
        case Pool():
            return _pool(vectors, pool)
        case Concat(pools):
            return np.concatenate([pooled(vectors, part, call, head, heads) for part in pools])
        case Linear(weights, inner):
            vector = pooled(vectors, inner, call, head, heads)
            return np.asarray(vector @ _matrix(call, weights, head, heads, vector.size))
        case _:
            assert_never(pool)


def _pool(vectors: Floats, pool: Pool) -> Floats:
    match pool.name:
        case "mean":
            return np.asarray(vectors.mean(0))
        case "max":
            return np.asarray(vectors.max(0))
        case "min":
            return np.asarray(vectors.min(0))
        case "first":
            return np.asarray(vectors[0])
        case "scaled_sum":
            return np.asarray(vectors.sum(0) / sqrt(len(vectors)))
        case "attention":
            return np.asarray(softmax(vectors @ vectors.mean(0) / sqrt(vectors.shape[1])) @ vectors)
        case "bounds":
            raise MaskError("bounds are a pool of keys alone, and not a part of another pool")
        case _:
            assert_never(pool.name)


def _matrix(call: Call, name: str, head: int, heads: int, size: int) -> Floats:
    found = call.named(name)
    found = found[None] if found.ndim == 2 else found
    if found.ndim != 3 or found.shape[0] not in (1, heads) or found.shape[1] != size:
        raise MaskError(f"'{name}' has the shape {found.shape}, not (1 or {heads}, {size}, …)")
    return np.asarray(found[head if found.shape[0] > 1 else 0])


def largest_product(query: Floats, keys: Floats) -> float:
    """The largest product of the query with a vector in the box around the keys [n, D] (Quest, arXiv:2406.10774)."""
    return float(np.maximum(query * keys.min(0), query * keys.max(0)).sum())


def softmax(logits: Floats, seen: Bools | bool = True) -> Floats:
    """Along the last axis, over what is seen; zeros elsewhere, and where nothing is."""
    masked = np.where(seen, logits, -np.inf)
    highest = masked.max(-1, keepdims=True, initial=-np.inf)
    weights = np.exp(masked - np.where(np.isfinite(highest), highest, 0.0))
    total = weights.sum(-1, keepdims=True)
    return np.asarray(weights / np.where(total > 0, total, 1.0))
