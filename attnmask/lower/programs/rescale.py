"""Attention of diffusion steps: sparse steps between full ones, corrected by what a full step measured."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Unpack

import torch

from attnmask.errors import MaskError
from attnmask.ir.predicate import TRUE
from attnmask.lower.choose.choices import Choices
from attnmask.lower.prepare import Lowerable
from attnmask.lower.programs.attend import Options, attend
from attnmask.lower.programs.written import scored_like

Tensor = torch.Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Rescaled:
    """What a full step hands to the sparse steps after it.

    `rho` [B, Hq, Q], float32 or wider: the share of all keys' softmax that the mask's keys hold. `residual`
    [B, Hq, Q, Dv]: what the other keys add to the output.
    """

    rho: Tensor
    residual: Tensor


def rescale(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Lowerable,
    state: Rescaled | None = None,
    *,
    full: Lowerable | None = None,
    increment: float = 0.04,
    choices: Choices | None = None,
    **options: Unpack[Options],
) -> tuple[Tensor, Rescaled]:
    """Re-ttention: one step of a diffusion model, full without `state`, sparse with it.

        out, state = rescale(q, k, v, mask)  # at step 0, 5, 10, …
        out, state = rescale(q, k, v, mask, state)  # at each step between

    A full step computes attention under `full` and under `mask`, and keeps rho = Σ exp(s) over the keys of `mask`
    / Σ exp(s) over those of `full`, and residual = out_full - rho · out_mask. A sparse step computes
    rho · out_mask + residual, and hands on rho + increment.

    Args:
        q: [B, Hq, Q, D]. k: [B, Hkv, K, D]. v: [B, Hkv, K, Dv].
        mask: what each query sees in a sparse step; part of `full`.
        state: from the step before, for the same shapes; None for a full step.
        full: what each query sees in a full step: every key, with the scores of `mask`, unless given.
        increment: what rho grows by in each sparse step. Nothing keeps rho below 1.
        choices: where `mask` chooses from q and k: what it chose (`mask.choose`); chosen here unless given.
        options: scale, block, q_offset and backend, as in `attention`.

    Returns:
        out [B, Hq, Q, Dv], and the state for the next step. A query that sees no key of `mask` has rho 0.

    Raises:
        MaskError: when the state is that of other shapes, and where `attention` raises it.

    Chen et al. 2025, arXiv:2505.22918.
    """
    if state is not None and not isinstance(state, Rescaled):
        raise MaskError(f"the state is what the step before gave, not {type(state).__name__}")
    if not isinstance(increment, int | float) or isinstance(increment, bool):
        raise MaskError(f"increment must be a number, not {increment!r}")
    masked, lse = attend(q, k, v, mask, choices, **options)
    if state is None:
        every = scored_like(mask, TRUE) if full is None else full
        return _measured(attend(q, k, v, every, **options), masked, lse)
    if state.residual.shape != masked.shape or state.rho.shape != lse.shape:
        raise MaskError(
            f"the state is for outputs {tuple(state.residual.shape)}, and this step has {tuple(masked.shape)}",
            hint="make a full step first: rescale(q, k, v, mask)",
        )
    out = state.rho[..., None] * masked.to(state.rho.dtype) + state.residual.to(state.rho.dtype)
    return out.to(masked.dtype), Rescaled(state.rho + increment, state.residual)


def _measured(whole: tuple[Tensor, Tensor], masked: Tensor, lse: Tensor) -> tuple[Tensor, Rescaled]:
    out, all_lse = whole
    nothing = lse == -torch.inf
    # Both are -inf where a query has no key at all, and their difference would be NaN.
    share = lse.masked_fill(nothing, 0.0) - all_lse.masked_fill(nothing, 0.0)
    rho = share.exp().masked_fill(nothing, 0.0)
    residual = out.to(rho.dtype) - rho[..., None] * masked.to(rho.dtype)
    return out, Rescaled(rho, residual.to(out.dtype))
