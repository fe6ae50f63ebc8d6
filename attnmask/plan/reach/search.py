"""Reach token by token: a breadth-first search over positions that visits live tiles only.

Every position is expanded once a layer that differs from the others, so that a search evaluates each pair of each
partial tile at most once; full tiles take no evaluation.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnmask.ir.evaluate import evaluate
from attnmask.ir.walk import postorder
from attnmask.tiles.grid import Axis, Ints
from attnmask.tiles.tilemap import Csr, TileMap

Flags = NDArray[np.bool_]
# A search may evaluate as many pairs, which takes some seconds; beyond that, blocks have to do.
MOST_PAIRS = 1 << 29
_PORTION = 1 << 21


@dataclass(frozen=True, slots=True, eq=False)
class Search:
    """Layers that repeat in order: layer l attends what `maps[order[l % len(order)]]` says."""

    maps: tuple[TileMap, ...]
    order: tuple[int, ...]

    @property
    def pairs(self) -> int:
        """How many pairs a search evaluates at most."""
        return sum(len(tiles.partial.indices) * tiles.block[0] * tiles.block[1] for tiles in self.maps)

    def seen(self, q: int, layers: int) -> Flags:
        """Which positions q has seen after a number of layers, bool [length]; from the last layer down."""
        spread = _Spread(self, q, "k")
        for layer in reversed(range(layers)):
            if spread.settled:
                break
            spread.through(self.order[layer % len(self.order)])
        return spread.reached

    def layers(self, q: int, k: int) -> int | None:
        """After how many layers position q has seen position k; None for never. From the first layer up."""
        spread = _Spread(self, k, "q")
        for layers in count():
            if spread.reached[q]:
                return layers
            if spread.settled:
                return None
            spread.through(self.order[layers % len(self.order)])
        raise AssertionError("counting has no end")


class _Spread:
    """Positions reached so far from one, towards what it attends ("k") or what attends it ("q")."""

    def __init__(self, search: Search, start: int, towards: Axis) -> None:
        self.search = search
        self.towards = towards
        self.reached = np.zeros(search.maps[0].q_len, np.bool_)
        self.reached[start] = True
        self.expanded = [np.zeros_like(self.reached) for _ in search.maps]
        self.quiet = 0

    @property
    def settled(self) -> bool:
        """Whether a whole round of layers has added nothing, so that none ever will."""
        return self.quiet >= len(self.search.order)

    def through(self, number: int) -> None:
        """One layer, with the map of this number."""
        new = self.reached & ~self.expanded[number]
        self.expanded[number] = self.reached.copy()
        before = int(self.reached.sum())
        if new.any():
            self.reached |= neighbours(self.search.maps[number], new, self.reached, self.towards)
        self.quiet = self.quiet + 1 if int(self.reached.sum()) == before else 0


def neighbours(tiles: TileMap, positions: Flags, known: Flags, towards: Axis) -> Flags:
    """What the positions attend ("k"), or what attends them ("q"), bool [length]; what is known may be left out.

    The map has one plane, square tiles, and as many queries as keys.
    """
    length, block = tiles.q_len, tiles.grid.block_q
    full, partial = (tiles.full, tiles.partial) if towards == "k" else (tiles.full_t, tiles.partial_t)
    blocks = np.zeros(tiles.rows, np.bool_)
    blocks[_columns(full, np.unique(np.flatnonzero(positions) // block))[1]] = True
    found = np.repeat(blocks, block)[:length]
    starts = np.arange(0, length, block)
    # Evaluate only where something is left to find.
    open_ = ~np.logical_and.reduceat(found | known, starts)
    at = np.flatnonzero(positions)
    which, tile = _columns(partial, at // block)
    worth = open_[tile]
    at, tile = at[which[worth]], tile[worth]
    step = max(1, _PORTION // (block * len(postorder(tiles.planes[0]))))
    for first in range(0, len(at), step):
        others = np.minimum(tile[first : first + step, None] * block + np.arange(block), length - 1)
        held = _pairs(tiles, at[first : first + step, None], others, towards)
        found[others[held]] = True
    return found


def _pairs(tiles: TileMap, positions: Ints, others: Ints, towards: Axis) -> Flags:
    variables: Mapping[str, Any] = {"q": positions, "k": others}
    if towards == "q":
        variables = {"q": others, "k": positions}
    return np.broadcast_to(evaluate(tiles.planes[0], variables, tiles.tables), others.shape)


def _columns(rows: Csr, numbers: Ints) -> tuple[Ints, Ints]:
    """The columns of some rows, one after another: for each, whose it is (an index of `numbers`), and the column."""
    counts = rows.counts[numbers]
    which = np.repeat(np.arange(len(numbers)), counts)
    ends = np.cumsum(counts)
    within = np.arange(len(which)) - np.repeat(ends - counts, counts)
    return which, rows.indices[rows.indptr[numbers][which] + within].astype(np.int64)
