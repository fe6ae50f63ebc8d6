"""Attention the slow way: a softmax in double precision under the dense mask."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from attnmask.ir.evaluate import evaluate
from attnmask.mask import Mask

Tensor = torch.Tensor
Scores = Callable[[Tensor], Tensor]


def tensors(
    shape: tuple[int, int, int, int], kv_len: int | None = None, kv_heads: int | None = None, **options: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """q, k and v of shape [batch, heads, length, head_dim], the same in every run."""
    generator = torch.Generator().manual_seed(7)
    batch, heads, q_len, dim = shape
    other = (batch, kv_heads or heads, kv_len or q_len, dim)
    q, k, v = (torch.randn(size, generator=generator) for size in (shape, other, other))
    return tuple(x.requires_grad_(options.get("gradients", False)) for x in (q, k, v))  # type: ignore[return-value]  # three


def dense_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Mask,
    *,
    scale: float | None = None,
    q_offset: int = 0,
    scores: Scores | None = None,
) -> tuple[Tensor, Tensor]:
    """out [B, H, Q, D] and lse [B, H, Q] in float64; 0 and -inf where a query sees no key.

    `scores` stands for the mask's score modification; without it the definition serves, which has no gradient.
    """
    groups = q.shape[1] // k.shape[1]
    q, k, v = q.double(), *(x.double().repeat_interleave(groups, dim=1) for x in (k, v))
    found = q @ k.transpose(-1, -2) * (q.shape[-1] ** -0.5 if scale is None else scale)
    options = {"batch": q.shape[0], "heads": q.shape[1], "q_offset": q_offset}
    allowed = torch.from_numpy(mask.dense(q.shape[2], k.shape[2], **options))
    if scores is not None:
        found = scores(found)
    elif mask.score is not None:
        found = torch.from_numpy(defined_scores(mask, found, q_offset))
    found = found.masked_fill(~allowed, -torch.inf)
    empty = ~allowed.any(dim=-1, keepdim=True)
    lse = found.masked_fill(empty, 0.0).logsumexp(dim=-1)
    out = torch.softmax(found.masked_fill(empty, 0.0), dim=-1).masked_fill(empty, 0.0) @ v
    return out, lse.masked_fill(empty[..., 0], -torch.inf)


def defined_scores(
    mask: Mask, scores: Tensor, q_offset: int = 0
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Scores [B, H, Q, K] as the mask modifies them, by the definition."""
    assert mask.score is not None
    batch, heads, q_len, kv_len = scores.shape
    domain = mask.domain(q_len, kv_len, batch=batch, heads=heads, q_offset=q_offset)
    arrays = {name: data.array for name, data in mask.tables}
    found = evaluate(mask.score, domain.arrays(), arrays, scores.detach().numpy())
    return np.broadcast_to(found, scores.shape).copy()
