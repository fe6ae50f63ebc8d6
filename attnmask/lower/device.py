"""A BlockMask from tables that stay on their device: nothing is read back, so the host never waits.

Tiles are decided by bounds (`tiles.blockwise`). What these leave open is listed as partial, where `mask_mod`
decides: the attention is the same as with exact tiles, and some of the tiles cost more than they need to.
"""

from __future__ import annotations

import torch
from torch.nn.attention.flex_attention import BlockMask

from attnmask.errors import MaskError
from attnmask.ir.domain import Domain
from attnmask.ir.nodes import Predicate
from attnmask.ir.walk import table_names
from attnmask.lower.device_check import check_shapes, fits_narrow, fitted, shapes
from attnmask.lower.device_plan import BlockPlan, Tables, block_plan
from attnmask.lower.functions import MaskMod, untraced
from attnmask.tiles.blockwise import Tiling


@untraced
def device_block_mask(
    predicate: Predicate,
    tables: Tables,
    domain: Domain,
    block: tuple[int, int],
    device: torch.device | str,
    mask_mod: MaskMod,
    *,
    batch: int,
    heads: int,
    separate_full_blocks: bool = True,
) -> BlockMask:
    """The BlockMask of a mask at block level, computed on `device` without a synchronisation.

    Args:
        predicate: the mask; settings without a value are read from 0-d tables of their names.
        tables: its tables on `device`, of any integer type or bool; one with a dimension more than its use has
            indices is taken per batch row. 0-d ones may also be on the CPU.
        mask_mod: the same mask as a function of elements.
        batch, heads: the first dimensions of the result: as in `domain`, or 1 where the mask does not depend on
            them. Every plane has lists of its own.
        separate_full_blocks: False lists full tiles as partial ones.

    Raises:
        MaskError: when tables do not fit the mask, or positions lead past their ends. Values of tables are not
            checked: no integer of the mask, and no difference of compared ones, may overflow 64 bits.
    """
    where = torch.empty(0, device=device).device  # "cuda" becomes "cuda:0"
    known = {name: _placed(tables[name], where) for name in table_names(predicate) if name in tables}
    plan = planned(predicate, known, domain, block, where)
    for what, asked, count, varies in (
        ("batch rows", batch, domain.batch, plan.by_batch),
        ("heads", heads, domain.heads, plan.by_head),
    ):
        if varies and asked != count:
            raise MaskError(f"the mask is for {count} {what}, and the block mask is to have {asked}")
    offset = torch.full((1,), domain.q_offset, dtype=plan.dtype, device=where)
    return plan.lists(known, offset, domain, (batch, heads), separate_full_blocks).block_mask(mask_mod)


def _placed(table: torch.Tensor, device: torch.device) -> torch.Tensor:
    """A single number on the CPU as one on the device, as torch takes it; written there, for a copy would wait."""
    if table.ndim or table.device == device or table.device.type != "cpu":
        return table
    return torch.full((), table.item(), dtype=table.dtype, device=device)


def planned(
    predicate: Predicate, tables: Tables, domain: Domain, block: tuple[int, int], device: torch.device
) -> BlockPlan:
    """What to compute for a mask, told by the shapes and types of its tables. MaskError as `device_block_mask`."""
    known = shapes(tables, device)
    root = fitted(predicate, known)
    check_shapes(root, known, domain)
    rows, columns = -(-domain.q_len // block[0]), -(-domain.kv_len // block[1])
    padded = Domain(rows * block[0], columns * block[1], domain.q_offset, domain.batch, domain.heads)
    return block_plan(root, Tiling.of(domain, block), fits_narrow(root, padded))
