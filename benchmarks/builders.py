"""The ways to build a block mask that are compared, and the check that they agree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.attention.flex_attention import BlockMask, create_block_mask

import attnmask as am
from attnmask.lower.functions import MaskMod
from attnmask.lower.prepare import prepare
from attnmask.tiles.tilemap import TileMap
from benchmarks.environment import environment
from benchmarks.masks import documents

Builder = Callable[[MaskMod, int], BlockMask]
_KINDS = ("kv", "full_kv", "q", "full_q")


def forget() -> None:
    """Lets go of every block mask that attnmask keeps, so that the next call builds one."""
    prepare.cache_clear()


def ours(mask: am.Mask, length: int, device: str = "cpu") -> BlockMask:
    """attnmask: tiles and BlockMask. Call `forget` first."""
    return mask.block_mask(length, device=device)


def handwritten(case: str, length: int) -> MaskMod:
    """The function as a user of torch writes it. For torch's builder it is cheaper than the one that attnmask
    generates, whose two-sided window takes one more array of all pairs."""
    if case == "causal":
        return lambda b, h, q, k: q >= k
    if case == "window_sink":
        return lambda b, h, q, k: (q >= k) & ((q - k < 512) | (k < 4))
    doc = torch.from_numpy(documents(length))
    if case == "documents":
        return lambda b, h, q, k: doc[q] == doc[k]
    if case == "causal_documents":
        return lambda b, h, q, k: (q >= k) & (doc[q] == doc[k])
    raise KeyError(case)


def torch_eager(mask_mod: MaskMod, length: int, device: str = "cpu") -> BlockMask:
    """torch's own builder, which evaluates the function on every pair."""
    return create_block_mask(mask_mod, None, None, length, length, device=device)


def eager_fits(length: int) -> bool:
    """Whether this machine has the memory for torch's eager builder, which takes some 11 bytes a pair."""
    total = environment()["memory_gib"]
    return not isinstance(total, float) or 11 * length**2 < 0.7 * total * 2**30


def torch_compiled(device: str = "cpu") -> Builder:
    """torch's builder under torch.compile, with nothing left of earlier compilations.

    So each length is compiled for itself, which is fastest, and no limit of recompilations is met.
    """
    torch._dynamo.reset()
    compiled: Any = torch.compile(create_block_mask)

    def build(mask_mod: MaskMod, length: int) -> BlockMask:
        made: BlockMask = compiled(mask_mod, None, None, length, length, device=device)
        return made

    return build


def assert_equal_lists(found: BlockMask, expected: BlockMask) -> None:
    """AssertionError unless both list the same tiles in every row, partial and full apart, both ways."""
    for kind in _KINDS:
        ours_, theirs = _listed(found, kind), _listed(expected, kind)
        if ours_.shape != theirs.shape or not np.array_equal(ours_, theirs):
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
