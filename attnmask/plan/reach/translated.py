"""What positions have seen where that is the same from every position, up to sinks and ends of segments."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attnmask.tiles.grid import Ints


@dataclass(frozen=True, slots=True, eq=False)
class Translated:
    """Position q has seen k of its segment if `q - k` is one of the distances, or if `k < sinks[q]`.

    `distances` is bool [2 * length - 1] over q - k from 1 - length, `sinks` ascends, `segments` numbers
    consecutive segments.
    """

    distances: NDArray[np.bool_]
    sinks: Ints
    segments: Ints

    @property
    def length(self) -> int:
        return len(self.sinks)

    def seen(self, q: int) -> NDArray[np.bool_]:
        """Which positions q has seen, bool [length]."""
        found = self.distances[q : q + self.length][::-1].copy()
        found[: self.sinks[q]] = True
        found &= self.segments == self.segments[q]
        return found

    def counts(self) -> Ints:
        """How many positions each has seen, int64 [length]."""
        below = self._below()
        queries = np.arange(self.length)
        start = np.searchsorted(self.segments, self.segments, "left")
        stop = np.searchsorted(self.segments, self.segments, "right")
        sinks = np.clip(self.sinks, start, stop)
        # What is no sink, from the nearest distance to the furthest.
        first, last = queries - (stop - 1), queries - sinks
        counts: Ints = (sinks - start) + below[last + self.length] - below[first + self.length - 1]
        return counts

    def blocks(self, block: int) -> NDArray[np.bool_]:
        """In which pairs of blocks some query has seen some key, bool [rows, rows]."""
        rows = -(-self.length // block)
        found = np.zeros((rows, rows), np.bool_)
        below = self._below()
        starts = np.flatnonzero(np.diff(self.segments, prepend=-1))
        for start, stop in zip(starts, [*starts[1:], self.length], strict=True):
            # Within a segment, the parts of it in each block: between two parts every distance occurs.
            first = np.union1d(start, np.arange(start - start % block + block, stop, block))
            last = np.append(first[1:], stop) - 1
            nearest, furthest = first[:, None] - last, last[:, None] - first
            some = below[furthest + self.length] > below[nearest + self.length - 1]
            some |= first < self.sinks[last][:, None]
            at = np.ix_(first // block, first // block)
            found[at] |= some
        return found

    def _below(self) -> Ints:
        """How many distances come before each, int64 [2 * length]."""
        return np.concatenate([[0], np.cumsum(self.distances)])
