"""Reach through bands in closed form, at any length.

Let layer l see the distances -a(l) to b(l), and the sinks k < s(l), at any distance or from later positions only.
A(L) and B(L) are the sums of a(l) and b(l) over the first L layers. After L layers position q has seen

    q - B(L) <= k <= q + A(L)    and    k < V(L, q) = max over l < L of A(l) + (s(l), or min(s(l), q + 1)).

A step by distance moves by at most a(l) or b(l), and where it must not pass the ends of the sequence it can be
shorter, so that steps add up to whole ranges. A step to a sink is made once: from there the layers below it, nearer
the input, lead ahead. So a causal window of w alone has seen k after ceil((q - k) / (w - 1)) layers, and a sink of it
after one. Distances that are all multiples of one unit do the same in units, as long as nothing leads ahead
from sinks. Other distances that all look back (or all ahead) add up too, to sums that are worked out (see `sums`).

Segments that lie end to end (documents, chunks) cut all of this off at their ends: every position on the way lies
in the segment of both ends, and sinks count where a segment has some.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from attnmask.plan.reach.band import Band, Progression, progression
from attnmask.plan.reach.translated import Translated
from attnmask.tiles.grid import Ints


@dataclass(frozen=True, slots=True, eq=False)
class Formula:
    """Reach through bands that repeat in order. Without `steps` their distances add up one by one."""

    bands: tuple[Band, ...]
    steps: tuple[Progression, ...] | None

    @property
    def length(self) -> int:
        return self.bands[0].length

    @property
    def enough(self) -> int:
        """A number of layers after which nothing new is seen."""
        return len(self.bands) * self.length

    def after(self, layers: int) -> Translated:
        """What all positions have seen after a number of layers."""
        return Translated(self._distances(layers), self._sinks(layers), self.bands[0].segments)

    def seen(self, q: int, layers: int) -> NDArray[np.bool_]:
        """Which positions q has seen after a number of layers, bool [length]."""
        return self.after(layers).seen(q)

    def layers(self, q: int, k: int) -> int | None:
        """After how many layers position q has seen position k; None for never."""
        if q == k:
            return 0
        if self.bands[0].segments[q] != self.bands[0].segments[k]:
            return None
        if self.steps is None:
            return self._layers_one_by_one(q, k)
        return least(lambda layers: self._sees(q, k, layers), self.enough)

    def _sees(self, q: int, k: int, layers: int) -> bool:
        unit, ahead, behind = self._extent(layers)
        near = -ahead * unit <= q - k <= behind * unit and (q - k) % max(unit, 1) == 0
        return near or k < self._sinks_of(q, layers)

    def _layers_one_by_one(self, q: int, k: int) -> int | None:
        for layers, distances in enumerate(sums(self.bands)):
            if distances[q - k + self.length - 1] or k < self._sinks_of(q, layers):
                return layers
        return None

    def _distances(self, layers: int) -> NDArray[np.bool_]:
        """The distances that are seen by steps, bool [2 * length - 1]."""
        if self.steps is None:
            return deque(islice(sums(self.bands), layers + 1), maxlen=1)[0]
        unit, ahead, behind = self._extent(layers)
        zero, unit = self.length - 1, max(unit, 1)
        found = np.zeros(2 * self.length - 1, np.bool_)
        found[max(zero - ahead * unit, zero % unit) : zero + behind * unit + 1 : unit] = True
        return found

    def _extent(self, layers: int) -> tuple[int, int, int]:
        """The unit, A and B."""
        assert self.steps is not None
        times, over = divmod(layers, len(self.steps))
        ahead, behind = (
            times * sum(each) + sum(each[:over])
            for each in ([step.ahead for step in self.steps], [step.behind for step in self.steps])
        )
        return max(step.unit for step in self.steps), ahead, behind

    def _sinks(self, layers: int) -> Ints:
        """V for every position: as many first positions have been seen through sinks, int64 [length]."""
        segments = self.bands[0].segments
        queries, starts = np.arange(self.length), np.searchsorted(segments, segments)
        seen = np.zeros(self.length, np.int64)
        for sinks, causal, ahead in self._through_sinks(layers):
            through = (np.minimum(queries + 1, sinks) if causal else sinks) + ahead
            seen = np.maximum(seen, np.where(starts < sinks, through, 0))
        return np.minimum(seen, self.length)

    def _sinks_of(self, q: int, layers: int) -> int:
        """V for one position."""
        segments = self.bands[0].segments
        start = int(np.searchsorted(segments, segments[q]))
        through = (
            (min(sinks, q + 1) if causal else sinks) + ahead
            for sinks, causal, ahead in self._through_sinks(layers)
            if start < sinks
        )
        return max(through, default=0)

    def _through_sinks(self, layers: int) -> Iterator[tuple[int, bool, int]]:
        """The sinks of each band, whether they are causal, and how far the layers below its last use lead ahead."""
        period = len(self.bands)
        for number, band in enumerate(self.bands[:layers]):
            if band.sinks:
                last = number + (layers - 1 - number) // period * period
                yield band.sinks, band.causal_sinks, 0 if self.steps is None else self._extent(last)[1]


def formula(bands: Sequence[Band]) -> Formula | None:
    """The formula for bands in order, the one nearest the input first; None where there is none for them."""
    if any((band.segments != bands[0].segments).any() for band in bands):
        return None
    steps = [step for band in bands if (step := progression(band)) is not None]
    ahead, sinks = any(band.looks_ahead for band in bands), any(band.sinks for band in bands)
    units = {step.unit for step in steps if step.unit}
    if len(steps) == len(bands) and len(units) <= 1 and (units <= {1} or not (ahead and sinks)):
        return Formula(tuple(bands), tuple(steps))
    one_way = not ahead or not (sinks or any(band.looks_back for band in bands))
    return Formula(tuple(bands), None) if one_way else None


def sums(bands: Sequence[Band]) -> Iterator[NDArray[np.bool_]]:
    """The distances that add up from one of each layer's, after 0, 1, 2, … layers, until none is new."""
    length = bands[0].length
    reached = np.zeros(2 * length - 1, np.bool_)
    reached[length - 1] = True
    spectra = [np.fft.rfft(band.distances, 4 * length) for band in bands]
    yield reached
    layers, quiet = 0, 0
    while quiet < len(bands):
        spectrum = np.fft.rfft(reached, 4 * length) * spectra[layers % len(bands)]
        # The transform counts ways, which are whole numbers, with an error far below one half.
        further = np.fft.irfft(spectrum, 4 * length)[length - 1 : 3 * length - 2] > 0.5
        quiet = quiet + 1 if np.array_equal(further, reached) else 0
        reached, layers = further, layers + 1
        yield reached


def least(holds: Callable[[int], bool], most: int) -> int | None:
    """The least number up to `most` for which `holds`, which stays true from there on; None without any."""
    high = 1
    while not holds(high):
        if high >= most:
            return None
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high
