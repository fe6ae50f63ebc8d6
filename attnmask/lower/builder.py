"""create_block_mask: torch's builder, for the functions that people have, at a cost that follows the boundary."""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import torch
from torch.nn.attention import flex_attention as flex
from torch.nn.attention.flex_attention import BlockMask

from attnmask.errors import LiftError, MaskError, UndecidedError
from attnmask.ir.domain import Domain, length
from attnmask.ir.lift import Lifted
from attnmask.ir.nodes import Predicate
from attnmask.ir.tables import Origins
from attnmask.lower.block_mask import Lists, block_lists
from attnmask.lower.cache import ByteCache
from attnmask.lower.device import device_block_mask
from attnmask.lower.functions import untraced
from attnmask.lower.lifting import Tables, bound, lifted
from attnmask.lower.prepare import torch_device
from attnmask.lower.sampled import compare_once, verify
from attnmask.tiles.build import Block, block_pair, tiles
from attnmask.tiles.tilemap import TileMap

MaskMod = Callable[..., Any]
# torch's own, whatever stands in its place later.
TORCH_BUILDER = flex.create_block_mask
_TORCH_KEYWORDS = frozenset(inspect.signature(TORCH_BUILDER).parameters)
# Of keywords that older torch does not know.
_DEFAULTS = {"separate_full_blocks": True, "compute_dq_write_order": False, "dq_kv_order": True}
_MOST_BYTES = 1 << 28


@dataclass(frozen=True, slots=True)
class Build:
    """What determines the tiles; equal builds share them."""

    predicate: Predicate
    tables: Tables
    domain: Domain
    block: tuple[int, int]
    origins: Origins = field(compare=False, repr=False)


def _built(build: Build) -> TileMap:
    return tiles(build.predicate, build.domain, dict(build.tables), build.origins, build.block)


built = ByteCache(_built, lambda tile_map: tile_map.nbytes, _MOST_BYTES)


def create_block_mask(
    mask_mod: MaskMod,
    B: int | None,
    H: int | None,
    Q_LEN: int,
    KV_LEN: int,
    device: torch.device | str | None = None,
    BLOCK_SIZE: Block = 128,
    _compile: bool = False,
    separate_full_blocks: bool = True,
    compute_dq_write_order: bool = False,
    dq_kv_order: bool = True,
    *,
    exact: bool | None = None,
    fallback: bool = True,
    check: bool = False,
    **torch_options: Any,
) -> BlockMask:
    """The BlockMask that torch's `create_block_mask` gives, without evaluating the function on every pair.

    The function is lifted into the IR (see `lift`) in each call: tensors that it reads may change between
    calls. One that is new is also asked, under torch's vmap, about a few positions, to compare. Tiles are kept
    for equal calls; the lists are each result's own.

    Args:
        mask_mod: (b, h, q, k) -> bool, 0-d integer tensors to a 0-d boolean one. It is kept on the result.
        B, H: batch rows and query heads of the result; None stands for 1.
        Q_LEN, KV_LEN: number of queries and of keys.
        device: of the result; torch's current accelerator, else the CPU.
        BLOCK_SIZE: tile size, one number or (query, key).
        _compile: for torch's builder, where a function falls back on it; here is nothing to compile.
        separate_full_blocks: list full tiles apart, so that kernels skip `mask_mod` on them.
        compute_dq_write_order, dq_kv_order: as torch's, where the installed torch has them.
        exact: True gives torch's lists exactly, and waits for the device where tables lie on one. False builds
            on the device without waiting: a tile that bounds cannot settle is listed as partial, which is
            correct and may be slower to attend. None is True for tables on the CPU, and False otherwise.
        fallback: build with torch, after a warning, what cannot be lifted; False raises LiftError instead.
        check: compare the lifted mask with the function on sampled positions, and the function with itself.
        torch_options: further keywords of the installed torch's builder.

    Raises:
        MaskError: when lengths, block sizes, devices or tables do not fit; with a place in the function where
            one is known.
    """
    # torch.compile(create_block_mask) would look inside, were this function itself kept out of graphs.
    return _create(
        mask_mod,
        B,
        H,
        Q_LEN,
        KV_LEN,
        device,
        BLOCK_SIZE,
        _How(exact, fallback, check),
        {
            "separate_full_blocks": separate_full_blocks,
            "compute_dq_write_order": compute_dq_write_order,
            "dq_kv_order": dq_kv_order,
            **torch_options,
        },
        _compile,
    )


@dataclass(frozen=True, slots=True)
class _How:
    """What attnmask's builder is asked for besides what torch's is."""

    exact: bool | None
    fallback: bool
    check: bool


