"""Clusters: Routing Transformer and Squeezed Attention, derived a second time."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from tests.zoo.choosing_row import Row, Sets, Vector, best, dot, mean


def _distance(a: Vector, b: Vector) -> float:
    """Squared, of both at length 1."""
    long_a, long_b = math.sqrt(dot(a, a)), math.sqrt(dot(b, b))
    return sum((x / long_a - y / long_b) ** 2 for x, y in zip(a, b, strict=True))


def _centroids(row: Row, h: int) -> Sequence[Vector]:
    """Those of a head: there are sets for every head, for every key head, or one."""
    sets = row.given["centroids"]
    found: Sequence[Vector] = sets[h * len(sets) // row.heads]
    return found


def routing_transformer(row: Row, members: int) -> Sets:
    """Each cluster takes its nearest queries and its nearest keys; a pair needs one in common.

    A token may be in none or several clusters; rows may be empty.
    """
    seen = set()
    for h in range(row.heads):
        for centre in _centroids(row, h):
            rows = best({p: -_distance(row.query(h, p), centre) for p in row.positions}, members)
            columns = best({j: -_distance(row.key(h, j), centre) for j in range(row.n_keys)}, members)
            seen |= {(h, p, j) for p in rows for j in columns}
    return row.sets(lambda h, p, j: j <= p and (h, p, j) in seen)


def nearest_centroid(row: Row) -> Sets:
    """Queries see keys of the same nearest centroid; of equally near ones the lower."""

    def nearest(h: int, vector: Vector) -> int:
        away = [_distance(vector, centre) for centre in _centroids(row, h)]
        return away.index(min(away))

    heads = range(row.heads)
    of_query = {(h, p): nearest(h, row.query(h, p)) for h in heads for p in row.positions}
    of_key = {(h, j): nearest(h, row.key(h, j)) for h in heads for j in range(row.n_keys)}
    return row.sets(lambda h, p, j: j <= p and of_query[h, p] == of_key[h, j])


def cluster_shares(row: Row, h: int, labels: Sequence[int]) -> Mapping[int, float]:
    """Of each cluster with keys: the mean over all queries of one key's share of attention to centroids.

    `labels`: the cluster of each key of the fixed prefix. Centroids are means of raw keys. The share of cluster c
    is exp(q · c / √D) / Σ size · exp(q · c' / √D).
    """
    places: dict[int, list[int]] = {}
    for j, label in enumerate(labels):
        places.setdefault(label, []).append(j)
    centres = {c: mean(row.key(h, j) for j in keys) for c, keys in places.items()}
    shares = dict.fromkeys(places, 0.0)
    for p in row.positions:
        query = row.query(h, p)
        power = {c: math.exp(dot(query, centre) / math.sqrt(len(query))) for c, centre in centres.items()}
        total = sum(len(places[c]) * power[c] for c in places)
        for c in places:
            shares[c] += power[c] / total / len(row.positions)
    return shares


def squeezed_attention(row: Row, labels: Sequence[Sequence[int]], t: float) -> Sets:
    """Keys of clusters above a threshold, and all that have no label; `labels` [key heads][keys of the prefix]."""
    of_heads = [cluster_shares(row, h, labels[h // row.group]) for h in range(row.heads)]

    def sees(h: int, p: int, j: int) -> bool:
        of_head = labels[h // row.group]
        return j <= p and (j >= len(of_head) or of_heads[h][of_head[j]] > t)

    return row.sets(sees)
