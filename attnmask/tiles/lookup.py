"""Tables indexed by both q and k: bounds of the entries that a cell can reach, by range queries."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnmask.tiles.grid import Ints

# Entries are grouped, so that the structure takes a fraction of the table; bounds are those of whole groups.
_GROUP = 16
# The sums of a 2-D table take four bytes an entry.
LARGEST_RECTANGLE = 1 << 26


@dataclass(frozen=True, slots=True, eq=False)
class RangeBounds:
    """Minima and maxima over any range of a 1-D table: two overlapping powers of two cover it."""

    entries: NDArray[Any]
    low: list[NDArray[Any]]
    high: list[NDArray[Any]]

    def over(self, first: Ints, last: Ints) -> tuple[Ints, Ints]:
        """Bounds of entries first to last, both included; exact where these are the same."""
        start, stop = first // _GROUP, last // _GROUP + 1
        level = np.frexp((stop - start).astype(np.float64))[1] - 1
        low, high = self._covered(start, stop, level)
        single = self.entries[first]
        same = first == last
        return np.where(same, single, low), np.where(same, single, high)

    def _covered(self, start: Ints, stop: Ints, level: Ints) -> tuple[Ints, Ints]:
        low, high = np.empty(len(start), np.int64), np.empty(len(start), np.int64)
        for power in np.unique(level):
            at = level == power
            left, right = start[at], stop[at] - (1 << int(power))
            low[at] = np.minimum(self.low[power][left], self.low[power][right])
            high[at] = np.maximum(self.high[power][left], self.high[power][right])
        return low, high


def range_bounds(entries: NDArray[Any]) -> RangeBounds:
    starts = np.arange(0, len(entries), _GROUP)
    low = [np.minimum.reduceat(entries, starts)]
    high = [np.maximum.reduceat(entries, starts)]
    width = 1
    while 2 * width <= len(starts):
        low.append(np.minimum(low[-1][:-width], low[-1][width:]))
        high.append(np.maximum(high[-1][:-width], high[-1][width:]))
        width *= 2
    return RangeBounds(entries, low, high)


@dataclass(frozen=True, slots=True, eq=False)
class RectangleCounts:
    """How many entries of a 2-D table are true in any rectangle, from running sums along both axes."""

    sums: NDArray[np.int32]

    def over(self, first: tuple[Ints, Ints], last: tuple[Ints, Ints]) -> tuple[Ints, Ints]:
        """The number of true entries, and of all, from `first` to `last` (both included)."""
        (top, left), (bottom, right) = first, (last[0] + 1, last[1] + 1)
        sums = self.sums
        true = sums[bottom, right] - sums[top, right] - sums[bottom, left] + sums[top, left]
        return true, (bottom - top) * (right - left)


def rectangle_counts(entries: NDArray[Any]) -> RectangleCounts:
    sums = np.zeros((entries.shape[0] + 1, entries.shape[1] + 1), np.int32)
    np.cumsum(entries, axis=0, out=sums[1:, 1:])
    np.cumsum(sums[1:, 1:], axis=1, out=sums[1:, 1:])
    return RectangleCounts(sums)
