"""How the lists of a BlockMask lie in memory: rows only as long as the longest list. In numpy, without torch."""

from __future__ import annotations

import mmap
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attnmask.tiles.tilemap import Csr, TileMap

# The decoding kernel, which takes shorter queries than this, reads both lists with the strides of one.
_DECODING = 128
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

    def counts(self) -> NDArray[np.int32]:
        """int32 [B, H, rows]: the length of each list."""
        return self.lists.counts[self.order].astype(np.int32).reshape(self.shape)

    def entries(self) -> NDArray[np.int32]:
        """int32 [size]: the lists, `pitch` apart."""
        counts, starts = self.lists.counts[self.order], self.lists.indptr[self.order]
        flat = _zeros(self.size, int(counts.sum()))
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
    """The four kinds of lists of a BlockMask."""

    kv: Rows
    full_kv: Rows
    q: Rows
    full_q: Rows

    @property
    def nbytes(self) -> int:
        return sum(rows.nbytes for rows in (self.kv, self.full_kv, self.q, self.full_q))


def layout(tiles: TileMap) -> Layout:
    """Where the lists of a tile map go."""
    kv = _pair(tiles, tiles.partial, tiles.full, tiles.rows, tiles.cols, tiles.q_len < _DECODING)
    q = _pair(tiles, tiles.partial_t, tiles.full_t, tiles.cols, tiles.rows, False)
    return Layout(*kv, *q)


def _pair(
    tiles: TileMap, partial: Csr, full: Csr, rows: int, width: int, same_pitch: bool
) -> tuple[Rows, Rows]:
    pitches = [max(1, int(kind.counts.max())) for kind in (partial, full)]
    if same_pitch:
        pitches = [max(pitches)] * 2
    batch, heads = tiles.plane_of.shape
    order = (tiles.plane_of.ravel()[:, None] * rows + np.arange(rows)).ravel()
    first, second = (
        Rows(kind, order, (batch, heads, rows), pitch, width)
        for kind, pitch in zip((partial, full), pitches, strict=True)
    )
    return first, second
