"""The predicate on partial tiles alone: comparisons that come out one way on all of them are left out.

A kernel evaluates `mask_mod` on partial tiles only, so there the shorter predicate says the same. On other tiles it
may not: it is for kernels that go by the lists, and for no eager evaluation.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from attnmask.ir.domain import Domain
from attnmask.ir.nodes import Compare, Expr, Predicate
from attnmask.ir.predicate import truth
from attnmask.ir.tables import TableData
from attnmask.ir.walk import postorder, substitute, table_names, variables
from attnmask.tiles.build import planes
from attnmask.tiles.classify import Classifier
from attnmask.tiles.grid import Ints, cells
from attnmask.tiles.outcome import EMPTY, FULL
from attnmask.tiles.profile import Profiles
from attnmask.tiles.tilemap import TileMap

# Looking at more tiles, or at more comparisons, could take longer than it saves.
_MOST_TILES = 1 << 18
_MOST_LITERALS = 32
_PORTION = 1 << 14


def on_partial_tiles(
    root: Predicate, tiles: TileMap, domain: Domain, tables: Mapping[str, TableData]
) -> Predicate:
    """A predicate with the truth of `root` at every pair of a partial tile. `tiles` are those of `root`.

    Comparisons that read tables stay: what they come out as may change with the next table, and would be another
    kernel then.
    """
    if tiles.n_planes != 1 or not 0 < len(tiles.partial.indices) <= _MOST_TILES:
        return root
    literals = [
        node
        for node in postorder(root)
        if isinstance(node, Compare) and not variables(node) & {"b", "h"} and not table_names(node)
    ]
    if not 1 < len(literals) <= _MOST_LITERALS:
        return root
    rows = np.repeat(np.arange(tiles.rows), tiles.partial.counts)
    cols = tiles.partial.indices.astype(np.int64)
    profiles = Profiles(tiles.grid, tiles.tables)
    known: dict[Expr, Expr] = {}
    for literal in literals:
        (plane,), _ = planes(literal, domain, tables)
        value = _constant(Classifier(plane, profiles), tiles, rows, cols)
        if value is not None:
            known[literal] = truth(value)
    return substitute(root, known) if known else root


def _constant(classifier: Classifier, tiles: TileMap, rows: Ints, cols: Ints) -> bool | None:
    """The truth value that a comparison has at every pair of the tiles, as far as bounds can tell."""
    found: int | None = None
    for start in range(0, len(rows), _PORTION):
        at = cells(tiles.grid, 0, rows[start : start + _PORTION], cols[start : start + _PORTION])
        outcomes = classifier.outcomes(at)
        first = int(outcomes[0]) if found is None else found
        if first not in (EMPTY, FULL) or not (outcomes == first).all():
            return None
        found = first
    return found == FULL
