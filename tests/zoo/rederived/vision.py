"""Images and video, in both directions: BiFormer, MRA, DraftAttention beside text, and levels of PSA."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from tests.zoo.choosing_row import Row, Sets, Vector, best, dot, mean, softmax, units


def biformer(row: Row, region: Callable[[int], int], n: int) -> Sets:
    """For each region of queries the best regions of keys, the same for all heads; the own one is not forced.

    Products of mean queries and mean keys are added up over heads, not scaled.
    """
    asks: dict[int, list[int]] = {}
    answers: dict[int, list[int]] = {}
    for p in row.positions:
        asks.setdefault(region(p), []).append(p)
    for j in range(row.n_keys):
        answers.setdefault(region(j), []).append(j)
    scores: dict[int, dict[int, float]] = {r: dict.fromkeys(answers, 0.0) for r in asks}
    for h in range(row.heads):
        for r, queries in asks.items():
            query = mean(row.query(h, p) for p in queries)
            for c, keys in answers.items():
                scores[r][c] += dot(query, mean(row.key(h, j) for j in keys))
    chosen = {r: best(of_row, n) for r, of_row in scores.items()}
    return row.sets(lambda h, p, j: region(j) in chosen[region(p)])


def mra(row: Row, n: int, block: int, band: int, first: int) -> Sets:
    """All pairs of blocks of a head in one list, those of the band and the first ones raised above the others.

    Others by the logit of their means less the largest of their row. Where raised ones are more than n for each
    row, these.
    """
    q_blocks, k_blocks = units(row.positions, block), units(range(row.n_keys), block)
    chosen = []
    for h in range(row.heads):
        flat: dict[tuple[int, int], float] = {}
        for r, at in q_blocks.items():
            query = mean(row.query(h, p) for p in at)
            logits = {
                c: dot(query, mean(row.key(h, j) for j in keys)) / math.sqrt(len(query))
                for c, keys in k_blocks.items()
            }
            highest = max(logits.values())
            flat |= {(r, c): logit - highest for c, logit in logits.items()}
        raised = {(r, c): math.inf for r, c in flat if abs(r - c) <= band or min(r, c) < first}
        chosen.append(best(flat | raised, max(n * len(q_blocks), len(raised))))
    return row.sets(lambda h, p, j: (p // block, j // block) in chosen[h])


def draft_beside_text(row: Row, text: int, cell: Callable[[int], int], sparsity: float) -> Sets:
    """The first `text` tokens see and are seen by all; cells of the others as in DraftAttention, without text.

    Pairs that equal the last one that is kept are kept; at least one pair is.
    """
    rows: dict[int, list[int]] = {}
    columns: dict[int, list[int]] = {}
    for positions, found in ((row.positions, rows), (range(row.n_keys), columns)):
        for position in positions:
            if position >= text:
                found.setdefault(cell(position), []).append(position)
    chosen: set[tuple[int, int, int]] = set()
    for h in range(row.heads) if rows and columns else ():
        keys = {c: mean(row.key(h, j) for j in at) for c, at in columns.items()}
        flat: dict[tuple[int, int, int], float] = {}
        for r, at in rows.items():
            query = mean(row.query(h, p) for p in at)
            weights = softmax([dot(query, key) / math.sqrt(len(query)) for key in keys.values()])
            flat |= {(h, r, c): weight for c, weight in zip(keys, weights, strict=True)}
        # The last bits of 1 - sparsity are not the reader's.
        last = sorted(flat.values())[-max(1, int((1 - sparsity) * len(flat) + 1e-9))]
        chosen |= {place for place, weight in flat.items() if weight >= last}
    return row.sets(lambda h, p, j: p < text or j < text or (h, cell(p), cell(j)) in chosen)


# Up to this share of a row's ranks, this level: PSA's first levels are finer (5, 15, 25 and 50 %).
BANDS = ((0.25, 1), (0.5, 2), (0.75, 4))


def psa_levels(row: Row, h: int, block: int, stride: int) -> dict[tuple[int, int], int]:
    """How coarsely each block of queries sees each block of keys: the first band its rank lies in, or 0.

    Attention among every `stride`-th token, its mean over each pair of blocks; bands are not rounded to levels.
    """
    q_blocks, k_blocks = units(row.positions, block), units(range(row.n_keys), block)
    sampled = [j for j in range(row.n_keys) if j % stride == 0]
    levels = {}
    for r, at in q_blocks.items():
        mass = dict.fromkeys(k_blocks, 0.0)
        for p in at:
            if p % stride == 0:
                for j, weight in zip(sampled, softmax([row.logit(h, p, j) for j in sampled]), strict=True):
                    mass[j // block] += weight
        means = {c: mass[c] / sum(j % stride == 0 for j in k_blocks[c]) for c in mass}
        for rank, c in enumerate(sorted(means, key=lambda c: (-means[c], c))):
            reached = [level for share, level in BANDS if rank < share * len(means)]
            levels[r, c] = reached[0] if reached else 0
    return levels


def psa(row: Row, level: int, block: int, stride: int) -> Sets:
    """What is seen at one level."""
    of_heads = [psa_levels(row, h, block, stride) for h in range(row.heads)]
    return row.sets(lambda h, p, j: of_heads[h][p // block, j // block] == level)


def attention_by_levels(
    row: Row, v: Sequence[Sequence[Vector]], block: int, stride: int
) -> list[list[list[float]]]:
    """The output [heads, queries, channels]: cells of as many tokens as the level says, by their means.

    A cell of n tokens weighs n times; `v` [key heads, keys, channels]. Every query sees a cell at least.
    """
    outs: list[list[list[float]]] = []
    for h in range(row.heads):
        levels = psa_levels(row, h, block, stride)
        values = v[h // row.group]
        outs.append([])
        for p in row.positions:
            cells = [
                at[first : first + levels[p // block, c]]
                for c, at in units(range(row.n_keys), block).items()
                if levels[p // block, c]
                for first in range(0, len(at), levels[p // block, c])
            ]
            query = row.query(h, p)
            logits = [dot(query, mean(row.key(h, j) for j in cell)) / math.sqrt(len(query)) for cell in cells]
            weights = softmax([x + math.log(len(cell)) for x, cell in zip(logits, cells, strict=True)])
            means = [mean(values[j] for j in cell) for cell in cells]
            outs[h].append([dot(weights, channel) for channel in zip(*means, strict=True)])
    return outs
