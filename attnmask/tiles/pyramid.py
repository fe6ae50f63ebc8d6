"""Values over one axis, reduced over the cells of every level."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnmask.tiles.cuts import Cuts
from attnmask.tiles.grid import Ints

_PORTION = 1 << 18


@dataclass(slots=True)
class Pyramid:
    """`reduce` of the values over the cells of a level; a level is made when first asked for.

    `prepare` is applied to the values first, in portions, to save memory.
    """

    values: NDArray[Any]
    cuts: Cuts
    reduce: np.ufunc
    prepare: Callable[[NDArray[Any]], NDArray[Any]] | None = None
    known: dict[int, NDArray[Any]] = field(default_factory=dict)

    def at(self, level: int) -> NDArray[Any]:
        if level not in self.known:
            self.known[level] = self._joined(self.at(level - 1)) if level > 0 else self._lowest(level)
        return self.known[level]

    def _joined(self, below: NDArray[Any]) -> NDArray[Any]:
        pairs = self.reduce(below[: len(below) // 2 * 2 : 2], below[1::2])
        return np.concatenate([pairs, below[-1:]]) if len(below) % 2 else pairs

    def _lowest(self, level: int) -> NDArray[Any]:
        starts = self.cuts.edges(level)[:-1]
        if self.prepare is None:
            return self.reduce.reduceat(self.values, starts)
        step = self.cuts.block * max(1, _PORTION // self.cuts.block)
        parts = []
        for first in range(0, len(self.values), step):
            inside = starts[slice(*np.searchsorted(starts, [first, first + step]))]
            parts.append(
                self.reduce.reduceat(self.prepare(self.values[first : first + step]), inside - first)
            )
        return np.concatenate(parts)


@dataclass(frozen=True, slots=True, eq=False)
class Profile:
    """An integer over one axis: minima and maxima per cell, and where neighbours differ by more than one."""

    low: Pyramid
    high: Pyramid
    breaks: NDArray[np.int32] | None  # running count of breaks; None when there are none

    def unbroken(self, first: Ints, last: Ints) -> NDArray[np.bool_]:
        """Whether the value goes in steps of at most one from `first` to `last`: then it skips no integer."""
        if self.breaks is None:
            return np.ones(len(first), np.bool_)
        unbroken: NDArray[np.bool_] = self.breaks[first] == self.breaks[last]
        return unbroken


def profile(values: NDArray[Any], cuts: Cuts) -> Profile:
    return Profile(Pyramid(values, cuts, np.minimum), Pyramid(values, cuts, np.maximum), _breaks(values))


@dataclass(frozen=True, slots=True, eq=False)
class TruthProfile:
    """A predicate over one axis: per cell, whether it holds somewhere and whether it holds everywhere."""

    some: Pyramid
    every: Pyramid


def truth_profile(values: NDArray[np.bool_], cuts: Cuts) -> TruthProfile:
    values = np.ascontiguousarray(values)
    return TruthProfile(Pyramid(values, cuts, np.logical_or), Pyramid(values, cuts, np.logical_and))


def _breaks(values: NDArray[Any]) -> NDArray[np.int32] | None:
    """The running count of neighbours that differ by more than one, or None where none do."""
    steps = np.diff(values)
    broken = (steps > 1) | (steps < -1)
    if not broken.any():
        return None
    breaks = np.zeros(len(values), np.int32)
    np.cumsum(broken, out=breaks[1:])
    return breaks
