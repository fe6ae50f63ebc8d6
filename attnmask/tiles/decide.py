"""Cells decided by their elements: every pair is evaluated, in bounded portions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnmask.ir import index
from attnmask.ir.evaluate import evaluate
from attnmask.ir.nodes import Add, Expr, Index, Predicate
from attnmask.ir.walk import children, postorder, rebuild
from attnmask.tiles.grid import Cells, Ints
from attnmask.tiles.outcome import EMPTY, FULL, PARTIAL, Outcomes
from attnmask.tiles.profile import Axis, Profiles
from attnmask.tiles.structure import Structure, is_affine

# Elements evaluated at once; with one array a node alive this is a few tens of megabytes.
_PORTION = 1 << 22


class Decider:
    """Evaluates one predicate on cells. `narrow` says that int32 holds every integer on the way."""

    def __init__(self, root: Predicate, profiles: Profiles, narrow: bool) -> None:
        self.profiles = profiles
        self.dtype = np.int32 if narrow else np.int64
        self.tables: dict[str, NDArray[Any]] = dict(profiles.tables)
        self.root = self._tabulated(root)
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
        variables = {"q": q[:, :, None].astype(self.dtype), "k": k[:, None, :].astype(self.dtype)}
        values = evaluate(self.root, variables, self.tables)
        return np.broadcast_to(values, (len(cells), len(within_q), len(within_k)))

    # ---- what depends on one side is evaluated once for all positions --------------------------------

    def _tabulated(self, root: Predicate) -> Predicate:
        structure = Structure()
        done: dict[Expr, Expr] = {}
        for node in postorder(root):
            if structure.side(node) != "qk":
                done[node] = node
            elif isinstance(node, Add):
                parts = structure.parts(node)
                sides = [self._entry(part, structure) for part in (parts.q, parts.k) if part is not None]
                mixed = [done[part] for part in parts.mixed]
                done[node] = index.add(*sides, *mixed, index.const(parts.constant))  # type: ignore[arg-type]  # an index stays one
            else:
                below = [done[part] for part in children(node)]
                done[node] = rebuild(
                    node,
                    [self._entry(part, structure) if isinstance(part, Index) else part for part in below],
                )
        return done[root]  # type: ignore[return-value]  # a predicate stays one

    def _entry(self, node: Index, structure: Structure) -> Index:
        """`node`, or where it depends on one side and takes some working out, an entry of its values."""
        side = structure.side(node)
        if side not in ("q", "k") or is_affine(node):
            return node
        axis: Axis = "q" if side == "q" else "k"
        # No name of the language has a space in it.
        name = f"{axis} {len(self.tables)}"
        self.tables[name] = self.profiles.values(node, axis).astype(self.dtype)
        offset = self.profiles.grid.q_offset if axis == "q" else 0
        return index.table(name, (index.sub(index.var(axis), index.const(offset)),))
