"""Cells decided by their elements: every pair is evaluated, in bounded portions."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnmask.ir import index
from attnmask.ir.evaluate import evaluate
from attnmask.ir.nodes import Add, Expr, Index, Predicate
from attnmask.ir.walk import children, postorder, rebuild
from attnmask.tiles.grid import Axis, Cells, Ints
from attnmask.tiles.outcome import EMPTY, FULL, PARTIAL, Outcomes
from attnmask.tiles.profile import Profiles
from attnmask.tiles.structure import Structure

# Elements evaluated at once; with one array a node alive this is a few tens of megabytes.
_PORTION = 1 << 22
# Number of a row or a column, from 0; planes have no lengths left in them.
_NUMBER: dict[Axis, Index] = {"q": index.var("Q"), "k": index.var("k")}


class Decider:
    """Evaluates one predicate on cells. `narrow` says that int32 holds every integer on the way."""

    def __init__(self, root: Predicate, profiles: Profiles, narrow: bool) -> None:
        self.q_offset = profiles.grid.q_offset
        self.dtype = np.int32 if narrow else np.int64
        self.root, tabulated = _tabulated(root)
        self.tables: dict[str, NDArray[Any]] = dict(profiles.tables)
        for node, (name, axis) in tabulated.items():
            self.tables[name] = profiles.values(node, axis).astype(self.dtype)
        self.portion = max(1, _PORTION // len(postorder(self.root)))

    def outcomes(self, cells: Cells, within_q: Ints, within_k: Ints) -> Outcomes:
        """What the elements at the given rows and columns of each cell say together, uint8 [cells]."""
        found = np.empty(len(cells), np.uint8)
        step = max(1, self.portion // (len(within_q) * len(within_k)))
        for start in range(0, len(cells), step):
            values = self.values(cells[start : start + step], within_q, within_k).reshape(
                -1, len(within_q) * len(within_k)
            )
            every, some = np.all(values, axis=1), np.any(values, axis=1)
            found[start : start + step] = np.where(every, FULL, np.where(some, PARTIAL, EMPTY))
        return found

    def values(self, cells: Cells, within_q: Ints, within_k: Ints) -> NDArray[np.bool_]:
        """bool [cells, rows, columns]; positions past the end of a cell repeat its last one."""
        q = np.minimum(cells.q_first[:, None] + within_q, cells.q_last[:, None])
        k = np.minimum(cells.k_first[:, None] + within_k, cells.k_last[:, None])
        q, k = q[:, :, None].astype(self.dtype), k[:, None, :].astype(self.dtype)
        variables = {"q": q, "k": k, "Q": q - self.dtype(self.q_offset)}
        values = evaluate(self.root, variables, self.tables)
        return np.broadcast_to(values, (len(cells), len(within_q), len(within_k)))


@lru_cache(maxsize=256)
def _tabulated(root: Predicate) -> tuple[Predicate, dict[Index, tuple[str, Axis]]]:
    """`root` with integers that depend on one side replaced by entries of a table over all positions of it.

    They are worked out once then, and not for each tile. Also these integers, with names and axes of the tables.
    """
    tables: dict[Index, tuple[str, Axis]] = {}
    structure = Structure()

    def entry(node: Index, axis: Axis) -> Index:
        if index.is_affine(node):
            return node
        factor, base = structure.signed(node)
        # No name of the language has a space in it.
        name, _ = tables.setdefault(base, (f"{axis} {len(tables)}", axis))
        return index.mul(index.const(factor), index.table(name, (_NUMBER[axis],)))

    def operand(node: Expr) -> Expr:
        side = structure.side(node)
        if isinstance(node, Index) and (side == "q" or side == "k"):
            return entry(node, "q" if side == "q" else "k")
        return done.get(node, node)

    done: dict[Expr, Expr] = {}
    for node in postorder(root):
        if structure.side(node) != "qk":
            done[node] = node
        elif isinstance(node, Add):
            parts = structure.parts(node)
            terms = [operand(part) for part in (parts.q, parts.k, *parts.mixed) if part is not None]
            done[node] = index.add(*terms, index.const(parts.constant))  # type: ignore[arg-type]  # an index stays one
        else:
            done[node] = rebuild(node, [operand(part) for part in children(node)])
    return done[root], tables  # type: ignore[return-value]  # a predicate stays one
