"""Clusters: queries and keys by their nearest centroids, or the nearest members of every centroid."""

from __future__ import annotations

import torch
from torch.nn.functional import normalize

from attnmask.errors import MaskError
from attnmask.ir.rules import Clusters
from attnmask.lower.choose.pools import wide
from attnmask.lower.choose.sets import Members

Tensor = torch.Tensor


def members(rule: Clusters, q: Tensor, k: Tensor, centroids: Tensor, *, check: bool) -> Members:
    """q [B, Hq, Q, D] and k [B, Hkv, K, D] by their `centroids` [heads, key heads or 1, clusters, D], by cosine.

    Key heads, and centroids of key heads, are repeated for the query heads that use them. `check` looks for NaN and
    infinity.
    """
    if centroids.dim() == 2:
        centroids = centroids[None]
    heads, kv_heads = q.shape[1], k.shape[1]
    if (
        centroids.dim() != 3
        or centroids.shape[0] not in (1, kv_heads, heads)
        or not centroids.shape[1]
        or centroids.shape[2] != q.shape[3]
    ):
        raise MaskError(
            f"'{rule.centroids}' has shape {tuple(centroids.shape)}, and centroids are "
            f"[{heads}, {kv_heads} or 1, clusters, {q.shape[3]}]"
        )
    if check and not all(bool(torch.isfinite(x).all()) for x in (q, k)):
        raise MaskError("q or k holds NaN or infinity, and what is not a number is near to nothing")
    keys = k.repeat_interleave(heads // kv_heads, dim=1)
    of_heads = centroids.repeat_interleave(heads // len(centroids), dim=0)
    centres = normalize(wide(of_heads).to(wide(q).dtype), dim=-1)
    by_query, by_key = (_members(normalize(wide(x), dim=-1) @ centres.mT, rule.members) for x in (q, keys))
    return Members(by_query, by_key)


def _members(nearness: Tensor, most: int | None) -> Tensor:
    """nearness [B, H, positions, clusters]; of equally near clusters, and positions, the first."""
    if most is None:
        nearest = nearness.argmax(-1, keepdim=True)
        return torch.zeros_like(nearness, dtype=torch.bool).scatter(-1, nearest, True)
    by_cluster = nearness.mT
    if most >= by_cluster.shape[-1]:
        return torch.ones_like(nearness, dtype=torch.bool)
    last = by_cluster.topk(most, dim=-1, sorted=False).values.amin(-1, keepdim=True)
    above, equal = by_cluster > last, by_cluster == last
    left = most - above.sum(-1, keepdim=True, dtype=torch.int32)
    return (above | equal & (equal.cumsum(-1, dtype=torch.int32) <= left)).mT
