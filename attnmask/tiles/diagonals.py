"""Masks that depend on q - k alone: counted by diagonals, whatever they do along them."""

from __future__ import annotations

import numpy as np

from attnmask.ir import index, predicate
from attnmask.ir.evaluate import evaluate
from attnmask.ir.nodes import Compare, Expr, Predicate
from attnmask.ir.walk import children, postorder, rebuild, variables
from attnmask.tiles.grid import Ints
from attnmask.tiles.profile import Profiles

# The variable that stands for q - k; planes have no batch row left in them.
_DISTANCE = index.var("b")
_ZERO = index.const(0)


def by_distance(root: Predicate) -> Predicate | None:
    """The predicate as a function of `b` = q - k, or None where q and k matter apart.

    `root` depends on q and k alone. Its comparisons are taken as differences, in which k cancels out.
    """
    done: dict[Expr, Expr] = {index.var("q"): index.add(index.var("k"), _DISTANCE)}
    for node in postorder(root):
        if node in done:
            continue
        changed = rebuild(node, [done[child] for child in children(node)])
        if isinstance(changed, Compare):
            changed = predicate.compare(index.sub(changed.lhs, changed.rhs), changed.op, _ZERO)
        done[node] = changed
    found = done[root]
    return found if not variables(found) & {"q", "k"} else None  # type: ignore[return-value]  # a predicate stays one


def row_counts_by_distance(distance: Predicate, profiles: Profiles) -> Ints:
    """Attended keys of each query, int64 [q_len]: sums over stretches of diagonals."""
    grid = profiles.grid
    nearest = grid.q_offset - (grid.kv_len - 1)
    distances = np.arange(nearest, grid.q_offset + grid.q_len, dtype=np.int64)
    attended = np.broadcast_to(evaluate(distance, {"b": distances}, profiles.tables), distances.shape)
    sums = np.concatenate([[0], np.cumsum(attended)])
    # Query number r sees the distances from r + nearest to r + q_offset.
    counts: Ints = sums[grid.kv_len :][: grid.q_len] - sums[: grid.q_len]
    return counts
