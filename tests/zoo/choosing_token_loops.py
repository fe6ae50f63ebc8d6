"""More of `choosing_loops`: systems that choose by the attention of pairs of tokens."""

from __future__ import annotations

from collections.abc import Sequence

from tests.zoo.choosing_loops import INF, cut, parted, top, until
from tests.zoo.choosing_row import Row, Sets, softmax


def sums_of_lines(row: Row, h: int, queries: Sequence[int]) -> tuple[dict[int, float], dict[int, float]]:
    """Causal attention of some queries, added up by keys and by distances."""
    seen = range(queries[-1] + 1)
    columns, diagonals = dict.fromkeys(seen, 0.0), dict.fromkeys(seen, 0.0)
    for p in queries:
        for j, weight in enumerate(softmax([row.logit(h, p, j) for j in range(p + 1)])):
            columns[j] += weight
            diagonals[p - j] += weight
    return columns, diagonals


def flex_prefill_lines(row: Row, gamma: float, block: int) -> Sets:
    """Blocks of keys and of distances by the last queries; the first of each leads its order."""
    last = row.positions[-block:]
    seen = last[-1] + 1
    kept = {}
    for h in range(row.heads):
        for name, line in zip("vs", sums_of_lines(row, h, last), strict=True):
            sums = {J: sum(line[x] for x in at) for J, at in enumerate(cut(seen, block))}
            need = gamma * sum(sums.values()) - sums.pop(0)
            found = set(sums) if gamma >= 1 else set(until(sums, need)) if need > 0 else set()
            kept[name, h] = found | {0}
    return row.sets(
        lambda h, p, j: j <= p and (j // block in kept["v", h] or (p - j) // block in kept["s", h])
    )


def minference(row: Row, verticals: int, slashes: int, rows: int, sinks: int, local: int) -> Sets:
    """Sums of columns and of diagonals of the last rows; infinite for the first columns and the last diagonals."""
    last = row.positions[-rows:]
    seen = last[-1] + 1
    kept = {}
    for h in range(row.heads):
        column, diagonal = sums_of_lines(row, h, last)
        column |= dict.fromkeys(range(min(sinks, seen)), INF)
        diagonal |= dict.fromkeys(range(min(local, seen)), INF)
        kept[h] = top(column, verticals), top(diagonal, slashes)
    return row.sets(lambda h, p, j: j <= p and (j in kept[h][0] or p - j in kept[h][1]))


def sparsed(row: Row, prompt: int, n_prompt: int, n_generated: int, block: int) -> Sets:
    """Exact attention in both directions, averaged in blocks; columns of the prompt and the others apart."""
    blocks = cut(row.n_keys, block)
    kept = {}
    for h in range(row.heads):
        for r, at in parted(row, block).items():
            weights = [softmax([row.logit(h, p, j) for j in range(row.n_keys)]) for p in at]
            of_key = [sum(column) / len(at) for column in zip(*weights, strict=True)]
            score = {J: sum(of_key[j] for j in keys) / len(keys) for J, keys in enumerate(blocks)}
            early = {J: s for J, s in score.items() if J * block < prompt}
            late = {J: s for J, s in score.items() if J * block >= prompt}
            kept[h, r] = top(early, n_prompt) | top(late, n_generated)
    return row.sets(lambda h, p, j: j // block in kept[h, p // block])
