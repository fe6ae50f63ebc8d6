"""TileMap to torch's BlockMask, with its own transpose."""

from __future__ import annotations

import torch
from torch.nn.attention.flex_attention import BlockMask

from attnmask.lower.functions import MaskMod
from attnmask.lower.layout import Rows, layout
from attnmask.tiles.tilemap import TileMap


def block_mask(tiles: TileMap, mask_mod: MaskMod, device: torch.device) -> BlockMask:
    """The BlockMask of a tile map; `mask_mod` must say the same as the tiles.

    Its lists have the shape that torch gives them, [B, H, rows, columns] and int32, ascending, in less memory
    (see `layout`). It is made on its device: a copy to another one expands the lists to full width.
    """
    place = layout(tiles)
    kv_num, kv_indices = _on(device, place.kv)
    full_kv_num, full_kv_indices = _on(device, place.full_kv)
    q_num, q_indices = _on(device, place.q)
    full_q_num, full_q_indices = _on(device, place.full_q)
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


def _on(device: torch.device, rows: Rows) -> tuple[torch.Tensor, torch.Tensor]:
    batch, heads, count = rows.shape
    entries = torch.from_numpy(rows.entries()).to(device)
    strides = (heads * count * rows.pitch, count * rows.pitch, rows.pitch, 1)
    view = entries.as_strided((batch, heads, count, rows.width), strides)
    return torch.from_numpy(rows.counts()).to(device), view
