"""The plane of a call cut into tiles, and cells: squares of 2**level × 2**level tiles."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Axis = Literal["q", "k"]
Ints = NDArray[np.int64]
# Rows and columns of the cells one and two levels below a cell, from its first.
_OFFSETS = {steps: np.divmod(np.arange(4**steps), 2**steps) for steps in (1, 2)}


@dataclass(frozen=True, slots=True)
class Grid:
    """q_len × kv_len positions in tiles of block_q × block_k; queries count from q_offset."""

    q_len: int
    kv_len: int
    block_q: int
    block_k: int
    q_offset: int = 0

    @property
    def rows(self) -> int:
        return -(-self.q_len // self.block_q)

    @property
    def cols(self) -> int:
        return -(-self.kv_len // self.block_k)

    @property
    def whole_rows(self) -> int:
        """Rows of tiles that do not reach past the end."""
        return self.q_len // self.block_q

    @property
    def whole_cols(self) -> int:
        return self.kv_len // self.block_k

    @property
    def symmetric(self) -> bool:
        """Whether both axes have the same positions in the same blocks."""
        return self.q_offset == 0 and self.q_len == self.kv_len and self.block_q == self.block_k

    @property
    def top(self) -> int:
        """The least level at which one cell covers everything."""
        return (max(self.rows, self.cols) - 1).bit_length()


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """Cells of one level, with the first and the last position on either axis (q includes the offset)."""

    level: int
    i: Ints
    j: Ints
    q_first: Ints
    q_last: Ints
    k_first: Ints
    k_last: Ints

    def __len__(self) -> int:
        return len(self.i)

    def __getitem__(self, chosen: slice | NDArray[Any]) -> Cells:
        """Some of the cells."""
        arrays = (self.i, self.j, self.q_first, self.q_last, self.k_first, self.k_last)
        return Cells(self.level, *(array[chosen] for array in arrays))


def cells(grid: Grid, level: int, i: Ints, j: Ints) -> Cells:
    """Cells of whole tiles, from level 0 up, by their row and column numbers."""
    span_q, span_k = grid.block_q << level, grid.block_k << level
    q_first, k_first = i * span_q, j * span_k
    q_last, k_last = q_first + (span_q - 1), k_first + (span_k - 1)
    if grid.q_len % span_q:
        q_last = np.minimum(q_last, grid.q_len - 1)
    if grid.kv_len % span_k:
        k_last = np.minimum(k_last, grid.kv_len - 1)
    if grid.q_offset:
        q_first, q_last = q_first + grid.q_offset, q_last + grid.q_offset
    return Cells(level, i, j, q_first, q_last, k_first, k_last)


def first_cells(grid: Grid, level: int) -> tuple[Ints, Ints]:
    """Row and column numbers of all cells of a level."""
    rows, cols = -(-grid.rows >> level), -(-grid.cols >> level)
    i, j = np.divmod(np.arange(rows * cols, dtype=np.int64), cols)
    return i, j


def descendants(grid: Grid, level: int, i: Ints, j: Ints, steps: int) -> tuple[Ints, Ints]:
    """The cells of `level - steps` that lie in the given cells of `level` and in the grid."""
    rows, cols = -(-grid.rows >> (level - steps)), -(-grid.cols >> (level - steps))
    below, right_of = _OFFSETS[steps]
    down = ((i[:, None] << steps) + below).ravel()
    right = ((j[:, None] << steps) + right_of).ravel()
    if not (rows | cols) & ((1 << steps) - 1):
        return down, right
    inside = (down < rows) & (right < cols)
    return down[inside], right[inside]
