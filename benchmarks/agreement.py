"""The checks that two builders agree, or that one agrees with the definition."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_mask

import attnmask as am
from attnmask.tiles.tilemap import TileMap
from benchmarks.builders import Call

_KINDS = ("kv", "full_kv", "q", "full_q")


def assert_equal_lists(found: BlockMask, expected: BlockMask) -> None:
    """AssertionError unless both list the same tiles in every row, partial and full apart, both ways."""
    for kind in _KINDS:
        ours, theirs = _listed(found, kind), _listed(expected, kind)
        if ours.shape != theirs.shape or not np.array_equal(ours, theirs):
            raise AssertionError(f"the {kind} lists of the two block masks differ")


def _listed(made: BlockMask, kind: str) -> NDArray[np.bool_]:
    """bool [B, H, rows, columns]: which tiles the lists of one kind name."""
    counts = getattr(made, f"{kind}_num_blocks").cpu().numpy()
    indices = getattr(made, f"{kind}_indices").cpu().numpy()
    live = np.arange(indices.shape[-1]) < counts[..., None]
    listed = np.zeros(indices.shape, bool)
    batch, heads, rows, _ = np.nonzero(live)
    listed[batch, heads, rows, indices[live]] = True
    if np.count_nonzero(listed) != counts.sum():
        raise AssertionError(f"a row of the {kind} lists names a tile twice")
    return listed


def assert_equal_functions(found: BlockMask, call: Call) -> None:
    """AssertionError unless the function of the block mask says what the given one says, for every pair."""
    sizes = call.batch, call.heads, call.q_len, call.kv_len
    ours, theirs = (create_mask(mod, *sizes, device=call.device) for mod in (found.mask_mod, call.mask_mod))
    if not bool((ours == theirs).all()):
        raise AssertionError("mask_mod of the block mask differs from the function that it was built from")


def assert_equal_rows(found: BlockMask, call: Call, rows: Sequence[int]) -> None:
    """AssertionError unless the given rows of tiles are what the function says, pair by pair.

    For lengths at which torch's builder cannot run.
    """
    q_block, kv_block = found.BLOCK_SIZE
    partial, full = _listed(found, "kv"), _listed(found, "full_kv")
    for row in rows:
        first = row * q_block

        def from_row(b: Tensor, h: Tensor, q: Tensor, k: Tensor, first: int = first) -> Tensor:
            return call.mask_mod(b, h, q + first, k)

        queries = min(q_block, call.q_len - first)
        values = create_mask(from_row, call.batch, call.heads, queries, call.kv_len, device=call.device)
        ragged = ((0, 0), (0, 0), (0, q_block - queries), (0, -call.kv_len % kv_block))
        tiles = np.pad(values.cpu().numpy(), ragged).reshape(*values.shape[:2], q_block, -1, kv_block)
        some, every = tiles.any(axis=(2, 4)), tiles.all(axis=(2, 4))
        if not (np.array_equal(partial[:, :, row], some & ~every) and np.array_equal(full[:, :, row], every)):
            raise AssertionError(f"row {row} of the tiles differs from the function")


def assert_equal_definition(mask: am.Mask, tiles: TileMap, rows: Sequence[int]) -> None:
    """AssertionError unless the given rows of tiles are what the definition says, pair by pair.

    For lengths at which torch's builder cannot run. Takes square tiles that divide the length.
    """
    block, cols, length = tiles.block[0], tiles.cols, tiles.kv_len
    for row in rows:
        some, every = np.zeros(cols, bool), np.ones(cols, bool)
        step = max(1, (1 << 24) // length)  # queries at once: some 100 MB of intermediate results
        for first in range(row * block, (row + 1) * block, step):
            queries = min(step, (row + 1) * block - first)
            values = mask.dense(queries, length, q_offset=first).reshape(queries, cols, block)
            some |= values.any(axis=(0, 2))
            every &= values.all(axis=(0, 2))
        partial, full = np.flatnonzero(some & ~every), np.flatnonzero(every)
        if not (
            np.array_equal(tiles.partial.row(row), partial) and np.array_equal(tiles.full.row(row), full)
        ):
            raise AssertionError(f"row {row} of the tiles of {mask} at {length} differs from the definition")
