"""Counting attended pairs, exactly: from runs of keys, by diagonals, or by looking at partial tiles."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attnmask.tiles.decide import Decider
from attnmask.tiles.diagonals import by_distance
from attnmask.tiles.grid import Ints, cells
from attnmask.tiles.profile import Profiles
from attnmask.tiles.runs import tile_runs
from attnmask.tiles.thresholds import RowThresholds, row_thresholds
from attnmask.tiles.tilemap import TileMap

# More elements than this in partial tiles, and a picture is drawn from samples of them.
_MOST_ELEMENTS = 1 << 28
_SAMPLES = 16
_PORTION = 1 << 14


@dataclass(frozen=True, slots=True, eq=False)
class PartialCounts:
    """Attended pairs of each partial tile, int64 parallel to `TileMap.partial.indices`."""

    values: Ints
    sampled: bool


def row_counts(tiles: TileMap, plane: int = 0) -> Ints:
    """The number of keys that each query of a plane attends, exactly: int64 [q_len]."""
    profiles = Profiles(tiles.grid, tiles.tables)
    thresholds = row_thresholds(tiles.planes[plane], profiles)
    distance = by_distance(tiles.planes[plane])
    if thresholds is None and distance is not None:
        return profiles.counts_of(distance).per_row(tiles.grid)
    runs = tile_runs(tiles, plane) if thresholds is None else thresholds.runs()
    return np.concatenate([part.keys for part in runs])


def partial_counts(tiles: TileMap) -> PartialCounts:
    """Attended pairs of every partial tile of every plane; sampled only where exact counting would take long."""
    values = np.zeros(len(tiles.partial.indices), np.int64)
    sampled = False
    for plane in range(tiles.n_planes):
        i, j, at = _partial_tiles(tiles, plane)
        thresholds = row_thresholds(tiles.planes[plane], Profiles(tiles.grid, tiles.tables))
        if thresholds is not None:
            values[at] = _by_thresholds(tiles, thresholds, i, j)
        else:
            sampled |= len(i) * tiles.grid.block_q * tiles.grid.block_k > _MOST_ELEMENTS
            values[at] = _by_elements(tiles, plane, i, j)
    return PartialCounts(values, sampled)


def _partial_tiles(tiles: TileMap, plane: int) -> tuple[Ints, Ints, slice]:
    """Rows and columns of a plane's partial tiles, and where they stand in the list of all."""
    first, last = plane * tiles.rows, (plane + 1) * tiles.rows
    at = slice(int(tiles.partial.indptr[first]), int(tiles.partial.indptr[last]))
    rows = np.repeat(np.arange(tiles.rows), tiles.partial.counts[first:last])
    return rows, tiles.partial.indices[at].astype(np.int64), at


def _by_thresholds(tiles: TileMap, thresholds: RowThresholds, i: Ints, j: Ints) -> Ints:
    """Overlap of each query's attended stretches with the tile, summed over the tile's queries."""
    grid = tiles.grid
    counts = np.zeros(len(i), np.int64)
    width = len(thresholds.thresholds) + len(thresholds.fixed) + 1
    rows_at_once = max(1, _PORTION // (grid.block_q * width))
    for top in range(0, tiles.rows, rows_at_once):
        bottom = min(top + rows_at_once, tiles.rows)
        queries = slice(top * grid.block_q, min(bottom * grid.block_q, grid.q_len))
        part = thresholds.stretches(queries)
        chosen = np.arange(*np.searchsorted(i, [top, bottom]))
        for some in np.array_split(chosen, max(1, len(chosen) * grid.block_q * width >> 21)):
            counts[some] = _overlaps(tiles, part.first, part.edges, part.attended, i[some], j[some])
    return counts


def _overlaps(tiles: TileMap, first: int, edges: Ints, attended: NDArray[np.bool_], i: Ints, j: Ints) -> Ints:
    grid = tiles.grid
    queries = i[:, None] * grid.block_q + np.arange(grid.block_q)
    inside = queries < grid.q_len
    rows = np.minimum(queries, grid.q_len - 1) - first
    low, high = (j * grid.block_k)[:, None, None], ((j + 1) * grid.block_k)[:, None, None]
    clipped = np.clip(edges[rows], low, high)
    keys = (np.diff(clipped, axis=2) * attended[rows]).sum(axis=2)
    total: Ints = (keys * inside).sum(axis=1)
    return total


def _by_elements(tiles: TileMap, plane: int, i: Ints, j: Ints) -> Ints:
    grid = tiles.grid
    decider = Decider(tiles.planes[plane], Profiles(grid, tiles.tables), narrow=False)
    within_q, within_k = np.arange(grid.block_q), np.arange(grid.block_k)
    if len(i) * grid.block_q * grid.block_k > _MOST_ELEMENTS:
        within_q, within_k = _sample(grid.block_q), _sample(grid.block_k)
    counts = np.zeros(len(i), np.int64)
    step = max(1, decider.portion // (len(within_q) * len(within_k)))
    for start in range(0, len(i), step):
        rows, cols = i[start : start + step], j[start : start + step]
        inside = _inside(tiles, rows, cols, within_q, within_k)
        values = decider.values(cells(grid, 0, rows, cols), within_q, within_k) & inside
        share = values.sum(axis=(1, 2)) / np.maximum(inside.sum(axis=(1, 2)), 1)
        area = np.minimum(grid.block_q, grid.q_len - rows * grid.block_q) * np.minimum(
            grid.block_k, grid.kv_len - cols * grid.block_k
        )
        # A partial tile has at least one attended pair, though samples may miss it.
        counts[start : start + step] = np.maximum(np.rint(share * area), 1)
    return counts


def _sample(size: int) -> Ints:
    """Positions spread over a tile, without a period that a strided mask could share."""
    if size <= _SAMPLES:
        return np.arange(size)
    return np.sort(np.random.default_rng(0).choice(size, _SAMPLES, replace=False)).astype(np.int64)


def _inside(
    tiles: TileMap, i: Ints, j: Ints, within_q: Ints | None = None, within_k: Ints | None = None
) -> NDArray[np.bool_]:
    """Which elements of the tiles lie within the lengths, bool [tiles, rows, columns]."""
    grid = tiles.grid
    within_q = np.arange(grid.block_q) if within_q is None else within_q
    within_k = np.arange(grid.block_k) if within_k is None else within_k
    q = (i * grid.block_q)[:, None] + within_q < grid.q_len
    k = (j * grid.block_k)[:, None] + within_k < grid.kv_len
    return q[:, :, None] & k[:, None, :]