@untraced
def _create(
    mask_mod: MaskMod,
    B: int | None,
    H: int | None,
    Q_LEN: int,
    KV_LEN: int,
    device: torch.device | str | None,
    BLOCK_SIZE: Block,
    how: _How,
    torch_options: dict[str, Any],
    compiled: bool,
) -> BlockMask:
    for name, value in torch_options.items():
        if name not in _TORCH_KEYWORDS and value is not _DEFAULTS.get(name):
            raise MaskError(
                f"create_block_mask has no keyword '{name}', and neither has the installed torch's"
            )
    batch, heads = (1 if size is None else length(name, size) for name, size in (("B", B), ("H", H)))
    domain = Domain(length("Q_LEN", Q_LEN), length("KV_LEN", KV_LEN), 0, batch, heads)
    where = torch_device(torch.accelerator.current_accelerator() or "cpu" if device is None else device)
    block = block_pair(BLOCK_SIZE)
    if where.type == "meta":
        raise MaskError("a block mask is asked for on the meta device, which holds no values")
    if how.exact not in (None, True, False):
        raise MaskError(f"exact must be True, False or None, not {how.exact!r}")
    try:
        mask = _lifted_mask(mask_mod, domain, block, where, torch_options["separate_full_blocks"], how)
    except (LiftError, UndecidedError) as error:
        if not how.fallback:
            raise
        warnings.warn(f"torch builds this block mask, from every pair: {error}", stacklevel=_callers_level())
        known = {name: value for name, value in torch_options.items() if name in _TORCH_KEYWORDS}
        build = torch.compile(TORCH_BUILDER) if compiled else TORCH_BUILDER
        return build(mask_mod, B, H, Q_LEN, KV_LEN, where, BLOCK_SIZE, **known)
    return _with_write_order(mask, **torch_options)


def _lifted_mask(
    mask_mod: MaskMod,
    domain: Domain,
    block: tuple[int, int],
    device: torch.device,
    separate_full_blocks: bool,
    how: _How,
) -> BlockMask:
    """The block mask from the function's meaning: exactly on the host, or on the device without waiting for it."""
    found = lifted(mask_mod, domain, device, tabulate=True)
    _require_device(found, device)
    if how.check:
        verify(mask_mod, found, domain, device)
    away = _away(found)
    if how.exact is False or (how.exact is None and away):
        mask = device_block_mask(
            found.predicate,
            _on(device, found),
            domain,
            block,
            device,
            mask_mod,
            batch=domain.batch,
            heads=domain.heads,
            separate_full_blocks=separate_full_blocks,
        )
    else:
        mask = _exact_lists(found, domain, block, device, separate_full_blocks).block_mask(mask_mod)
    if not away:  # the function's answers would have to be waited for
        compare_once(mask_mod, found, domain, device)
    return mask


def _callers_level() -> int:
    """The stack level, for a warning of the function that calls this, of the first frame that is not attnmask's."""
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and _is_ours(frame):
        level, frame = level + 1, frame.f_back
    return level


def _is_ours(frame: FrameType) -> bool:
    module = str(frame.f_globals.get("__name__"))
    return module.startswith(("attnmask.", "torch._dynamo"))


def _exact_lists(
    found: Lifted,
    domain: Domain,
    block: tuple[int, int],
    device: torch.device,
    separate_full_blocks: bool,
) -> Lists:
    root, tables = bound(found)
    tile_map = built(Build(root, tables, domain, block, found.origins))
    # Tensors of inference mode could serve no other mode.
    with torch.inference_mode(False):
        shape = domain.batch, domain.heads
        return block_lists(tile_map, device, shape, separate_full_blocks=separate_full_blocks)


def _on(device: torch.device, found: Lifted) -> dict[str, torch.Tensor]:
    """The tensors that the function reads; what lifting itself added is brought to the device."""
    return {
        name: tensor if isinstance(tensor, torch.Tensor) else torch.from_numpy(tensor).to(device)
        for name, tensor in found.tensors.items()
    }


def _away(found: Lifted) -> bool:
    """Whether some table lies on a device that the host would have to wait for."""
    tensors = [tensor for tensor in found.tensors.values() if isinstance(tensor, torch.Tensor)]
    return any(tensor.device.type != "cpu" for tensor in tensors)


def _require_device(found: Lifted, device: torch.device) -> None:
    for name, tensor in found.tensors.items():
        # Single numbers on the CPU mix with tensors of any device.
        if isinstance(tensor, torch.Tensor) and tensor.ndim and tensor.device != device:
            raise MaskError(
                f"the tensor '{name}' is on {tensor.device} and the block mask is asked for on {device}",
                hint=f"pass device={str(tensor.device)!r}, or move the tensor",
            )


def _with_write_order(
    mask: BlockMask, compute_dq_write_order: bool, dq_kv_order: bool, **_: Any
) -> BlockMask:
    """What newer torch adds for the deterministic backward pass of its FLASH backend."""
    if not isinstance(dq_kv_order, bool):
        raise MaskError(f"dq_kv_order must be True or False, not {dq_kv_order!r}")
    if compute_dq_write_order:
        partial, full = flex._compute_dq_write_order_from_block_mask(mask, dq_kv_order=dq_kv_order)
        mask.dq_write_order, mask.dq_write_order_full = partial, full
        mask.dq_kv_order, mask.dq_kv_order_spt = None, dq_kv_order
    return mask
