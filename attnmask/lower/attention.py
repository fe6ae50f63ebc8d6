"""attention(q, k, v, mask): picks the path, and gives the same numbers on each."""

from __future__ import annotations

import inspect
import math
import os
import shutil
import types
from functools import lru_cache
from typing import Any, Literal, get_args, overload

import numpy as np
import torch
from torch.nn.attention import flex_attention as flex

from attnmask.errors import MaskError, did_you_mean
from attnmask.ir.choices import choices_of
from attnmask.lower.choose.choices import Choices, choose
from attnmask.lower.choose.lowered import Lowered, call_of, lowered
from attnmask.lower.functions import text_id, untraced
from attnmask.lower.prepare import InKernel, Lowerable, Prepared, prepared_call
from attnmask.lower.tiled import tiled_attention
from attnmask.tiles.build import Block

Backend = Literal["flex", "tiled"]
Tensor = torch.Tensor

# On the CPU the first compilation takes seconds; up to this many queries the tiled path is done sooner.
_SHORT = 8192
_FLEX_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@overload
def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Lowerable,
    *,
    scale: float | None = ...,
    block: Block = ...,
    enable_gqa: bool = ...,
    return_lse: Literal[False] = ...,
    q_offset: int = ...,
    backend: Backend | None = ...,
    choices: Choices | None = ...,
) -> Tensor: ...
@overload
def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Lowerable,
    *,
    scale: float | None = ...,
    block: Block = ...,
    enable_gqa: bool = ...,
    return_lse: bool,
    q_offset: int = ...,
    backend: Backend | None = ...,
    choices: Choices | None = ...,
) -> Tensor | tuple[Tensor, Tensor]: ...
def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Lowerable,
    *,
    scale: float | None = None,
    block: Block = 128,
    enable_gqa: bool = False,
    return_lse: bool = False,
    q_offset: int = 0,
    backend: Backend | None = None,
    choices: Choices | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """Attention under a mask.

    FlexAttention's kernel options BLOCKS_ARE_CONTIGUOUS and ROWS_GUARANTEED_SAFE are set where they are proved
    for the tiles of the call; `Mask.report` tells which are. What is promised is part of a kernel, so that a
    mask has up to four of them.

    Args:
        q: [B, Hq, Q, D]. k: [B, Hkv, K, D]. v: [B, Hkv, K, Dv]. One device and one floating dtype.
        mask: what each query sees, and how scores are modified.
        scale: factor of the scores; 1 / sqrt(D) unless given.
        block: tile size, one number or (query, key).
        enable_gqa: allows Hkv < Hq, a divisor of it; query head h then uses key head h // (Hq / Hkv).
        return_lse: also return the logarithm of the sum of exponentials of the scores.
        q_offset: position of the first query, as with a KV cache.
        backend: "flex" (compiled FlexAttention) or "tiled" (plain torch over the live tiles). Unless given:
            flex on accelerators; on the CPU flex for long sequences without gradients, else tiled.
        choices: for a mask that chooses from q and k: what it chose (`mask.choose`); made here unless given.

    Returns:
        out [B, Hq, Q, Dv], or (out, lse [B, Hq, Q]), lse in float32 (float64 for such q). A query that sees
        no key gives 0, and lse -inf.

    Raises:
        MaskError: when shapes disagree, the mask does not fit them, or the backend cannot do what is asked.
    """
    if not hasattr(mask, "predicate"):
        raise MaskError(
            f"attention needs a mask, not {type(mask).__name__}",
            hint="make one: compile('causal & window(512)')",
        )
    batch, heads = _validate(q, k, v, enable_gqa)
    if choices is not None or _chooses(mask):
        return _attend_chosen(q, k, v, mask, choices, scale, block, enable_gqa, return_lse, q_offset, backend)
    prepared = prepared_call(
        mask,
        q.shape[2],
        k.shape[2],
        batch=batch,
        heads=heads,
        block=block,
        device=q.device,
        q_offset=q_offset,
    )
    scale = factor_of_scores(q, scale)
    chosen = _backend(q, k, v, return_lse, backend)
    if chosen == "flex":
        return _flex(q, k, v, prepared, scale, enable_gqa, return_lse)
    out, lse = tiled_attention(
        q,
        k,
        v,
        prepared.tiles,
        prepared.mask_mod,
        prepared.score_mod,
        scale,
        return_lse=return_lse,
    )
    return out if lse is None else (out, lse)


