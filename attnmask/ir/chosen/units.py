"""The units of a call: which unit each position belongs to, and which pairs of units exist."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnmask.errors import MaskError
from attnmask.ir.chosen.call import Bools, Call
from attnmask.ir.evaluate import evaluate
from attnmask.ir.nodes import Index
from attnmask.ir.walk import variables

Integers = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Units:
    """`rows` [B, H, Q]: the unit of each query, counted from the smallest; `keys` [B, H, Q, K]: that of each pair.

    Only along diagonals does the unit of a key depend on the query too. `pairs` [Q, K] then are those with
    k <= q, which lie on a diagonal; elsewhere all of them.
    """

    rows: Integers
    keys: Integers
    pairs: Bools
    n_rows: int
    n_keys: int
    diagonal: bool

    @property
    def of_keys(self) -> Integers:
        """[B, H, K]: the unit of each key, where it depends on nothing else."""
        return self.keys[:, :, 0, :]

    def of_heads(self, heads: int) -> Units:
        """The units of so many heads, each of which stands for a run of those there are."""
        step = self.rows.shape[1] // heads
        return replace(self, rows=self.rows[:, ::step], keys=self.keys[:, ::step])

    def shared(self, sets: int) -> Units:
        """The units of so many sets of heads. MaskError where heads that share a set have other units."""
        found = self.of_heads(sets)
        step = self.rows.shape[1] // sets
        for mine, theirs in ((self.rows, found.rows), (self.keys, found.keys)):
            if (mine != np.repeat(theirs, step, axis=1)).any():
                raise MaskError("heads that share one choice must have the same units")
        return found

    def over_pairs(self, combine: np.ufunc, values: NDArray[Any], start: Any) -> NDArray[Any]:
        """[B, H, rows, keys]: `combine` over the values [B, H, Q, K] of all pairs of positions in a pair of units."""
        batch, heads = self.keys.shape[:2]
        result = np.full((batch, heads, self.n_rows, self.n_keys), start)
        b, h = np.arange(batch)[:, None, None, None], np.arange(heads)[:, None, None]
        combine.at(result, (b, h, self.rows[..., None], self.keys), np.broadcast_to(values, self.keys.shape))
        return result

    def any_pair(self, holds: Bools) -> Bools:
        """[B, H, rows, keys]: whether `holds` [B, H, Q, K] for some of the pairs."""
        return self.over_pairs(np.logical_or, holds & self.pairs, False)


def units_of(q_unit: Index, k_unit: Index, diagonal: bool, call: Call) -> Units:
    """The units of all positions of the call. MaskError where that of a key is negative, or depends on the query."""
    domain, positions = call.domain, call.domain.arrays()
    if "k" in variables(q_unit) or ("q" in variables(k_unit) and not diagonal):
        raise MaskError("the unit of a query or of a key must depend on its own position only")
    shape = (domain.batch, domain.heads, domain.q_len, domain.kv_len)
    rows = np.broadcast_to(evaluate(q_unit, positions, call.tables), (*shape[:3], 1))[..., 0]
    keys = np.broadcast_to(evaluate(k_unit, positions, call.tables), shape)
    if keys.min() < 0:
        raise MaskError(f"a unit of keys has the number {keys.min()}, and they are counted from 0")
    below = call.k_positions <= call.q_positions[:, None]
    return Units(
        rows - rows.min(),
        keys,
        below if diagonal else np.ones_like(below),
        int(np.ptp(rows)) + 1,
        int(keys.max()) + 1,
        diagonal,
    )
