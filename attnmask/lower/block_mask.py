"""TileMap to torch's BlockMask, with its own transpose and rows only as long as they need to be."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.attention.flex_attention import BlockMask

from attnmask.lower.functions import MaskMod
from attnmask.tiles.tilemap import Csr, TileMap

# The decoding kernel, which takes shorter queries than this, reads both lists with the strides of one.
_DECODING = 128
_PORTION = 1 << 22


def block_mask(tiles: TileMap, mask_mod: MaskMod, device: torch.device) -> BlockMask:
    """The BlockMask of a tile map; `mask_mod` must say the same as the tiles.

    Its index lists have the shape that torch gives them, [B, H, rows, columns] and int32, over a row pitch of
    the longest list: entries past a row's count overlap the next row and mean nothing, as in torch.
    """
    plane_of = tiles.plane_of
    kv = _lists(tiles.partial, tiles.full, tiles.rows, tiles.cols, plane_of, tiles.q_len < _DECODING)
    q = _lists(tiles.partial_t, tiles.full_t, tiles.cols, tiles.rows, plane_of, False)
    (kv_num, kv_indices), (full_kv_num, full_kv_indices) = (_on(device, *kind) for kind in kv)
    (q_num, q_indices), (full_q_num, full_q_indices) = (_on(device, *kind) for kind in q)
    return BlockMask(
        seq_lengths=(tiles.q_len, tiles.kv_len),
        kv_num_blocks=kv_num,
        kv_indices=kv_indices,
        full_kv_num_blocks=full_kv_num,
        full_kv_indices=full_kv_indices,
        q_num_blocks=q_num,
        q_indices=q_indices,
        full_q_num_blocks=full_q_num,
        full_q_indices=full_q_indices,
        BLOCK_SIZE=tiles.block,
        mask_mod=mask_mod,
    )


Padded = tuple[NDArray[np.int32], NDArray[np.int32], int, int]


def _lists(
    partial: Csr, full: Csr, rows: int, width: int, plane_of: NDArray[np.int64], same_pitch: bool
) -> tuple[Padded, Padded]:
    pitches = [max(1, int(kind.counts.max())) for kind in (partial, full)]
    if same_pitch:
        pitches = [max(pitches)] * 2
    return (
        _padded(partial, rows, width, plane_of, pitches[0]),
        _padded(full, rows, width, plane_of, pitches[1]),
    )


def _padded(kind: Csr, rows: int, width: int, plane_of: NDArray[np.int64], pitch: int) -> Padded:
    """Counts [B, H, rows] and flat entries, `pitch` a row; every (b, h) has rows of its own, as kernels need."""
    order = (plane_of.ravel()[:, None] * rows + np.arange(rows)).ravel()
    counts = kind.counts[order]
    flat = np.zeros(len(order) * pitch + width, np.int32)
    starts = kind.indptr[order]
    ends = np.cumsum(counts)
    at = 0
    while at < len(order):
        # As many rows as hold a portion of entries, so that the index arrays below stay small.
        before = int(ends[at] - counts[at])
        stop = max(at + 1, int(np.searchsorted(ends, before + _PORTION, side="right")))
        length = counts[at:stop]
        within = np.arange(int(length.sum())) - np.repeat(ends[at:stop] - length - before, length)
        target = np.repeat(np.arange(at, stop) * pitch, length) + within
        flat[target] = kind.indices[np.repeat(starts[at:stop], length) + within]
        at = stop
    return counts.astype(np.int32).reshape(*plane_of.shape, rows), flat, pitch, width


def _on(
    device: torch.device, counts: NDArray[np.int32], flat: NDArray[np.int32], pitch: int, width: int
) -> tuple[torch.Tensor, torch.Tensor]:
    batch, heads, rows = counts.shape
    entries = torch.from_numpy(flat).to(device)
    view = entries.as_strided((batch, heads, rows, width), (heads * rows * pitch, rows * pitch, pitch, 1))
    return torch.from_numpy(counts).to(device), view
