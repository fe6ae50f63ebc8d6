"""Runs of attended keys: each query's keys as disjoint intervals, in compressed rows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attnmask.tiles.decide import Decider
from attnmask.tiles.grid import Ints, cells
from attnmask.tiles.profile import Profiles
from attnmask.tiles.tilemap import Csr, TileMap

Bounds = NDArray[np.int32]  # keys, or one past the last: lengths are below 2**31


@dataclass(frozen=True, slots=True, eq=False)
class Runs:
    """Consecutive queries from number `first` on.

    Query number `first + r` attends start[i] <= k < end[i] for i from indptr[r] to indptr[r + 1]: ascending, and
    with a key that is not attended between one and the next.
    """

    first: int
    indptr: Ints
    start: Bounds
    end: Bounds

    @property
    def keys(self) -> Ints:
        """The number of keys that each query attends, int64 [queries]."""
        return keys_per_row(self.indptr, self.start, self.end)


def keys_per_row(indptr: Ints, start: Bounds, end: Bounds) -> Ints:
    """How many keys the runs of each row cover, int64 [rows]."""
    before = np.zeros(len(start) + 1, np.int64)
    np.cumsum(end - start, out=before[1:])
    return np.diff(before[indptr])


def joined(first: int, count: int, rows: Ints, start: Ints, end: Ints) -> Runs:
    """Runs of `count` queries out of pieces, ordered by row and start, whose ends ascend in each row.

    Pieces that touch or overlap become one. None is empty; rows are counted from `first`.
    """
    opens = np.ones(len(rows), np.bool_)
    opens[1:] = (rows[1:] != rows[:-1]) | (start[1:] > end[:-1])
    closes = np.ones(len(rows), np.bool_)
    closes[:-1] = opens[1:]
    indptr = np.zeros(count + 1, np.int64)
    np.cumsum(np.bincount(rows[opens], minlength=count), out=indptr[1:])
    return Runs(first, indptr, start[opens].astype(np.int32), end[closes].astype(np.int32))


def tile_runs(tiles: TileMap, plane: int) -> Iterator[Runs]:
    """The runs of a plane, in portions of bounded memory: full tiles as they are, partial ones evaluated."""
    decider = Decider(tiles.planes[plane], Profiles(tiles.grid, tiles.tables), narrow=False)
    partial_bands, partial_cols = _of_plane(tiles, tiles.partial, plane)
    bands, cols = _of_plane(tiles, tiles.full, plane)
    full = joined(0, tiles.rows, bands, cols, cols + 1)
    full_bands = np.repeat(np.arange(tiles.rows), np.diff(full.indptr))
    elements = np.bincount(partial_bands, minlength=tiles.rows) * tiles.grid.block_k
    for top, bottom in _portions(tiles, elements + np.diff(full.indptr) + 1, decider.portion):
        queries = _Queries(tiles, top, bottom)
        partial_here, full_here = queries.among(partial_bands), queries.among(full_bands)
        pieces = [
            queries.evaluated(decider, partial_bands[partial_here], partial_cols[partial_here]),
            queries.spread(full_bands[full_here], full.start[full_here], full.end[full_here]),
        ]
        rows, start, end = (np.concatenate(arrays) for arrays in zip(*pieces, strict=True))
        order = np.argsort(rows * tiles.kv_len + start, kind="stable")
        yield joined(top, bottom - top, rows[order], start[order], end[order])


def _of_plane(tiles: TileMap, kind: Csr, plane: int) -> tuple[Ints, Ints]:
    """Rows and columns of a plane's tiles of one kind."""
    first, last = plane * tiles.rows, (plane + 1) * tiles.rows
    rows = np.repeat(np.arange(tiles.rows), kind.counts[first:last])
    return rows, kind.indices[kind.indptr[first] : kind.indptr[last]].astype(np.int64)


def _portions(tiles: TileMap, per_row: Ints, most: int) -> Iterator[tuple[int, int]]:
    """Ranges of queries: whole rows of tiles while these take at most `most` elements, else parts of one.

    `per_row`: the elements that one query takes, for each row of tiles.
    """
    height = tiles.grid.block_q
    done = np.cumsum(per_row * height)
    band = 0
    while band < tiles.rows:
        before = int(done[band] - per_row[band] * height)
        stop = int(np.searchsorted(done, before + most, side="right"))
        bottom = min(max(stop, band + 1) * height, tiles.q_len)
        step = bottom if stop > band else max(1, most // int(per_row[band]))
        for top in range(band * height, bottom, step):
            yield top, min(top + step, bottom)
        band = max(stop, band + 1)


class _Queries:
    """Query numbers from top to bottom: rows of tiles, or a part of one row of tiles."""

    def __init__(self, tiles: TileMap, top: int, bottom: int) -> None:
        self.grid = tiles.grid
        self.top = top
        self.bottom = bottom
        self.bands = top // self.grid.block_q, -(-bottom // self.grid.block_q)
        first = self.bands[0] * self.grid.block_q
        self.within = np.arange(top - first, min(bottom - first, self.grid.block_q))

    def among(self, bands: Ints) -> slice:
        """Which of the tiles in these bands, which ascend, lie in these rows."""
        return slice(*np.searchsorted(bands, self.bands))

    def evaluated(self, decider: Decider, bands: Ints, cols: Ints) -> tuple[Ints, Ints, Ints]:
        """Rows, starts and ends of the runs in partial tiles."""
        width = self.grid.block_k
        inside = self._rows(bands) < self.bottom - self.top
        keys = cols[:, None] * width + np.arange(width) < self.grid.kv_len
        # Between two unattended columns every run has a start and an end of its own.
        lines = np.zeros((len(bands), len(self.within), width + 2), np.bool_)
        attended = decider.values(cells(self.grid, 0, bands, cols), self.within, np.arange(width))
        np.logical_and(attended, inside[:, :, None], out=lines[:, :, 1:-1])
        lines[:, :, 1:-1] &= keys[:, None, :]
        flat = lines.ravel()
        changes = np.flatnonzero(flat[1:] != flat[:-1])
        line, column = np.divmod(changes, width + 2)
        tile, row = np.divmod(line[::2], len(self.within))
        first = cols[tile] * width
        return self._rows(bands)[tile, row], first + column[::2], first + column[1::2]

    def spread(self, bands: Ints, first: Bounds, stop: Bounds) -> tuple[Ints, Ints, Ints]:
        """Rows, starts and ends of the keys of full tiles from column `first` to before `stop`."""
        rows = self._rows(bands)
        bounds = (np.multiply(bound, self.grid.block_k, dtype=np.int64)[:, None] for bound in (first, stop))
        start, end = (np.broadcast_to(bound, rows.shape).ravel() for bound in bounds)
        return rows.ravel(), start, end

    def _rows(self, bands: Ints) -> Ints:
        """Query numbers, from `top`, that tiles in these rows have: int64 [tiles, rows]."""
        return bands[:, None] * self.grid.block_q + self.within - self.top
