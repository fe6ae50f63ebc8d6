"""Where an axis is cut: into blocks, into unions of blocks above, and below them where its values jump.

A block of 128 tokens of a picture 316 wide holds the end of one line and the start of the next. Cut there, both
parts are bounded exactly; cut in the middle, the jump is met again on every level.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnmask.tiles.grid import Ints

# Parts of at most this many positions are not cut again: looking at elements is cheaper.
SMALL = 8
# The first cuts of a block go to jumps, later ones to the middle, so that their number is bounded.
_JUMPS = 6
_HIGHEST = 1 << 20
_PORTION = 1 << 17


@dataclass(frozen=True, slots=True, eq=False)
class Cut:
    """One level below: part p covers positions edges[p] to edges[p + 1] - 1.

    Part p of the level above consists of the one or two parts first[p] to first[p + 1] - 1.
    """

    edges: Ints
    first: Ints


@dataclass(slots=True)
class Cuts:
    """The parts of one axis: level 0 are the blocks, level -n is made by n cuts in two, when first asked for.

    `weights` gives, for each position, how far the values that matter jump from the position before; without
    them every cut goes to the middle.
    """

    length: int
    block: int
    weights: Ints | None = None
    finer: list[Cut] = field(default_factory=list)

    def edges(self, level: int) -> Ints:
        """Positions where the parts of a level (from 0 down) start, and the length."""
        if level < 0:
            return self.cut(level).edges
        return np.append(np.arange(0, self.length, self.block, dtype=np.int64), self.length)

    def cut(self, level: int) -> Cut:
        while len(self.finer) < -level:
            weights = self.weights if len(self.finer) < _JUMPS else None
            self.finer.append(_in_two(self.edges(-len(self.finer)), weights))
        return self.finer[-level - 1]


def _in_two(edges: Ints, weights: Ints | None) -> Cut:
    """Each part cut at its highest weight, the one nearest to the middle where there are several."""
    sizes = np.diff(edges)
    cut = sizes > SMALL
    if weights is None:
        at = edges[:-1] + sizes // 2
    else:
        at = np.concatenate([_highest(edges[part], weights) for part in _portions(edges)])
    finer = np.insert(edges, np.flatnonzero(cut) + 1, at[cut])
    return Cut(finer, np.concatenate([[0], np.cumsum(1 + cut)]))


def _portions(edges: Ints) -> Iterable[slice]:
    """Runs of parts that cover a bounded number of positions each, as slices of their edges."""
    bounds = np.searchsorted(edges, np.arange(0, edges[-1], _PORTION))
    bounds = np.unique(np.append(bounds, len(edges) - 1))
    return [slice(int(a), int(b) + 1) for a, b in pairwise(bounds)]


def _highest(edges: Ints, weights: Ints) -> Ints:
    """For each part, its position of the highest weight; not the first one, if there are more."""
    sizes = np.diff(edges)
    positions = np.arange(edges[0], edges[-1])
    before = positions - np.repeat(edges[:-1], sizes)
    after = np.repeat(edges[1:], sizes) - positions
    # No two positions of a part score the same, so one is found for each part.
    score = 2 * np.minimum(before, after) + (before <= after)
    score += weights[edges[0] : edges[-1]] * (2 * int(sizes.max()) + 2)
    score[before == 0] = 0
    best = np.maximum.reduceat(score, edges[:-1] - edges[0])
    found: Ints = positions[score == np.repeat(best, sizes)]
    return found


def jumps(profiles: Iterable[NDArray[Any]], length: int) -> Ints:
    """How far the values jump at each position, added up; steps of one are no jump."""
    total = np.zeros(length, np.int64)
    for values in profiles:
        steps = np.diff(values)
        np.abs(steps, out=steps)
        steps[steps <= 1] = 0
        total[1:] += np.minimum(steps, _HIGHEST, out=steps)
    return total
