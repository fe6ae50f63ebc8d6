"""Gates of blocks: NSA as in fla, SeerAttention by ratio and in decoding, LongHeads, and VMoBA by number."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from tests.zoo.choosing_row import Row, Sets, Vector, best, dot, mean, softmax, units

INF = math.inf


def nsa_of_whole_blocks(row: Row, n: int, block: int) -> Sets:
    """As in fla: compressed keys are the means of blocks that have ended, and the own block is ahead of all.

    The authors give the own block weight 1 in each head, so that another can be its equal where it has all the
    weight in each head and `n` is 1. No initial block is forced; the own one has a part in the softmax once its
    last key is there.
    """
    chosen = {}
    for hk, keys in enumerate(row.k):
        means = {at: mean(keys[j] for j in places) for at, places in units(range(row.n_keys), block).items()}
        for p in row.positions:
            score = dict.fromkeys(range(p // block + 1), 0.0)
            ended = range((p + 1) // block)
            for h in range(hk * row.group, (hk + 1) * row.group) if ended else ():
                query = row.query(h, p)
                weights = softmax([dot(query, means[at]) / math.sqrt(len(query)) for at in ended])
                for at, weight in zip(ended, weights, strict=True):
                    score[at] += weight
            score[p // block] = INF
            chosen[hk, p] = best(score, n)
    return row.sets(lambda h, p, j: j <= p and j // block in chosen[h // row.group, p])


def _pooled(vectors: Sequence[Vector]) -> list[float]:
    """The maxima of all channels, then the minima, then the means."""
    channels = list(zip(*vectors, strict=True))
    return [pool(channel) for pool in (max, min, lambda x: sum(x) / len(x)) for channel in channels]


def _linear(vector: Vector, matrix: Sequence[Vector]) -> list[float]:
    """vector [n] times matrix [n, m]."""
    return [dot(vector, column) for column in zip(*matrix, strict=True)]


def seer_by_ratio(row: Row, ratio: float, block: int) -> Sets:
    """int((1 - √(1 - ratio)) · all blocks) of each block of queries, at least one; the last two see all."""
    blocks = units(range(row.n_keys), block)
    budget = max(1, int((1 - math.sqrt(1 - ratio)) * len(blocks)))
    kept = {}
    for h in range(row.heads):
        of_head = row.given["k_gate"][h // row.group]
        keys = [_linear(_pooled([row.key(h, j) for j in at]), of_head) for at in blocks.values()]
        for r, at in units(row.positions, block).items():
            query = _linear(_pooled([row.query(h, p) for p in at]), row.given["q_gate"][h])
            gate = {c: dot(query, key) for c, key in enumerate(keys) if c <= r}
            kept[h, r] = set(gate) if r >= len(blocks) - 2 else best(gate, budget)
    return row.sets(lambda h, p, j: j <= p and j // block in kept[h, p // block])


def seer_learned_decode(
    row: Row, block: int, *, threshold: float | None = None, tokens: int | None = None
) -> Sets:
    """SeerAttention-R with its projections: one set for a key head, by the projected mean query of the group.

    Softmax over the blocks before the own one; those above `threshold`, or the best `tokens` // block. The own
    block is seen besides.
    """
    chosen = {}
    for hk, keys in enumerate(row.k):
        heads = range(hk * row.group, (hk + 1) * row.group)
        for p in row.positions:
            query = _linear(mean(row.query(h, p) for h in heads), row.given["q_gate"][hk])
            logits = []
            for begin in range(0, p // block * block, block):
                key = _linear(_pooled(keys[begin : begin + block]), row.given["k_gate"][hk])
                logits.append(dot(query, key) / math.sqrt(len(query)))
            gate = dict(enumerate(softmax(logits) if logits else []))
            if tokens is not None:
                kept = best(gate, tokens // block)
            else:
                assert threshold is not None
                kept = {at for at, weight in gate.items() if weight > threshold}
            chosen[hk, p] = kept | {p // block}
    return row.sets(lambda h, p, j: j <= p and j // block in chosen[h // row.group, p])


def longheads(row: Row, n: int, chunk: int) -> Sets:
    """Chunk 0 and the last two are infinite, what lies ahead is out; others by the attention-pooled key.

    A chunk's key is the attention of its mean key over its keys. Where infinite ones are more than `n`, these.
    """
    chosen = {}
    for h in range(row.heads):
        pooled = []
        for at in units(range(row.n_keys), chunk).values():
            keys, centre = [row.key(h, j) for j in at], mean(row.key(h, j) for j in at)
            powers = [math.exp(dot(centre, key) / math.sqrt(len(key))) for key in keys]
            total = [sum(w * key[d] for w, key in zip(powers, keys, strict=True)) for d in range(len(centre))]
            pooled.append([x / sum(powers) for x in total])
        for p in row.positions:
            own = p // chunk
            gate = {at: dot(row.query(h, p), key) for at, key in enumerate(pooled[: own + 1])}
            forced = {0, max(0, own - 1), own} & set(gate)
            chosen[h, p] = best(gate | dict.fromkeys(forced, INF), max(n, len(forced)))
    return row.sets(lambda h, p, j: j <= p and j // chunk in chosen[h, p])


def vmoba_by_number(row: Row, cell: Callable[[int], int], n: int, over: str) -> Sets:
    """VMoBA's other mode: own cells first, inside the budget, which is `n` for each query that competes.

    Equal products of a head or of all go to the earlier query here; with the authors as torch.topk has it.
    """
    cells: dict[int, list[int]] = {}
    for j in range(row.n_keys):
        cells.setdefault(cell(j), []).append(j)
    contests: dict[tuple[int, ...], dict[tuple[int, int, int], float]] = {}
    for h in range(row.heads):
        means = {c: mean(row.key(h, j) for j in keys) for c, keys in cells.items()}
        for p in row.positions:
            of_contest = contests.setdefault({"row": (h, p), "head": (h,), "all": ()}[over], {})
            for c, centre in means.items():
                of_contest[h, p, c] = INF if c == cell(p) else dot(row.query(h, p), centre)
    chosen = set()
    for contest in contests.values():
        queries = {(h, p) for h, p, _ in contest}
        chosen |= best(contest, n * len(queries))
    return row.sets(lambda h, p, j: (h, p, cell(j)) in chosen)


def flash_moba_both_ways(row: Row, n: int, block: int) -> Sets:
    """FlashMoBA without causality: no block is forced, and all compete."""
    chosen = {}
    for h in range(row.heads):
        blocks = units(range(row.n_keys), block)
        means = {at: mean(row.key(h, j) for j in places) for at, places in blocks.items()}
        for p in row.positions:
            chosen[h, p] = best({at: dot(row.query(h, p), centre) for at, centre in means.items()}, n)
    return row.sets(lambda h, p, j: j // block in chosen[h, p])
