"""TileMap: the full and the partial tiles of a mask, as compressed rows, with their transpose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from attnmask.ir.nodes import Predicate
from attnmask.tiles.grid import Grid, Ints

D = TypeVar("D", np.int32, np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Area:
    """Tiles of one plane, none of them twice: rectangles of them, and single ones.

    Rectangles are four arrays, of rows [top, bottom) × columns [left, right); single tiles are rows and columns.
    """

    rectangles: list[tuple[Ints, Ints, Ints, Ints]] = field(default_factory=list)
    singles: list[tuple[NDArray[np.int32], NDArray[np.int32]]] = field(default_factory=list)

    @property
    def tiles(self) -> int:
        """The number of tiles."""
        inside = sum(
            int(((bottom - top) * (right - left)).sum()) for top, bottom, left, right in self.rectangles
        )
        return inside + sum(len(rows) for rows, _ in self.singles)

    @property
    def transposed(self) -> Area:
        return Area(
            [(left, right, top, bottom) for top, bottom, left, right in self.rectangles],
            [(cols, rows) for rows, cols in self.singles],
        )


@dataclass(frozen=True, slots=True, eq=False)
class Csr:
    """Compressed rows: the columns of row r, ascending, are `indices[indptr[r] : indptr[r + 1]]`."""

    indptr: NDArray[np.int64]
    indices: NDArray[np.int32]

    @property
    def counts(self) -> NDArray[np.int64]:
        """The number of columns in each row."""
        return np.diff(self.indptr)

    def row(self, number: int) -> NDArray[np.int32]:
        return self.indices[self.indptr[number] : self.indptr[number + 1]]


@dataclass(frozen=True, slots=True, eq=False)
class TileMap:
    """Which tiles are full (every pair attended) and which partial (some are); the others are empty.

    Equal planes (b, h) are stored once: tile row r of plane p is row `p * rows + r` of `full` and `partial`,
    tile column c is row `p * cols + c` of the transposes `full_t` and `partial_t`.
    `planes` are the predicates of the planes, in q and k alone, and `tables` the arrays that they read.
    A tile that reaches past the end of either axis is never full, as in torch.
    """

    grid: Grid
    plane_of: NDArray[np.int64]
    full: Csr
    partial: Csr
    full_t: Csr
    partial_t: Csr
    planes: tuple[Predicate, ...]
    tables: Mapping[str, NDArray[Any]]

    @property
    def q_len(self) -> int:
        return self.grid.q_len

    @property
    def kv_len(self) -> int:
        return self.grid.kv_len

    @property
    def q_offset(self) -> int:
        return self.grid.q_offset

    @property
    def block(self) -> tuple[int, int]:
        return self.grid.block_q, self.grid.block_k

    @property
    def rows(self) -> int:
        return self.grid.rows

    @property
    def cols(self) -> int:
        return self.grid.cols

    @property
    def n_planes(self) -> int:
        return (len(self.full.indptr) - 1) // self.rows

    def dense(self, b: int = 0, h: int = 0) -> NDArray[np.uint8]:
        """uint8 [rows, cols] of one plane: 0 empty, 1 partial, 2 full. Takes rows × cols bytes."""
        planes_b, planes_h = self.plane_of.shape
        plane = int(self.plane_of[b if planes_b > 1 else 0, h if planes_h > 1 else 0])
        found: NDArray[np.uint8] = self.dense_planes(plane, plane + 1)[0]
        return found

    def dense_planes(self, first: int = 0, stop: int | None = None) -> NDArray[np.uint8]:
        """uint8 [planes, rows, cols] of the planes that differ, as `dense` has them."""
        stop = self.n_planes if stop is None else stop
        tiles = np.zeros(((stop - first) * self.rows, self.cols), np.uint8)
        for kind, value in ((self.partial, 1), (self.full, 2)):
            indptr = kind.indptr[first * self.rows : stop * self.rows + 1]
            rows = np.repeat(np.arange(len(tiles)), np.diff(indptr))
            tiles[rows, kind.indices[indptr[0] : indptr[-1]]] = value
        return tiles.reshape(stop - first, self.rows, self.cols)

    @property
    def nbytes(self) -> int:
        """Bytes that the lists take."""
        kinds = (self.full, self.partial, self.full_t, self.partial_t)
        return sum(kind.indptr.nbytes + kind.indices.nbytes for kind in kinds) + self.plane_of.nbytes


def merged(first: Csr, second: Csr) -> Csr:
    """The columns of both in each row, ascending; no row has a column in both."""
    rows = np.concatenate([np.repeat(np.arange(len(kind.counts)), kind.counts) for kind in (first, second)])
    columns = np.concatenate([first.indices, second.indices])
    return Csr(first.indptr + second.indptr, columns[np.lexsort((columns, rows))])


def compressed(planes: Sequence[Area], rows: int, cols: int) -> Csr:
    """Compressed rows of the planes' tiles; the planes are stacked, `rows` rows each."""
    n_rows = len(planes) * rows
    dtype = np.dtype(np.int32 if n_rows * cols < 2**31 else np.int64)
    keys = [np.zeros(0, dtype)]
    runs = []
    for plane, area in enumerate(planes):
        first = plane * rows
        keys += [(row.astype(dtype) + first) * cols + col for row, col in area.singles]
        runs += [_runs(first, *rectangles) for rectangles in area.rectangles]
    tiles: NDArray[Any] = np.concatenate(keys)
    if not runs:
        tiles.sort()
        row = tiles // cols
        return Csr(_indptr(np.bincount(row, minlength=n_rows)), (tiles - row * cols).astype(np.int32))
    row, start, length = (np.concatenate(arrays) for arrays in zip(*runs, strict=True))
    starts = np.concatenate([row * cols + start, tiles])
    lengths = np.concatenate([length, np.ones(len(tiles), np.int64)])
    order = np.argsort(starts)
    starts, lengths = starts[order], lengths[order]
    row = starts // cols
    counts = np.zeros(n_rows, np.int64)
    np.add.at(counts, row, lengths)
    return Csr(_indptr(counts), _ramps(starts - row * cols, lengths, np.int32))


def _runs(first_row: int, top: Ints, bottom: Ints, left: Ints, right: Ints) -> tuple[Ints, Ints, Ints]:
    """The rows of rectangles, one run of columns each: its row, its first column, its length."""
    heights = bottom - top
    if heights.max() > 1:
        which = np.repeat(np.arange(len(top)), heights)
        top, left, right = _ramps(top, heights, np.int64), left[which], right[which]
    return top + first_row, left, right - left


def _indptr(counts: Ints) -> Ints:
    return np.concatenate([[0], np.cumsum(counts)])


def _ramps(start: Ints, length: Ints, dtype: type[D]) -> NDArray[D]:
    """start[0], start[0]+1, … (length[0] of them), then start[1], …; every length is at least 1.

    Written as one running sum over steps, so that it takes no memory besides its result.
    """
    steps: NDArray[D] = np.ones(int(length.sum()), dtype)
    if len(start):
        ends = np.cumsum(length)
        steps[0] = start[0]
        steps[ends[:-1]] = start[1:] - (start[:-1] + length[:-1] - 1)
    return np.cumsum(steps, out=steps, dtype=dtype)