def _attend_chosen(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Lowerable,
    choices: Choices | None,
    scale: float | None,
    block: Block,
    enable_gqa: bool,
    return_lse: bool,
    q_offset: int,
    backend: Backend | None,
) -> Tensor | tuple[Tensor, Tensor]:
    """Attention under a mask that chooses from q and k, whose tiles are known on the device alone."""
    scale = factor_of_scores(q, scale)
    ready = _chosen(mask, q, k, choices, block, q_offset)
    if _backend(q, k, v, return_lse, backend) == "flex":
        kernel = _kernel(ready.mask_text, ready.score_text, ())
        result: Tensor | tuple[Tensor, Tensor] = kernel(
            q, k, v, ready.score_mod, ready.block_mask(), scale, enable_gqa, {}, return_lse
        )
        return result
    out, lse = tiled_attention(
        q, k, v, ready.tiles(), ready.mask_mod, ready.score_mod, scale, return_lse=return_lse
    )
    return out if lse is None else (out, lse)


@untraced
def _chooses(mask: Lowerable) -> bool:
    return bool(choices_of(mask.predicate))


@untraced
def _chosen(
    mask: Lowerable, q: Tensor, k: Tensor, choices: Choices | None, block: Block, q_offset: int
) -> Lowered:
    if choices is None:
        choices = choose(mask, q, k, {}, q_offset=q_offset, check=None)
    domain = call_of(mask, q.shape[2], k.shape[2], q.shape[0], q.shape[1], q_offset, choices)
    return lowered(mask, domain, block, choices)


def _validate(q: Tensor, k: Tensor, v: Tensor, enable_gqa: bool) -> tuple[int, int]:
    """Batch and query heads; MaskError when the tensors do not go together."""
    for name, tensor in (("q", q), ("k", k), ("v", v)):
        if not isinstance(tensor, Tensor):
            raise MaskError(f"{name} must be a torch tensor, not {type(tensor).__name__}")
        if tensor.dim() != 4:
            raise MaskError(
                f"{name} must have 4 dimensions [batch, heads, length, head_dim], and has shape {tuple(tensor.shape)}"
            )
        if tensor.device != q.device or tensor.dtype != q.dtype:
            raise MaskError(
                f"{name} is {tensor.dtype} on {tensor.device}, and q is {q.dtype} on {q.device}",
                hint="q, k and v must share dtype and device",
            )
    if not q.dtype.is_floating_point:
        raise MaskError(f"attention needs a floating dtype, not {q.dtype}")
    if k.shape[:3] != v.shape[:3]:
        raise MaskError(f"k {tuple(k.shape)} and v {tuple(v.shape)} differ in batch, heads or length")
    if q.shape[0] != k.shape[0] or q.shape[3] != k.shape[3]:
        raise MaskError(f"q {tuple(q.shape)} and k {tuple(k.shape)} differ in batch or head dimension")
    if q.shape[1] != k.shape[1] and not enable_gqa:
        raise MaskError(f"q has {q.shape[1]} heads and k has {k.shape[1]}", hint="pass enable_gqa=True")
    if not k.shape[1] or q.shape[1] % k.shape[1]:
        raise MaskError(f"{q.shape[1]} query heads are not a multiple of {k.shape[1]} key heads")
    return q.shape[0], q.shape[1]


