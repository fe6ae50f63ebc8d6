"""Single keys: Top-θ, DMA, SPARSEK, and the anchors of Superlinear attention, derived a second time."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tests.zoo.choosing_row import Row, Sets, best, dot


def top_theta(row: Row, n: int) -> Sets:
    """Products above theta times the root of the channels; a product that is equal is out. Rows may be empty."""
    theta = row.given["theta"]

    def above(h: int, p: int, j: int) -> bool:
        of_head: float = theta[h] if isinstance(theta, list) else theta
        return dot(row.query(h, p), row.key(h, j)) > of_head * math.sqrt(len(row.key(h, j)))

    return row.sets(lambda h, p, j: j <= p and (p < n or above(h, p, j)))


def _beaten(scores: Sequence[float], j: int, n: int, end: int) -> int:
    """The first position whose prefix has `n` keys ahead of `j`; `end` where there is none."""
    before = sum(x >= scores[j] for x in scores[:j])
    for p in range(j, end):
        if before >= n:
            return p
        before += p + 1 < len(scores) and scores[p + 1] > scores[j]
    return end


def _intervals(scores: Sequence[Sequence[float]], row: Row, n: int) -> list[list[int]]:
    """Of each set and key: where it falls out of the best of the prefix. A key that is out never comes back."""
    end = row.positions.stop
    return [[_beaten(of_set, j, n, end) for j in range(row.n_keys)] for of_set in scores]


def dma(row: Row, n: int) -> Sets:
    """The keys of largest bias up to the query, of each key head: the rule of the paper.

    The authors' present code chooses once for all rows, and masks what lies ahead afterwards.
    """
    drop = _intervals([lines[0] for lines in row.given["bias"]], row, n)
    return row.sets(lambda h, p, j: j <= p < drop[h // row.group][j])


def sparsek(row: Row, n: int, local: int) -> Sets:
    """The best keys up to the query, and the last ones, which take nothing from the budget."""
    drop = _intervals([lines[0] for lines in row.given["u"]], row, n)
    heads_of_set = row.heads // len(drop)
    return row.sets(lambda h, p, j: j <= p and (p - j < local or p < drop[h // heads_of_set][j]))


def superlinear(row: Row, n: int, stripes: int, back: float, ahead: float) -> Sets:
    """The window of (stripes + 1)² - 1 keys, and spans around the best of the anchors i - s² + 1 of later stripes s.

    A span is [a - ceil(back √(i + 1)), a + ceil(ahead √(i + 1))], up to the window; all are seen in one softmax.
    """
    seen: dict[tuple[int, int], set[int]] = {}
    for p in row.positions:
        begin = p - (stripes + 1) ** 2 + 2  # of the window
        anchors = [a for s in range(stripes + 1, p + 2) if 0 <= (a := p - s**2 + 1) < row.n_keys]
        before, after = (math.ceil(factor * math.sqrt(p + 1)) for factor in (back, ahead))
        for h in range(row.heads):
            seen[h, p] = set(range(begin, p + 1))
            for a in best({a: dot(row.query(h, p), row.key(h, a)) for a in anchors}, n):
                seen[h, p] |= set(range(a - before, min(a + after, begin - 1) + 1))
    return row.sets(lambda h, p, j: j in seen[h, p])
