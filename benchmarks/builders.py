"""The ways to build a block mask that are compared."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.attention.flex_attention import BlockMask, create_block_mask

import attnmask as am
from attnmask.ir.domain import Domain
from attnmask.ir.lift import Lifted
from attnmask.lower.builder import built
from attnmask.lower.functions import MaskMod
from attnmask.lower.lifting import lifted
from attnmask.lower.prepare import prepare
from benchmarks.environment import environment
from benchmarks.masks import documents


@dataclass(frozen=True, slots=True)
class Call:
    """What torch's builder is asked for, and whatever takes its place."""

    mask_mod: MaskMod
    batch: int | None
    heads: int | None
    q_len: int
    kv_len: int
    block: int | tuple[int, int] = 128
    device: str = "cpu"

    def to(self, build: Callable[..., BlockMask], **options: bool) -> BlockMask:
        return build(
            self.mask_mod,
            self.batch,
            self.heads,
            self.q_len,
            self.kv_len,
            device=self.device,
            BLOCK_SIZE=self.block,
            **options,
        )


Builder = Callable[[Call], BlockMask]


def square(mask_mod: MaskMod, length: int, device: str = "cpu") -> Call:
    """For a function of one row and head, and as many queries as keys."""
    return Call(mask_mod, None, None, length, length, device=device)


def forget() -> None:
    """Lets go of every block mask that attnmask keeps, so that the next call builds one."""
    prepare.cache_clear()
    built.cache_clear()


def ours(mask: am.Mask, length: int, device: str = "cpu") -> BlockMask:
    """attnmask: tiles and BlockMask. Call `forget` first."""
    return mask.block_mask(length, device=device)


def lift(call: Call) -> Lifted:
    """The part of `drop_in` that runs the function: tracing, and tables of what has no integer form."""
    domain = Domain(call.q_len, call.kv_len, 0, call.batch or 1, call.heads or 1)
    return lifted(call.mask_mod, domain, tabulate=True)


def drop_in(call: Call) -> BlockMask:
    """attnmask in torch's place: the function is lifted, then built. Call `forget` first.

    LiftError where attnmask would let torch do the work.
    """
    return call.to(am.create_block_mask, fallback=False)


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


def torch_eager(call: Call) -> BlockMask:
    """torch's own builder, which evaluates the function on every pair."""
    return call.to(create_block_mask)


def eager_fits(length: int) -> bool:
    """Whether this machine has the memory for torch's eager builder, which takes some 11 bytes a pair."""
    total = environment()["memory_gib"]
    return not isinstance(total, float) or 11 * length**2 < 0.7 * total * 2**30


def torch_compiled() -> Builder:
    """torch's builder under torch.compile, with nothing left of earlier compilations.

    So each length is compiled for itself, which is fastest, and no limit of recompilations is met.
    """
    torch._dynamo.reset()
    compiled: Any = torch.compile(create_block_mask)
    return lambda call: call.to(compiled)
