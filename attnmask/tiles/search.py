"""The quadtree search: the whole plane first, then ever smaller cells, until tiles.

Cells with one possible outcome are settled; the others are split in four. Tiles that stay undecided are few,
and are looked at more closely (see `refine`), so the result is exact.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from attnmask.tiles.classify import Classifier
from attnmask.tiles.grid import Cells, Grid, Ints, cells, descendants, first_cells
from attnmask.tiles.outcome import EMPTY, FULL, PARTIAL
from attnmask.tiles.refine import Refiner

# Levels with fewer cells a side than this cost more in calls than they save in splitting.
_FIRST_SIDE = 32
_FEW = 128
# The work list is taken in portions, so that memory stays small where many cells are undecided.
_PORTION = 1 << 16


@dataclass(slots=True)
class Found:
    """Rectangles of tiles, as arrays: rows [r0, r1) × columns [c0, c1)."""

    full: list[tuple[Ints, Ints, Ints, Ints]] = field(default_factory=list)
    partial: list[tuple[Ints, Ints, Ints, Ints]] = field(default_factory=list)

    @property
    def tiles(self) -> int:
        """The number of tiles in the rectangles."""
        return sum(
            int(((bottom - top) * (right - left)).sum())
            for top, bottom, left, right in self.full + self.partial
        )


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
        if level:
            _add_full(found, grid, at, outcomes == FULL)
            open_ = (outcomes != FULL) & (outcomes != EMPTY)
            i, j = i[open_], j[open_]
            if len(i):
                # Where few cells are open, a level costs more in calls than in cells: two are taken at once.
                steps = 2 if level > 1 and len(i) <= _FEW else 1
                work.append((level - steps, *descendants(grid, level, i, j, steps)))
        else:
            undecided = np.flatnonzero((outcomes & (outcomes - 1)) != 0)
            if len(undecided):
                outcomes = outcomes.copy()
                outcomes[undecided] = refiner.outcomes(at[undecided], outcomes[undecided])
            _add_full(found, grid, at, outcomes == FULL)
            _add_tiles(found.partial, i[outcomes == PARTIAL], j[outcomes == PARTIAL])
    return found


def _add_tiles(rectangles: list[tuple[Ints, Ints, Ints, Ints]], i: Ints, j: Ints) -> None:
    if len(i):
        rectangles.append((i, i + 1, j, j + 1))


def _add_full(
    found: Found, grid: Grid, at: Cells, chosen: np.ndarray[tuple[int], np.dtype[np.bool_]]
) -> None:
    """Full cells. By torch's convention a tile that reaches past the end is partial, never full."""
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


def _add_rectangles(
    rectangles: list[tuple[Ints, Ints, Ints, Ints]], top: Ints, bottom: Ints, left: Ints, right: Ints
) -> None:
    some = (top < bottom) & (left < right)
    if some.any():
        rectangles.append((top[some], bottom[some], left[some], right[some]))
