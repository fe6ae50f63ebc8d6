"""How the lists of a BlockMask lie in memory: rows only as long as the longest list. In numpy, without torch."""

from __future__ import annotations

import mmap
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attnmask.tiles.promises import DECODING
from attnmask.tiles.tilemap import Csr, TileMap, merged

_PORTION = 1 << 22
_MAPPED = 1 << 20


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """One kind of lists: of keys for each row of tiles, or of queries for each column.

    Kernels index `(b * H + h) * stride + row * stride`, so every (b, h) has rows of its own, and a list's
    entries stand `pitch` apart from the next list's. Viewed with the full `width`, lists overlap past their
    counts, where entries mean nothing in torch either.
    """

    lists: Csr
    order: NDArray[np.int64]  # the list of each row, for all (b, h)
    shape: tuple[int, int, int]
    pitch: int
    width: int

    @property
    def size(self) -> int:
        """The number of entries in memory."""
        return len(self.order) * self.pitch + self.width

    @property
    def nbytes(self) -> int:
        """Bytes of counts and entries."""
        return 4 * (len(self.order) + self.size)

    @property
    def _in_order(self) -> bool:
        """Whether the rows are the lists, one by one."""
        return len(self.order) + 1 == len(self.lists.indptr) and bool((np.diff(self.order) == 1).all())

    def counts(self) -> NDArray[np.int32]:
        """int32 [B, H, rows]: the length of each list."""
        return self.lists.counts[self.order].astype(np.int32).reshape(self.shape)

    def entries(self) -> NDArray[np.int32]:
        """int32 [size]: the lists, `pitch` apart."""
        counts, starts = self.lists.counts[self.order], self.lists.indptr[self.order]
        total = int(counts.sum())
        flat = _zeros(self.size, total)
        if self._in_order and 4 * total >= len(counts) * self.pitch:
            # Where lists fill much of their rows, marking the places is quicker than computing them.
            rows = flat[: len(counts) * self.pitch].reshape(-1, self.pitch)
            rows[np.arange(self.pitch) < counts[:, None]] = self.lists.indices
            return flat
        ends = np.cumsum(counts)
        at = 0
        while at < len(counts):
            # As many rows as hold a portion of entries, so that the index arrays below stay small.
            before = int(ends[at] - counts[at])
            stop = max(at + 1, int(np.searchsorted(ends, before + _PORTION, side="right")))
            length = counts[at:stop]
            within = np.arange(int(length.sum())) - np.repeat(ends[at:stop] - length - before, length)
            target = np.repeat(np.arange(at, stop) * self.pitch, length) + within
            flat[target] = self.lists.indices[np.repeat(starts[at:stop], length) + within]
            at = stop
        return flat


def _zeros(size: int, written: int) -> NDArray[np.int32]:
    """Zeros, int32 [size], of which only what is written takes memory, where that is a small part.

    A column that every query sees makes all lists of its kind as long as itself, and most of them stay almost
    empty. numpy asks for huge pages, which makes all of it resident; an anonymous map does not.
    """
    if size < _MAPPED or written > size // 8:
        return np.zeros(size, np.int32)
    return np.frombuffer(mmap.mmap(-1, 4 * size), np.int32)


@dataclass(frozen=True, slots=True)
class Layout:
    """The four kinds of lists of a BlockMask; the full ones are None where they are not told apart."""

    kv: Rows
    full_kv: Rows | None
    q: Rows
    full_q: Rows | None

    @property
    def nbytes(self) -> int:
        return sum(rows.nbytes for rows in (self.kv, self.full_kv, self.q, self.full_q) if rows is not None)


def layout(
    tiles: TileMap, shape: tuple[int, int] | None = None, *, separate_full_blocks: bool = True
) -> Layout:
    """Where the lists of a tile map go; `shape` is (batch rows, heads), else as many as the map has planes for."""
    plane_of = tiles.plane_of if shape is None else np.broadcast_to(tiles.plane_of, shape)
    kv, q = [tiles.partial, tiles.full], [tiles.partial_t, tiles.full_t]
    if not separate_full_blocks:
        kv, q = [merged(*kv)], [merged(*q)]
    # The decoding kernel reads both lists with the strides of one.
    kv_rows = _rows(plane_of, kv, tiles.rows, tiles.cols, tiles.q_len < DECODING)
    q_rows = _rows(plane_of, q, tiles.cols, tiles.rows, False)
    if not separate_full_blocks:
        return Layout(kv_rows[0], None, q_rows[0], None)
    return Layout(*kv_rows, *q_rows)


def _rows(
    plane_of: NDArray[np.int64], kinds: Sequence[Csr], rows: int, width: int, same_pitch: bool
) -> list[Rows]:
    pitches = [max(1, int(kind.counts.max())) for kind in kinds]
    if same_pitch:
        pitches = [max(pitches)] * len(kinds)
    batch, heads = plane_of.shape
    order = (plane_of.reshape(-1, 1) * rows + np.arange(rows)).ravel()
    return [
        Rows(kind, order, (batch, heads, rows), pitch, width)
        for kind, pitch in zip(kinds, pitches, strict=True)
    ]
