"""Softmax attention under a mask that lies there as truth values: one row of tiles, or a few queries."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn.functional import scaled_dot_product_attention

Tensor = torch.Tensor


@dataclass(frozen=True, slots=True)
class Allowed:
    """Which query sees which key, made safe for softmax.

    `mask` is bool and broadcasts to [B, H, Q, K], None where all see all; a query without keys sees every key in
    it, which gives neither NaN nor a special case, and `empty` (bool [..., Q, 1], None without such queries)
    tells which those are.
    """

    mask: Tensor | None
    empty: Tensor | None


ALL = Allowed(None, None)


def allowed(mask: Tensor) -> Allowed:
    """`mask` as truth values [..., Q, K]. Waits for the device: asks whether some query sees no key."""
    sees = mask.any(dim=-1, keepdim=True)
    return Allowed(mask, None) if bool(sees.all()) else Allowed(mask | ~sees, ~sees)


def softmax_attention(q: Tensor, k: Tensor, v: Tensor, seen: Allowed, scale: float) -> Tensor:
    """q [B, H, Q, D], k [B, H, K, D], v [B, H, K, Dv] → [B, H, Q, Dv]; a query that sees no key gives 0."""
    out = scaled_dot_product_attention(q, k, v, attn_mask=seen.mask, scale=scale)
    return out if seen.empty is None else torch.where(seen.empty, 0.0, out)


def explicit_attention(
    q: Tensor, k: Tensor, v: Tensor, seen: Allowed, scale: float, modify: Callable[[Tensor], Tensor] | None
) -> tuple[Tensor, Tensor]:
    """The same and lse [B, H, Q] (-inf without keys), with `modify` on the scaled scores.

    Softmax in float32 (float64 for such inputs), as the kernels compute it.
    """
    wide = torch.promote_types(q.dtype, torch.float32)
    scores = q.to(wide) @ k.to(wide).transpose(-1, -2) * scale
    if modify is not None:
        scores = modify(scores).expand(scores.shape)
    if seen.mask is not None:
        scores = scores.masked_fill(~seen.mask, -torch.inf)
    if seen.empty is not None:
        scores = scores.masked_fill(seen.empty, -torch.inf)
    # A score of -inf is no key. A row of nothing else is computed as if it were even, and replaced.
    empty = (scores == -torch.inf).all(dim=-1, keepdim=True)
    scores = scores.masked_fill(empty, 0.0)
    lse = scores.logsumexp(dim=-1)
    out = ((scores - lse[..., None]).exp() @ v.to(wide)).to(q.dtype)
    return torch.where(empty, 0.0, out), torch.where(empty[..., 0], -torch.inf, lse)
