"""Masks, and parts of masks, that depend on q - k alone: known on every diagonal, whatever they do along them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnmask.errors import MaskError
from attnmask.ir import index, predicate
from attnmask.ir.evaluate import evaluate
from attnmask.ir.nodes import (
    Abs,
    Add,
    And,
    Compare,
    Const,
    Expr,
    Max,
    Min,
    Mul,
    Not,
    Or,
    Predicate,
    Truth,
    Var,
    Xor,
)
from attnmask.ir.walk import children, postorder, rebuild, variables
from attnmask.tiles.grid import Cells, Grid, Ints
from attnmask.tiles.outcome import EMPTY, FULL, PARTIAL, Outcomes

# The variable that stands for q - k; planes have no batch row left in them.
_DISTANCE = index.var("b")
_PORTION = 1 << 18
_ZERO = index.const(0)
_PLAIN = Const | Var | Add | Abs | Min | Max | Compare | And | Or | Xor | Not | Truth


@lru_cache(maxsize=1024)
def by_distance(root: Predicate) -> Predicate | None:
    """The predicate as a function of `b` = q - k, or None where q and k matter apart.

    `root` depends on q and k alone. Its comparisons are taken as differences, in which k cancels out.
    """
    done: dict[Expr, Expr] = {index.var("q"): index.add(index.var("k"), _DISTANCE)}
    try:
        for node in postorder(root):
            if node not in done:
                done[node] = _of_distance(node, [done[child] for child in children(node)])
    except MaskError:  # k written as q - b makes a sum or a product too long
        return None
    found = done[root]
    return found if not variables(found) & {"q", "k"} else None  # type: ignore[return-value]  # a predicate stays one


def _of_distance(node: Expr, parts: list[Expr]) -> Expr:
    changed = rebuild(node, parts)
    if isinstance(changed, Compare):
        return predicate.compare(index.sub(changed.lhs, changed.rhs), changed.op, _ZERO)
    return changed


def distances_of(root: Predicate, first: int, last: int) -> NDArray[np.int64]:
    """The distances from `first` to `last` that a predicate on distances (see `by_distance`) allows, ascending."""
    at = np.arange(first, last + 1, dtype=np.int64)
    return np.asarray(at[np.broadcast_to(evaluate(root, {"b": at}, {}), at.shape)])


@lru_cache(maxsize=1024)
def bounds_suffice(distance: Predicate) -> bool:
    """Whether comparisons of a predicate on distances are known exactly from bounds, as `0 <= b` is.

    Then there is no need to look at every distance.
    """
    return all(
        isinstance(node, _PLAIN)
        or (isinstance(node, Mul) and len(node.factors) == 2 and isinstance(node.factors[0], Const))
        for node in postorder(distance)
    )


@dataclass(frozen=True, slots=True, eq=False)
class DistanceCounts:
    """How many distances are attended before each, from the least distance of the call to the greatest."""

    nearest: int
    sums: NDArray[Any]  # integers [distances + 1]

    def outcomes(self, cells: Cells) -> Outcomes:
        """On a cell every distance between its two corners occurs, and so each outcome is certain."""
        first = cells.q_first - cells.k_last - self.nearest
        stop = cells.q_last - cells.k_first - self.nearest + 1
        attended = self.sums[stop] - self.sums[first]
        return np.where(
            attended == 0,
            np.uint8(EMPTY),
            np.where(attended == stop - first, np.uint8(FULL), np.uint8(PARTIAL)),
        )

    def per_row(self, grid: Grid) -> Ints:
        """Attended keys of each query, int64 [q_len]."""
        # Query number r sees the distances from r + nearest to r + q_offset.
        counts = self.sums[grid.kv_len :][: grid.q_len] - self.sums[: grid.q_len]
        found: Ints = counts.astype(np.int64)
        return found


def distance_counts(distance: Predicate, grid: Grid, tables: Mapping[str, NDArray[Any]]) -> DistanceCounts:
    nearest = grid.q_offset - (grid.kv_len - 1)
    count = grid.q_len + grid.kv_len - 1
    sums: NDArray[Any] = np.zeros(count + 1, np.int32 if count < 2**31 else np.int64)
    for start in range(0, count, _PORTION):
        distances = np.arange(start, min(start + _PORTION, count), dtype=np.int64) + nearest
        attended = np.broadcast_to(evaluate(distance, {"b": distances}, tables), distances.shape)
        part = sums[start + 1 : start + 1 + len(distances)]
        np.cumsum(attended, dtype=sums.dtype, out=part)
        part += sums[start]
    return DistanceCounts(nearest, sums)