def factor_of_scores(q: Tensor, scale: float | None) -> float:
    """What scores are multiplied by. MaskError where it is no number, or no channel is there to score by."""
    if not q.shape[-1]:
        raise MaskError("q and k have a head dimension of 0, and nothing to score by")
    if scale is None:
        return 1 / math.sqrt(q.shape[-1])
    if isinstance(scale, bool) or not isinstance(scale, int | float | np.number | Tensor):
        raise MaskError(f"scale must be a number, not {scale!r}", hint="leave it out for 1 / sqrt(D)")
    return scale


def _backend(q: Tensor, k: Tensor, v: Tensor, return_lse: bool, asked: str | None) -> Backend:
    on_cpu = q.device.type == "cpu"
    gradients = torch.is_grad_enabled() and any(tensor.requires_grad for tensor in (q, k, v))
    if asked == "flex":
        if on_cpu and (gradients or return_lse):
            what = "gradients" if gradients else "return_lse"
            raise MaskError(f"compiled FlexAttention has no {what} on the CPU", hint='use backend="tiled"')
        if q.dtype not in _FLEX_DTYPES:
            raise MaskError(f"compiled FlexAttention does not take {q.dtype}", hint='use backend="tiled"')
        return "flex"
    if asked is not None and asked != "tiled":
        hint = did_you_mean(str(asked), get_args(Backend)) or "choose 'flex' or 'tiled'"
        raise MaskError(f"there is no backend {asked!r}", hint=hint)
    if asked == "tiled":
        return "tiled"
    if q.dtype not in _FLEX_DTYPES:
        return "tiled"
    if not on_cpu:
        return "flex"
    if gradients or return_lse or q.shape[2] <= _SHORT or not _compiles_on_cpu():
        return "tiled"
    return "flex"


@lru_cache(maxsize=1)
def _compiles_on_cpu() -> bool:
    """FlexAttention on the CPU needs a C++ compiler and AVX2."""
    compiler = os.environ.get("CXX") or shutil.which("g++") or shutil.which("clang++")
    return compiler is not None and "AVX" in torch.backends.cpu.get_cpu_capability()


def _flex(
    q: Tensor, k: Tensor, v: Tensor, prepared: Prepared, scale: float, enable_gqa: bool, return_lse: bool
) -> Tensor | tuple[Tensor, Tensor]:
    ours, promised = _in_kernel(prepared), _promised(prepared)
    kernel = _kernel(ours.mask_text, prepared.score_text, promised)
    options = dict.fromkeys(promised, True)
    result: Tensor | tuple[Tensor, Tensor] = kernel(
        q, k, v, prepared.score_mod, ours.block_mask, scale, enable_gqa, options, return_lse
    )
    return result


@untraced
def _in_kernel(prepared: Prepared) -> InKernel:
    return prepared.in_kernel()


@untraced
def _promised(prepared: Prepared) -> tuple[str, ...]:
    """The kernel options that hold for the tiles of the call."""
    return prepared.promises().options


@untraced
@lru_cache(maxsize=256)
def _kernel(mask_text: str, score_text: str | None, promised: tuple[str, ...]) -> Any:
    """FlexAttention compiled for one structure of mask, and for what is promised of its tiles.

    Each gets a code object of its own: dynamo counts recompilations a code object, and past its limit falls
    back to eager mode, which materialises all scores. Calls of which the same is promised share one, at any
    length.
    """
    name = f"attention_{text_id(mask_text + (score_text or '') + ' '.join(promised))}"
    code = _call.__code__.replace(co_name=name)
    return torch.compile(types.FunctionType(code, _call.__globals__, name))


_HAS_AUX = "return_aux" in inspect.signature(flex.flex_attention).parameters


def _call(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    score_mod: Any,
    block_mask: Any,
    scale: float,
    gqa: bool,
    options: Any,
    lse: bool,
) -> Any:
    given = (q, k, v, score_mod, block_mask, scale, gqa)
    if not lse:
        return flex.flex_attention(*given, kernel_options=options)
    if _HAS_AUX:
        out, found = flex.flex_attention(*given, kernel_options=options, return_aux=flex.AuxRequest(lse=True))
        return out, found.lse
    return flex.flex_attention(*given, kernel_options=options, return_lse=True)
