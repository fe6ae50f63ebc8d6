"""The systems of `choosing_decode_loops` that decode, derived from their rules a second time.

Nothing is shared with that file but the batch row and its arithmetic, and where a rule can be said in another way it
is: a bound by its corners, a mean of products as a product of means, the best few by how many are ahead. Every
function answers for one batch row, and takes its arguments in the order of the entry.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import product

from tests.zoo.choosing_row import Row, Sets, best, dot, mean, softmax, units


def ahead(scores: Mapping[int, float], unit: int) -> int:
    """How many units come before one: those with a larger score, and lower ones with the same."""
    return sum((-score, other) < (-scores[unit], unit) for other, score in scores.items())


def quest(row: Row, n: int, page: int, shared: bool = False) -> Sets:
    """The current page, and earlier ones by their best corner; `shared`: summed over the heads of a key head."""

    def bound(h: int, p: int, number: int) -> float:
        keys = [row.key(h, j) for j in range(number * page, (number + 1) * page)]
        sides = [(min(channel), max(channel)) for channel in zip(*keys, strict=True)]
        return max(dot(row.query(h, p), corner) for corner in product(*sides))

    chosen = {}
    for h in range(row.heads):
        first = h // row.group * row.group
        asked = range(first, first + row.group) if shared else [h]
        for p in row.positions:
            # Keys after the last query may end inside of a page, but never one that is before a query's.
            scores = {number: sum(bound(x, p, number) for x in asked) for number in range(p // page)}
            chosen[h, p] = {number for number in scores if ahead(scores, number) < n} | {p // page}
    return row.sets(lambda h, p, j: j <= p and j // page in chosen[h, p])


def snapkv(row: Row, capacity: int, rows: int, width: int, sinks: int, local: int) -> Sets:
    """One set of keys for a key head and all queries, by the attention of the last ones; forced keys are infinite.

    Means are over the neighbours that exist, forced ones among them: places past either end are no zeros. Where
    forced keys alone are more than `capacity`, `capacity` of them, the lowest.
    """
    end, aside = row.positions[-1], width // 2
    kept = []
    for hk in range(len(row.k)):
        heads = range(hk * row.group, (hk + 1) * row.group)
        seen = [0.0] * row.n_keys
        for p in row.positions[-rows:]:
            for h in heads:
                for j, weight in enumerate(softmax([row.logit(h, p, j) for j in range(p + 1)])):
                    seen[j] += weight / len(heads)
        scores = {}
        for j in range(row.n_keys):
            near = [seen[x] for x in range(j - aside, j + aside + 1) if 0 <= x < row.n_keys]
            if j < sinks or j >= row.n_keys - local:
                scores[j] = math.inf
            elif j <= end:
                scores[j] = sum(near) / len(near)
        kept.append(best(scores, capacity))
    return row.sets(lambda h, p, j: j <= p and j in kept[h // row.group])


def kinetics(row: Row, n: int, local: int, block: int, sink: int) -> Sets:
    """First keys, last keys, and the best blocks of the middle by the group's mean query and their mean key.

    Whole blocks are cut from the sinks on and end before the last `local` keys; the rest is seen with these.
    """
    chosen = {}
    for hk, keys in enumerate(row.k):
        heads = range(hk * row.group, (hk + 1) * row.group)
        for p in row.positions:
            query = mean(row.query(h, p) for h in heads)
            number = max(0, p + 1 - sink - local) // block
            middle = units(range(number * block), block)
            scores = {at: dot(query, mean(keys[sink + x] for x in places)) for at, places in middle.items()}
            seen = set(range(min(sink, p + 1))) | set(range(sink + number * block, p + 1))
            for at in scores:
                if ahead(scores, at) < n:
                    seen |= {sink + x for x in middle[at]}
            chosen[hk, p] = seen
    return row.sets(lambda h, p, j: j in chosen[h // row.group, p])


def delta_pages(row: Row, n: int, recent: int, page: int) -> Sets:
    """The last `recent` pages and the best others, `n` in all; all pages where there are no more; one set.

    A token scores its largest weight in any head, a page the sum of its tokens. Where `recent` is more than the
    budget, the recent pages alone.
    """
    chosen = {}
    for p in row.positions:
        pages = units(range(p + 1), page)
        of_heads = [softmax([row.logit(h, p, j) for j in range(p + 1)]) for h in range(row.heads)]
        score = {at: sum(max(weights[j] for weights in of_heads) for j in keys) for at, keys in pages.items()}
        older = max(0, len(pages) - recent)
        if len(pages) <= n:
            chosen[p] = set(pages)
        else:
            chosen[p] = set(range(older, len(pages))) | best(
                {at: score[at] for at in range(older)}, n - recent
            )
    return row.sets(lambda h, p, j: j <= p and j // page in chosen[p])


def tidal_decode(row: Row, n: int) -> Sets:
    """Keys up to the query with fewer than `n` ahead of them, by their product."""

    def products(h: int, p: int) -> dict[int, float]:
        return {j: dot(row.query(h, p), row.key(h, j)) for j in range(min(p + 1, row.n_keys))}

    scores = {(h, p): products(h, p) for h in range(row.heads) for p in row.positions}
    return row.sets(lambda h, p, j: j <= p and ahead(scores[h, p], j) < n)
