"""Attention the slow way, without attnmask: sets of pairs by plain loops, and a dense softmax in double precision."""

from __future__ import annotations

from collections.abc import Callable

import torch

Tensor = torch.Tensor


def random(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64, grad: bool = False) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_(grad)


def pairs(q_len: int, kv_len: int, sees: Callable[[int, int], bool]) -> Tensor:
    """bool [Q, K]."""
    return torch.tensor([[bool(sees(i, j)) for j in range(kv_len)] for i in range(q_len)])


def softmax_attention(
    q: Tensor, k: Tensor, v: Tensor, seen: Tensor, *, bias: Tensor | None = None, scale: float | None = None
) -> tuple[Tensor, Tensor]:
    """out and lse in float64; `bias` is added to the scaled scores. Rows without keys give 0 and -inf."""
    group = q.shape[1] // k.shape[1]
    q = q.double()
    k, v = (x.double().repeat_interleave(group, dim=1) for x in (k, v))
    scores = torch.einsum("bhid,bhjd->bhij", q, k) * (q.shape[-1] ** -0.5 if scale is None else scale)
    if bias is not None:
        scores = scores + bias
    weights = torch.where(seen, scores, -1e300).exp() * seen
    total = weights.sum(-1)
    out = torch.einsum("bhij,bhjd->bhid", weights, v) / total.clamp(min=1e-300)[..., None]
    return out, total.log()


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-9) -> None:
    torch.testing.assert_close(found.double(), expected.double(), rtol=tolerance, atol=tolerance)
