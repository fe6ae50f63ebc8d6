"""Tiles decided by their elements: a few probes first, then every pair, in bounded portions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnmask.ir.evaluate import evaluate
from attnmask.ir.nodes import Predicate
from attnmask.ir.walk import postorder
from attnmask.tiles.grid import Grid, Ints
from attnmask.tiles.outcome import EMPTY, FULL, PARTIAL, Outcomes

_PROBES = 5
# Elements evaluated at once; with one array a node alive this is a few tens of megabytes.
_PORTION = 1 << 22


class Decider:
    """Evaluates one predicate on tiles."""

    def __init__(self, root: Predicate, grid: Grid, tables: Mapping[str, NDArray[Any]], narrow: bool) -> None:
        self.root = root
        self.grid = grid
        self.tables = tables
        self.dtype = np.int32 if narrow else np.int64
        self.portion = max(1, _PORTION // len(postorder(root)))

    def outcomes(self, i: Ints, j: Ints) -> Outcomes:
        """The exact outcome of each tile (i, j), uint8 [tiles]."""
        probe_q = _spread(self.grid.block_q)
        probe_k = _spread(self.grid.block_k)
        some, every = self._some_and_every(i, j, probe_q, probe_k)
        mixed = some & ~every
        found = np.full(len(i), PARTIAL, np.uint8)
        rest = np.flatnonzero(~mixed)
        per_portion = max(1, self.portion // (self.grid.block_q * self.grid.block_k))
        for start in range(0, len(rest), per_portion):
            at = rest[start : start + per_portion]
            some, every = self._some_and_every(
                i[at], j[at], np.arange(self.grid.block_q), np.arange(self.grid.block_k)
            )
            found[at] = np.where(every, FULL, np.where(some, PARTIAL, EMPTY))
        return found

    def _some_and_every(
        self, i: Ints, j: Ints, within_q: Ints, within_k: Ints
    ) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
        """Whether the predicate holds somewhere, and everywhere, on a tile's given rows and columns."""
        values = self.values(i, j, within_q, within_k)
        flat = values.reshape(len(i), -1)
        return np.any(flat, axis=1), np.all(flat, axis=1)

    def values(self, i: Ints, j: Ints, within_q: Ints, within_k: Ints) -> NDArray[np.bool_]:
        """bool [tiles, rows, columns]; positions past the end repeat the last one."""
        grid = self.grid
        q = np.minimum(i[:, None] * grid.block_q + within_q, grid.q_len - 1) + grid.q_offset
        k = np.minimum(j[:, None] * grid.block_k + within_k, grid.kv_len - 1)
        variables = {"q": q[:, :, None].astype(self.dtype), "k": k[:, None, :].astype(self.dtype)}
        values = evaluate(self.root, variables, self.tables)
        return np.broadcast_to(values, (len(i), len(within_q), len(within_k)))


def _spread(size: int) -> Ints:
    """A few positions over a tile, both ends among them."""
    return np.unique(np.linspace(0, size - 1, min(size, _PROBES)).astype(np.int64))
