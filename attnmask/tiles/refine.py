"""Tiles that bounds leave undecided: cut further, until each is seen to hold what makes it partial, or not to.

A tile is partial as soon as one attended and one unattended element in it are certain; most are told by a few
probes, or by the first cuts. What is left of the others ends in parts so small that their elements are looked at.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from attnmask.tiles.classify import Classifier
from attnmask.tiles.cuts import SMALL, Cut
from attnmask.tiles.decide import Decider
from attnmask.tiles.grid import Cells, Ints
from attnmask.tiles.outcome import EMPTY, FULL, PARTIAL, Outcomes

# Rows and columns of a tile that are looked at first, and where this does not tell.
_PROBES = (2, 5)
_PORTION = 1 << 15
# Cutting takes a look at every position; so many elements of each are looked at as quickly.
_ELEMENTS_A_POSITION = 8
# Where the second cut and later ones settle a smaller share of the parts than this, cutting on does not pay.
_LEAST_SETTLED = 1 / 8
Flags = NDArray[np.bool_]


class Refiner:
    """Decides tiles of one predicate."""

    def __init__(self, classifier: Classifier, narrow: bool) -> None:
        self.classifier = classifier
        self.profiles = classifier.profiles
        self.grid = classifier.profiles.grid
        self.narrow = narrow
        self.known_decider: Decider | None = None

    @property
    def decider(self) -> Decider:
        if self.known_decider is None:
            self.known_decider = Decider(self.classifier.root, self.profiles, self.narrow)
        return self.known_decider

    def decided(self, tiles: Cells, possible: Outcomes) -> Outcomes:
        """The exact outcome of each tile, of those that are possible; uint8 [tiles].

        One that reaches past the end may be called partial where it is full.
        """
        undecided = np.flatnonzero((possible & (possible - 1)) != 0)
        if not len(undecided):
            return possible
        found = possible.copy()
        found[undecided] = self.outcomes(tiles[undecided], possible[undecided])
        return found

    def outcomes(self, tiles: Cells, possible: Outcomes) -> Outcomes:
        """The same for tiles that are all undecided."""
        evidence = _Evidence(len(tiles))
        evidence.add(np.arange(len(tiles)), possible)
        evidence.unattended |= (tiles.i >= self.grid.whole_rows) | (tiles.j >= self.grid.whole_cols)
        self._probe(tiles, evidence)
        self._cut(tiles, evidence)
        return evidence.outcomes()

    def _probe(self, tiles: Cells, evidence: _Evidence) -> None:
        for number in _PROBES:
            tile = np.flatnonzero(evidence.open())
            if not len(tile):
                return
            within_q, within_k = _spread(self.grid.block_q, number), _spread(self.grid.block_k, number)
            seen = self.decider.outcomes(tiles[tile], within_q, within_k)
            # A few elements that are all attended show that some are, not that all are.
            evidence.attended[tile] |= seen != EMPTY
            evidence.unattended[tile] |= seen != FULL

    def _cut(self, tiles: Cells, evidence: _Evidence) -> None:
        grid = self.grid
        tile = np.flatnonzero(evidence.open())
        few = _ELEMENTS_A_POSITION * (grid.q_len + grid.kv_len)
        if len(tile) * grid.block_q * grid.block_k <= few or max(grid.block_q, grid.block_k) <= SMALL:
            self._look_at_tiles(tiles, tile, evidence)
            return
        self.profiles.weigh_cuts()
        work = [(0, tile, tiles.i[tile], tiles.j[tile])]
        while work:
            level, tile, i, j = work.pop()
            if len(i) > _PORTION:
                half = len(i) // 2
                work += [(level, tile[half:], i[half:], j[half:]), (level, tile[:half], i[:half], j[:half])]
                continue
            open_ = evidence.open()[tile]
            tile, i, j = self._parts(level - 1, tile[open_], i[open_], j[open_])
            if len(tile):
                on = self._settled(tiles, tile, self._cells(level - 1, i, j), evidence)
                work.append((level - 1, tile[on], i[on], j[on]))

    def _settled(self, tiles: Cells, tile: Ints, parts: Cells, evidence: _Evidence) -> Ints:
        """Take note of what parts of tiles tell; the numbers of those that are to be cut on."""
        outcomes = self.classifier.outcomes(parts)
        evidence.add(tile, outcomes)
        rest = np.flatnonzero(((outcomes & (outcomes - 1)) != 0) & evidence.open()[tile])
        if parts.level < -1 and len(rest) > (1 - _LEAST_SETTLED) * len(tile):
            self._look_at_tiles(tiles, np.unique(tile[rest]), evidence)
            return rest[:0]
        small = (parts.q_last - parts.q_first < SMALL) & (parts.k_last - parts.k_first < SMALL)
        ends, within = rest[small[rest]], np.arange(SMALL)
        if len(ends):
            evidence.add(tile[ends], self.decider.outcomes(parts[ends], within, within))
        return rest[~small[rest]]

    def _look_at_tiles(self, tiles: Cells, tile: Ints, evidence: _Evidence) -> None:
        within_q = np.arange(min(self.grid.block_q, self.grid.q_len))
        within_k = np.arange(min(self.grid.block_k, self.grid.kv_len))
        evidence.add(tile, self.decider.outcomes(tiles[tile], within_q, within_k))
        evidence.complete[tile] = True

    def _parts(self, level: int, tile: Ints, i: Ints, j: Ints) -> tuple[Ints, Ints, Ints]:
        """The parts on `level` of cells of the level above."""
        cell, i = _children(self.profiles.cuts("q").cut(level), i)
        tile, j = tile[cell], j[cell]
        cell, j = _children(self.profiles.cuts("k").cut(level), j)
        return tile[cell], i[cell], j

    def _cells(self, level: int, i: Ints, j: Ints) -> Cells:
        q, k = self.profiles.cuts("q").edges(level), self.profiles.cuts("k").edges(level)
        offset = self.grid.q_offset
        return Cells(level, i, j, q[i] + offset, q[i + 1] + (offset - 1), k[j], k[j + 1] - 1)


def _children(cut: Cut, parents: Ints) -> tuple[Ints, Ints]:
    """For each part of each parent, the number of the parent in the list and that of the part."""
    first = cut.first[parents]
    two = np.flatnonzero(cut.first[parents + 1] - first == 2)
    return np.concatenate([np.arange(len(parents)), two]), np.concatenate([first, first[two] + 1])


class _Evidence:
    """What is certain of each tile: that an element of it is attended, that one is not, that all was looked at."""

    def __init__(self, count: int) -> None:
        self.attended = np.zeros(count, np.bool_)
        self.unattended = np.zeros(count, np.bool_)
        self.complete = np.zeros(count, np.bool_)

    def add(self, tile: Ints, outcomes: Outcomes) -> None:
        """Take note of the possible outcomes of parts of tiles."""
        self.attended[tile[(outcomes & EMPTY) == 0]] = True
        self.unattended[tile[(outcomes & FULL) == 0]] = True

    def open(self) -> Flags:
        return ~(self.complete | (self.attended & self.unattended))

    def outcomes(self) -> Outcomes:
        """When every part has been settled, a tile without evidence of one kind is all of the other."""
        return np.where(
            self.attended, np.where(self.unattended, np.uint8(PARTIAL), np.uint8(FULL)), np.uint8(EMPTY)
        )


def _spread(size: int, number: int) -> Ints:
    """A few positions over a tile, both ends among them."""
    return np.unique(np.linspace(0, size - 1, min(size, number)).astype(np.int64))
