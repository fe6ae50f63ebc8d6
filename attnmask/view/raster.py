"""A tile map reduced to the few cells that a terminal or a picture has room for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from attnmask.errors import MaskError
from attnmask.ir.domain import whole
from attnmask.tiles.count import PartialCounts
from attnmask.tiles.tilemap import Csr, TileMap

Ints: TypeAlias = npt.NDArray[np.int64]
Floats: TypeAlias = npt.NDArray[np.float64]
Bools: TypeAlias = npt.NDArray[np.bool_]

_SAME_SCALE_UP_TO = 8  # beyond this ratio of the lengths, the short side would have no cells left


@dataclass(frozen=True, slots=True, eq=False)
class Raster:
    """One (b, h) plane of a mask on a grid of cells; every array is int64 [rows, cols].

    A cell covers `tiles_per_cell` tiles (fewer in the last row and column). `attended` counts pairs, `area`
    the pairs there are; `full`, `partial` and `empty` count tiles. `sampled`: `attended` is an estimate.
    """

    q_len: int
    kv_len: int
    q_offset: int
    block: tuple[int, int]
    tiles_per_cell: tuple[int, int]
    attended: Ints
    area: Ints
    full: Ints
    partial: Ints
    empty: Ints
    sampled: bool = False

    @property
    def rows(self) -> int:
        return int(self.attended.shape[0])

    @property
    def cols(self) -> int:
        return int(self.attended.shape[1])

    @property
    def cell(self) -> tuple[int, int]:
        """Tokens per cell, (q, k)."""
        return self.tiles_per_cell[0] * self.block[0], self.tiles_per_cell[1] * self.block[1]

    @property
    def density(self) -> Floats:
        """Attended share of the pairs of every cell, 0..1."""
        return self.attended / self.area

    @property
    def total_density(self) -> float:
        return int(self.attended.sum()) / (self.q_len * self.kv_len)

    @property
    def filled(self) -> Bools:
        """Cells in which every pair is attended, whatever their tiles are called."""
        filled: Bools = self.attended == self.area
        return filled

    @property
    def all_full(self) -> Bools:
        """Cells of nothing but full tiles; a ragged last tile is never full, though all of it be attended."""
        all_full: Bools = (self.partial == 0) & (self.empty == 0)
        return all_full


def rasterise(
    tile_map: TileMap,
    counts: PartialCounts,
    *,
    b: int = 0,
    h: int = 0,
    max_rows: int,
    max_cols: int,
    same_scale: bool = False,
) -> Raster:
    """Sum the tiles of plane (b, h) into at most `max_rows` x `max_cols` cells.

    `counts` are those of the tile map. With `same_scale` a cell is as many queries as keys where blocks and
    lengths allow it. Time grows with the number of listed tiles, memory with one row of cells. Raises
    `MaskError` when there is no plane (b, h).
    """
    plane = _plane(tile_map, b, h)
    steps = _round_up(-(-tile_map.rows // max_rows)), _round_up(-(-tile_map.cols // max_cols))
    if same_scale:
        steps = _same_scale(tile_map, *steps)
    rows, cols = -(-tile_map.rows // steps[0]), -(-tile_map.cols // steps[1])
    full, partial, attended = (np.zeros((rows, cols), np.int64) for _ in range(3))
    for row, columns, _ in _cell_rows(tile_map.full, tile_map.rows, plane, steps):
        full[row] = np.bincount(columns, minlength=cols)
    for row, columns, listed in _cell_rows(tile_map.partial, tile_map.rows, plane, steps):
        partial[row] = np.bincount(columns, minlength=cols)
        # bincount adds weights as float64, which is exact up to 2**53 pairs a cell.
        attended[row] = np.bincount(columns, weights=counts.values[listed], minlength=cols)
    attended += full * (tile_map.block[0] * tile_map.block[1])
    return Raster(
        q_len=tile_map.q_len,
        kv_len=tile_map.kv_len,
        q_offset=tile_map.q_offset,
        block=tile_map.block,
        tiles_per_cell=steps,
        attended=attended,
        area=np.outer(
            _extents(tile_map.q_len, steps[0] * tile_map.block[0]),
            _extents(tile_map.kv_len, steps[1] * tile_map.block[1]),
        ),
        full=full,
        partial=partial,
        empty=np.outer(_extents(tile_map.rows, steps[0]), _extents(tile_map.cols, steps[1])) - full - partial,
        sampled=counts.sampled,
    )


def _plane(tile_map: TileMap, b: int, h: int) -> int:
    """The number of plane (b, h). A size of 1 serves every index: the mask does not depend on it."""
    batch, heads = tile_map.plane_of.shape
    for name, index, size in (("batch row", b, batch), ("head", h, heads)):
        if whole(name, index) >= size > 1:
            raise MaskError(f"there is no {name} {index}", hint=f"the tiles are those of 0 to {size - 1}")
    return int(tile_map.plane_of[b if batch > 1 else 0, h if heads > 1 else 0])


def _cell_rows(
    csr: Csr, rows: int, plane: int, steps: tuple[int, int]
) -> Iterator[tuple[int, npt.NDArray[np.int32], slice]]:
    """For every row of cells: its number, the cell columns of its listed tiles, their place in the list."""
    first = plane * rows
    for row, start in enumerate(range(0, rows, steps[0])):
        stop = min(start + steps[0], rows)
        listed = slice(int(csr.indptr[first + start]), int(csr.indptr[first + stop]))
        yield row, csr.indices[listed] // steps[1], listed


def _extents(length: int, step: int) -> Ints:
    """The sizes of the pieces when `length` is cut every `step`: all `step` but perhaps the last."""
    starts = np.arange(0, length, step, dtype=np.int64)
    return np.minimum(starts + step, length) - starts


def _same_scale(tile_map: TileMap, down: int, across: int) -> tuple[int, int]:
    """Tiles per cell along q and k, enlarged on one side until a cell is square in tokens."""
    (bq, bk), q_len, kv_len = tile_map.block, tile_map.q_len, tile_map.kv_len
    if max(q_len, kv_len) > _SAME_SCALE_UP_TO * min(q_len, kv_len):
        return down, across
    tokens = max(down * bq, across * bk)
    return max(down, tokens // bq), max(across, tokens // bk)


def _round_up(step: int) -> int:
    """The next of 1, 2, 3, 4, 6, 8, 12, 16, 24 ...: cell borders then fall on round positions."""
    power = 1 << (step - 1).bit_length()
    return power * 3 // 4 if power >= 4 and step <= power * 3 // 4 else power
