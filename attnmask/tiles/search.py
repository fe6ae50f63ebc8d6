"""The quadtree search: the whole plane first, then ever smaller cells, until tiles.

Cells with one possible outcome are settled; the others are split in four. Tiles that stay undecided are few,
and are looked at more closely (see `refine`), so the result is exact.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from attnmask.tiles.classify import Classifier
from attnmask.tiles.grid import Cells, Grid, Ints, cells, descendants, first_cells
from attnmask.tiles.outcome import EMPTY, FULL, PARTIAL, Outcomes
from attnmask.tiles.refine import Refiner
from attnmask.tiles.tilemap import Area

# Levels with fewer cells a side than this cost more in calls than they save in splitting.
_FIRST_SIDE = 32
_FEW = 128
# The work list is taken in portions, so that memory stays small where many cells are undecided.
_PORTION = 1 << 16


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """The full and the partial tiles of one plane."""

    full: Area = field(default_factory=Area)
    partial: Area = field(default_factory=Area)


def search(classifier: Classifier, grid: Grid, narrow: bool) -> Found:
    """The full and the partial tiles of one plane. `narrow` says that int32 holds all of its integers."""
    found = Found()
    refiner = Refiner(classifier, narrow)
    level = max(0, grid.top - (_FIRST_SIDE - 1).bit_length())
    work = [(level, *first_cells(grid, level))]
    while work:
        level, i, j = work.pop()
        if len(i) > _PORTION:
            half = len(i) // 2
            work += [(level, i[half:], j[half:]), (level, i[:half], j[:half])]
            continue
        at = cells(grid, level, i, j)
        outcomes = classifier.outcomes(at)
        if level == 0:
            _add_tiles(found, grid, at, refiner.decided(at, outcomes))
            continue
        _add_full(found, grid, at, outcomes == FULL)
        open_ = (outcomes != FULL) & (outcomes != EMPTY)
        i, j = i[open_], j[open_]
        if len(i):
            # Where few cells are open, a level costs more in calls than in cells: two are taken at once.
            steps = 2 if level > 1 and len(i) <= _FEW else 1
            work.append((level - steps, *descendants(grid, level, i, j, steps)))
    return found


def _add_tiles(found: Found, grid: Grid, at: Cells, outcomes: Outcomes) -> None:
    """Decided tiles. By torch's convention one that reaches past the end is partial, never full."""
    full = outcomes == FULL
    if full.any():
        whole = full & (at.i < grid.whole_rows) & (at.j < grid.whole_cols)
        _add_singles(found.full, at, whole)
        _add_singles(found.partial, at, (outcomes == PARTIAL) | (full & ~whole))
    else:
        _add_singles(found.partial, at, outcomes == PARTIAL)


def _add_singles(area: Area, at: Cells, chosen: NDArray[np.bool_]) -> None:
    if chosen.any():
        area.singles.append((at.i[chosen].astype(np.int32), at.j[chosen].astype(np.int32)))


def _add_full(found: Found, grid: Grid, at: Cells, chosen: NDArray[np.bool_]) -> None:
    """Full cells; see above for the tiles in them that reach past the end."""
    i, j = at.i[chosen], at.j[chosen]
    if not len(i):
        return
    top, bottom = i << at.level, np.minimum((i + 1) << at.level, grid.rows)
    left, right = j << at.level, np.minimum((j + 1) << at.level, grid.cols)
    whole_bottom = np.minimum(bottom, grid.whole_rows)
    whole_right = np.minimum(right, grid.whole_cols)
    _add_rectangles(found.full, top, whole_bottom, left, whole_right)
    _add_rectangles(found.partial, whole_bottom, bottom, left, right)
    _add_rectangles(found.partial, top, whole_bottom, whole_right, right)


def _add_rectangles(area: Area, top: Ints, bottom: Ints, left: Ints, right: Ints) -> None:
    some = (top < bottom) & (left < right)
    if some.any():
        area.rectangles.append((top[some], bottom[some], left[some], right[some]))
