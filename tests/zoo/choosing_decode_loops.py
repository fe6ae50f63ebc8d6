"""Systems that choose from q and k when decoding, and a few others: what each attends, in plain loops.

Every function answers for one batch row: a truth value for each head, query and key.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

from tests.zoo.choosing_row import Row, Sets, Vector, best, dot, mean, softmax, units


def quest(row: Row, n: int, page: int, shared: bool = False) -> Sets:
    """Pages before the own one, by the largest product with any point of the box that holds their keys."""
    pages = units(range(row.n_keys), page)

    def bound(h: int, p: int, keys: list[int]) -> float:
        total = 0.0
        for d, x in enumerate(row.query(h, p)):
            channel = [row.key(h, j)[d] for j in keys]
            total += max(x * min(channel), x * max(channel))
        return total

    chosen = {}
    for heads in row.groups():
        for p in row.positions:
            earlier = {number: keys for number, keys in pages.items() if number < p // page}
            for h in heads:
                together = heads if shared else [h]
                scores = {
                    number: sum(bound(x, p, keys) for x in together) for number, keys in earlier.items()
                }
                chosen[h, p] = best(scores, n)
    return row.sets(lambda h, p, j: j <= p and (j // page == p // page or j // page in chosen[h, p]))


def snapkv(row: Row, capacity: int, rows: int, width: int, sinks: int, local: int) -> Sets:
    """One set of keys for each key head, by the smoothed attention of the last queries."""
    last = list(row.positions)[-rows:]
    always = {j for j in range(row.n_keys) if j < sinks or j >= row.n_keys - local}
    kept = []
    for heads in row.groups():
        seen = [0.0] * row.n_keys
        for p in last:
            of_heads = [row.weights(h, p) for h in heads]
            for j in range(row.n_keys):
                seen[j] += sum(weights[j] for weights in of_heads) / len(heads)
        half = width // 2
        smooth = {}
        for j in range(row.n_keys):
            near = [seen[x] for x in range(j - half, j + half + 1) if 0 <= x < row.n_keys]
            if j not in always and j <= last[-1]:
                smooth[j] = sum(near) / len(near)
        kept.append(always | best(smooth, capacity - len(always)))
    return row.sets(lambda h, p, j: j <= p and j in kept[h // row.group])


def kinetics(row: Row, n: int, local: int, block: int, sink: int) -> Sets:
    """Blocks between the sinks and the local part, which takes what is left over of the last block."""
    seen: dict[tuple[int, int], set[int]] = {}
    for heads in row.groups():
        for p in row.positions:
            whole = max((p + 1 - local - sink) // block, 0)
            scores, keys = {}, {}
            for number in range(whole):
                keys[number] = range(sink + number * block, sink + (number + 1) * block)
                total = sum(row.logit(h, p, j) for h in heads for j in keys[number])
                scores[number] = total / (len(heads) * block)
            static = {*range(sink), *range(sink + whole * block, p + 1)}
            chosen = {j for number in best(scores, n) for j in keys[number]}
            for h in heads:
                seen[h, p] = static | chosen
    return row.sets(lambda h, p, j: j <= p and j in seen[h, p])


def delta_pages(row: Row, n: int, recent: int, page: int) -> Sets:
    """The last pages, and older ones by the sum over their tokens of the largest weight of any head."""
    chosen = {}
    for p in row.positions:
        of_heads = [row.weights(h, p) for h in range(row.heads)]
        token = [max(weights[j] for weights in of_heads) for j in range(row.n_keys)]
        own = p // page
        last = {number for number in range(own + 1) if own - number < recent}
        older = {
            number: sum(token[j] for j in keys)
            for number, keys in units(range(row.n_keys), page).items()
            if number <= own - recent
        }
        chosen[p] = last | best(older, n - len(last))
    return row.sets(lambda h, p, j: j <= p and j // page in chosen[p])


def tidal_decode(row: Row, n: int) -> Sets:
    """The keys with the largest products, head by head."""
    chosen = {
        (h, p): best({j: dot(row.query(h, p), row.key(h, j)) for j in range(min(p + 1, row.n_keys))}, n)
        for h in range(row.heads)
        for p in row.positions
    }
    return row.sets(lambda h, p, j: j in chosen[h, p])


def biformer(row: Row, region: Callable[[int], int], n: int) -> Sets:
    """Regions by the product of mean queries and mean keys, the channels of all heads side by side."""

    def means(positions: Iterable[int], vector: Callable[[int, int], Vector]) -> dict[int, list[float]]:
        members: dict[int, list[list[float]]] = {}
        for p in positions:
            side_by_side = [x for h in range(row.heads) for x in vector(h, p)]
            members.setdefault(region(p), []).append(side_by_side)
        return {number: mean(vectors) for number, vectors in members.items()}

    q_means, k_means = means(row.positions, row.query), means(range(row.n_keys), row.key)
    chosen = {
        own: best({number: dot(query, key) for number, key in k_means.items()}, n)
        for own, query in q_means.items()
    }
    return row.sets(lambda h, p, j: region(j) in chosen[region(p)])


def _cosine(a: Vector, b: Vector) -> float:
    return dot(a, b) / math.sqrt(dot(a, a) * dot(b, b))


def routing_transformer(row: Row, members: int) -> Sets:
    """Every centroid takes its nearest queries and its nearest keys; a token may be in several clusters or none."""
    by_query, by_key = {}, {}
    for h in range(row.heads):
        centroids = row.given["centroids"]
        for c, centroid in enumerate(centroids[h if len(centroids) > 1 else 0]):
            by_query[h, c] = best({p: _cosine(row.query(h, p), centroid) for p in row.positions}, members)
            by_key[h, c] = best({j: _cosine(row.key(h, j), centroid) for j in range(row.n_keys)}, members)
    clusters = {c for _, c in by_key}
    return row.sets(
        lambda h, p, j: j <= p and any(p in by_query[h, c] and j in by_key[h, c] for c in clusters)
    )


def nearest_centroid(row: Row) -> Sets:
    """Query and key have the same nearest centroid."""

    def nearest(h: int, vector: Vector) -> int:
        centroids = row.given["centroids"]
        of_head = centroids[h if len(centroids) > 1 else 0]
        (found,) = best({c: _cosine(vector, centroid) for c, centroid in enumerate(of_head)}, 1)
        return int(found)

    return row.sets(lambda h, p, j: j <= p and nearest(h, row.query(h, p)) == nearest(h, row.key(h, j)))


def dma(row: Row, n: int) -> Sets:
    """The keys with the largest bias among those up to the query, for each key head."""
    chosen = {
        (h, p): best({j: row.given["bias"][h // row.group][0][j] for j in range(min(p + 1, row.n_keys))}, n)
        for h in range(row.heads)
        for p in row.positions
    }
    return row.sets(lambda h, p, j: j in chosen[h, p])


def sparsek(row: Row, n: int, local: int) -> Sets:
    """A pool of n keys that is read token by token: the least important one leaves, and never comes back."""
    pools = {}
    for h in range(row.heads):
        importance = row.given["u"][h * len(row.given["u"]) // row.heads][0]
        pool: list[int] = []
        for p in range(row.positions[-1] + 1):
            if p < row.n_keys:
                pool.append(p)
            if len(pool) > n:
                pool.remove(min(pool, key=lambda j: (importance[j], -j)))
            pools[h, p] = set(pool)
    return row.sets(lambda h, p, j: j <= p and (p - j < local or j in pools[h, p]))


def proxy_attn(row: Row, group: int, gamma: float, stride: int, block: int) -> Sets:
    """Averaged heads rank blocks of strided tokens; each head takes as many as cover gamma of its last queries."""
    blocks = units(range(row.n_keys), block)
    chosen = {}
    for first in range(0, row.heads, group):
        heads = range(first, first + group)
        keys = {j: mean(row.key(h, j) for h in heads) for j in range(0, row.n_keys, stride)}
        scores: dict[tuple[int, int], float] = {}
        for p in row.positions:
            if p % stride == 0:
                query = mean(row.query(h, p) for h in heads)
                seen = [j for j in keys if j <= p]
                weights = softmax([dot(query, keys[j]) / math.sqrt(len(query)) for j in seen])
                for j, weight in zip(seen, weights, strict=True):
                    at = p // block, j // block
                    scores[at] = max(scores.get(at, 0.0), weight)
        for h in heads:
            mass = dict.fromkeys(blocks, 0.0)
            for p in row.positions[-block:]:
                for j, weight in enumerate(row.weights(h, p)):
                    mass[j // block] += weight
            ordered = sorted(mass.values(), reverse=True)
            needed = next(m for m in range(1, len(mass) + 1) if sum(ordered[:m]) >= gamma * sum(ordered))
            for own in units(row.positions, block):
                past = {number: scores.get((own, number), 0.0) for number in blocks if number <= own}
                chosen[h, own] = best(past, needed)
    return row.sets(lambda h, p, j: j <= p and j // block in chosen[h, p // block])


def longheads(row: Row, n: int, chunk: int) -> Sets:
    """The first chunk, the last two, and the best ones by the query and a key that attention pools in the chunk."""
    chunks = units(range(row.n_keys), chunk)

    def pooled(h: int, members: list[int]) -> list[float]:
        keys = [row.key(h, j) for j in members]
        centre = mean(keys)
        weights = softmax([dot(centre, key) / math.sqrt(len(key)) for key in keys])
        return [
            sum(w * x for w, x in zip(weights, channel, strict=True)) for channel in zip(*keys, strict=True)
        ]

    chosen = {}
    for h in range(row.heads):
        keys = {number: pooled(h, members) for number, members in chunks.items()}
        for p in row.positions:
            own = p // chunk
            always = {number for number in keys if number <= own and (number == 0 or number >= own - 1)}
            others = {
                number: dot(row.query(h, p), key)
                for number, key in keys.items()
                if number <= own and number not in always
            }
            chosen[h, p] = always | best(others, n - len(always))
    return row.sets(lambda h, p, j: j <= p and j // chunk in chosen[h, p])


def mra(row: Row, n: int, block: int, band: int, first: int) -> Sets:
    """Pairs of blocks over all rows of a head, by the logit of their means less the largest of the row."""
    q_blocks, k_blocks = units(row.positions, block), units(range(row.n_keys), block)
    chosen = []
    for h in range(row.heads):
        keys = {number: mean(row.key(h, j) for j in members) for number, members in k_blocks.items()}
        always, others = set(), {}
        for own, members in q_blocks.items():
            query = mean(row.query(h, p) for p in members)
            logits = {number: dot(query, key) / math.sqrt(len(key)) for number, key in keys.items()}
            for number, logit in logits.items():
                if abs(own - number) <= band or own < first or number < first:
                    always.add((own, number))
                else:
                    others[own, number] = logit - max(logits.values())
        chosen.append(always | best(others, n * len(q_blocks) - len(always)))
    return row.sets(lambda h, p, j: (p // block, j // block) in chosen[h])


def top_theta(row: Row, n: int) -> Sets:
    """Keys whose scaled product is above the threshold of the head; the first queries see all."""
    theta = row.given["theta"]

    def above(h: int, p: int, j: int) -> bool:
        threshold: float = theta[h] if isinstance(theta, list) else theta
        return row.logit(h, p, j) > threshold

    return row.sets(lambda h, p, j: j <= p and (p < n or above(h, p, j)))


def squeezed_attention(row: Row, t: float, local: int) -> Sets:
    """Keys whose cluster scores above a threshold, the same for all queries, and the last ones."""
    weights = row.given["weights"]
    return row.sets(lambda h, p, j: j <= p and (j >= row.n_keys - local or weights[h][0][j] > t))
