"""Prompts by probes: FlexPrefill with the authors' blocks of columns and diagonals, and ProxyAttn."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from tests.zoo.choosing_row import Row, Sets, best, dot, mean, softmax, units


def covering(weights: Mapping[Any, float], need: float) -> set[Any]:
    """From the largest on, while what was taken before holds less than `need`."""
    taken: set[Any] = set()
    for place in sorted(weights, key=lambda place: (-weights[place], place)):
        if sum(weights[other] for other in taken) >= need:
            break
        taken.add(place)
    return taken


def flex_lines(row: Row, h: int, rows: int) -> tuple[dict[int, float], dict[int, float]]:
    """Causal attention of the last queries, summed by key and by distance."""
    end = row.positions.stop
    vertical, slash = dict.fromkeys(range(end), 0.0), dict.fromkeys(range(end), 0.0)
    for p in row.positions[-rows:]:
        for j, weight in enumerate(softmax([row.logit(h, p, j) for j in range(p + 1)])):
            vertical[j] += weight
            slash[p - j] += weight
    return vertical, slash


def flex_numbers(row: Row, h: int, gamma: float, block: int, rows: int) -> tuple[int, int]:
    """How many blocks of columns and of diagonals: tokens that cover gamma, // block + 1."""
    vertical, slash = flex_lines(row, h, rows)
    counts = [len(covering(line, gamma * sum(line.values()))) for line in (vertical, slash)]
    return counts[0] // block + 1, counts[1] // block + 1


def flex_vertical_slash(row: Row, gamma: float, block: int, rows: int) -> Sets:
    """Blocks of columns, and diagonals of blocks: a pair of blocks is in where its difference is; causal.

    Blocks of distances i - j have the mass of their diagonals; the first column and the main diagonal come first,
    inside the number.
    """
    chosen = {}
    for h in range(row.heads):
        kept = []
        for line, count in zip(
            flex_lines(row, h, rows), flex_numbers(row, h, gamma, block, rows), strict=True
        ):
            pooled = {at: sum(line[x] for x in xs) for at, xs in units(line, block).items()}
            kept.append(best(pooled | {0: math.inf}, count))
        chosen[h] = kept
    return row.sets(
        lambda h, p, j: j <= p and (j // block in chosen[h][0] or p // block - j // block in chosen[h][1])
    )


def proxy_attn(
    row: Row, group: int, gamma: float, stride: int, block: int, *, described: bool = False
) -> Sets:
    """Each head as many blocks as cover its last queries' attention, in the order of its proxy; causal.

    A proxy is the mean of neighbouring query heads and of the key heads that they use. The first of every `stride`
    tokens takes part: softmax over keys up to the query, then the largest in each pair of blocks. No block is
    forced. `described`: by the queries of the last block, however short, and by means over blocks of keys.
    """
    chosen = {}
    for first in range(0, row.heads, group):
        heads = range(first, first + group)
        key_heads = sorted({h // row.group for h in heads})
        keys = [mean(row.k[hk][j] for hk in key_heads) for j in range(0, row.n_keys, stride)]
        largest: dict[int, dict[int, float]] = {}
        for p in row.positions:
            of_row = largest.setdefault(p // block, dict.fromkeys(range(p // block + 1), 0.0))
            if p % stride == 0:
                query = mean(row.query(h, p) for h in heads)
                logits = [dot(query, key) / math.sqrt(len(query)) for key in keys[: p // stride + 1]]
                for at, weight in enumerate(softmax(logits)):
                    of_row[at * stride // block] = max(of_row[at * stride // block], weight)
        for h in heads:
            last = row.positions[-1] % block + 1 if described else block
            column, _ = flex_lines(row, h, last)
            parts = units(column, block).items()
            mass = {at: sum(column[j] for j in js) / (len(js) if described else 1) for at, js in parts}
            count = len(covering(mass, gamma * sum(mass.values())))
            for r, of_row in largest.items():
                chosen[h, r] = best(of_row, count)
    return row.sets(lambda h, p, j: j <= p and j // block in chosen[h, p // block])
