"""Clusters of queries and keys around given centroids."""

from __future__ import annotations

import numpy as np

from attnmask.errors import MaskError
from attnmask.ir.chosen.call import Bools, Call, Floats
from attnmask.ir.rules import Clusters


def memberships(rule: Clusters, call: Call) -> tuple[Bools, Bools]:
    """Which clusters each query and each key belongs to: [B, H, Q, clusters] and [B, H, K, clusters]."""
    heads = call.domain.heads
    centroids = call.named(rule.centroids)
    dim = call.q.shape[-1]
    allowed = (1, call.kv_heads, heads)
    if centroids.ndim != 3 or centroids.shape[0] not in allowed or centroids.shape[2] != dim:
        raise MaskError(
            f"'{rule.centroids}' has the shape {centroids.shape}, not (heads, key heads or 1, clusters, {dim})"
        )
    of_heads = np.repeat(centroids, heads // len(centroids), axis=0)
    keys = np.repeat(call.k, heads // call.kv_heads, axis=1)
    return _members(call.q, of_heads, rule.members), _members(keys, of_heads, rule.members)


def _members(vectors: Floats, centroids: Floats, members: int | None) -> Bools:
    """Ties go to the lower cluster, and among the members of a cluster to the lower position."""
    cosines = _unit_length(vectors) @ _unit_length(centroids).swapaxes(1, 2)
    result = np.zeros(cosines.shape, np.bool_)
    for b, h in np.ndindex(cosines.shape[:2]):
        near = cosines[b, h]
        if members is None:
            result[b, h, np.arange(len(near)), near.argmax(1)] = True
        else:
            best = np.argsort(-near, axis=0, kind="stable")[:members]
            np.put_along_axis(result[b, h], best, True, axis=0)
    return result


def _unit_length(vectors: Floats) -> Floats:
    """The vectors divided by their length; zero stays zero, at the same cosine 0 to everything."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.where(length > 0, length, 1.0))
