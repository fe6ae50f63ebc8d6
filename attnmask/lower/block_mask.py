"""TileMap to the lists of torch's BlockMask, with their own transpose."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.attention.flex_attention import BlockMask

from attnmask.lower.functions import MaskMod
from attnmask.lower.layout import Rows, layout
from attnmask.tiles.tilemap import TileMap

Pair = tuple[torch.Tensor, torch.Tensor]


class NarrowBlockMask(BlockMask):
    """A BlockMask whose lists lie as close together as they are long.

    What reads lists by their counts, as kernels do, sees no difference; `_adjust` reads them to their full width.
    """

    def _adjust(self, new_q_len: int, new_kv_len: int) -> Any:
        return self._wide()._adjust(new_q_len, new_kv_len)

    def _wide(self) -> BlockMask:
        """The same with lists of full width, in which the other columns follow, as in torch's."""
        full = self.full_kv_num_blocks, self.full_kv_indices
        full_kv = None if full[0] is None or full[1] is None else _widened(full[0], full[1])
        return BlockMask.from_kv_blocks(
            self.kv_num_blocks,
            _widened(self.kv_num_blocks, self.kv_indices),
            full[0],
            full_kv,
            BLOCK_SIZE=self.BLOCK_SIZE,
            mask_mod=self.mask_mod,
            seq_lengths=self.seq_lengths,
        )


def _widened(counts: torch.Tensor, entries: torch.Tensor) -> torch.Tensor:
    """int32 [B, H, rows, width]: the columns of each list, ascending, then all others."""
    width = entries.shape[-1]
    listed = torch.zeros((*counts.shape, width), dtype=torch.int8, device=counts.device)
    live = torch.arange(width, device=counts.device) < counts[..., None]
    places = torch.where(live, entries, entries[..., :1]).long()
    listed.scatter_reduce_(-1, places, live.to(torch.int8), "amax")
    return torch.argsort(listed, dim=-1, descending=True, stable=True).to(torch.int32)


@dataclass(frozen=True, slots=True, eq=False)
class Lists:
    """What a BlockMask holds besides its function: counts int32 [B, H, rows] and entries int32 [B, H, rows, width].

    The entries have the shape that torch gives them, ascending, in less memory (see `layout`). They are made on
    their device: a copy to another one expands them to full width. The full lists are None where full tiles are
    not told apart.
    """

    seq_lengths: tuple[int, int]
    block: tuple[int, int]
    kv: Pair
    full_kv: Pair | None
    q: Pair
    full_q: Pair | None

    def block_mask(self, mask_mod: MaskMod) -> BlockMask:
        """The BlockMask with a function that says the same as the lists."""
        full_kv, full_q = self.full_kv or (None, None), self.full_q or (None, None)
        return NarrowBlockMask(
            seq_lengths=self.seq_lengths,
            kv_num_blocks=self.kv[0],
            kv_indices=self.kv[1],
            full_kv_num_blocks=full_kv[0],
            full_kv_indices=full_kv[1],
            q_num_blocks=self.q[0],
            q_indices=self.q[1],
            full_q_num_blocks=full_q[0],
            full_q_indices=full_q[1],
            BLOCK_SIZE=self.block,
            mask_mod=mask_mod,
        )

    @property
    def tensors(self) -> tuple[torch.Tensor, ...]:
        return tuple(tensor for pair in (self.kv, self.full_kv, self.q, self.full_q) for tensor in pair or ())

    @property
    def nbytes(self) -> int:
        """Bytes of memory, which is less than the shapes suggest."""
        return sum(tensor.untyped_storage().nbytes() for tensor in self.tensors)


def block_lists(
    tiles: TileMap,
    device: torch.device,
    shape: tuple[int, int] | None = None,
    *,
    separate_full_blocks: bool = True,
) -> Lists:
    """The lists of a tile map, for `shape` (batch rows, heads) or as many as have tiles of their own."""
    place = layout(tiles, shape, separate_full_blocks=separate_full_blocks)
    kv, full_kv, q, full_q = (
        None if rows is None else _on(device, rows)
        for rows in (place.kv, place.full_kv, place.q, place.full_q)
    )
    assert kv is not None and q is not None, "only full lists may be left out"
    return Lists((tiles.q_len, tiles.kv_len), tiles.block, kv, full_kv, q, full_q)


def _on(device: torch.device, rows: Rows) -> Pair:
    batch, heads, count = rows.shape
    entries = torch.from_numpy(rows.entries()).to(device)
    strides = (heads * count * rows.pitch, count * rows.pitch, rows.pitch, 1)
    view = entries.as_strided((batch, heads, count, rows.width), strides)
    return torch.from_numpy(rows.counts()).to(device), view
