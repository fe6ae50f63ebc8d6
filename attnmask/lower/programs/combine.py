"""Outputs of several attention calls made into one: by their shares of one softmax, or by gates."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from attnmask.errors import MaskError
from attnmask.lower.programs.attend import require_tensors

Tensor = torch.Tensor


def merge(parts: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """Attention over a union of disjoint sets of keys, from attention over each: exact, one softmax over all.

    Args:
        parts: (out [B, H, Q, Dv], lse [B, H, Q]) of each set, lse being the logarithm of the sum of exponentials of
            the scores; -inf where a query has no key in the set, whose out is then not looked at.

    Returns:
        out [B, H, Q, Dv] in the dtype of the first out, and lse [B, H, Q] in float32 or wider. A query without
        any key gives 0 and -inf. Gradients reach every out and lse, and are 0 where there are no keys.

    Raises:
        MaskError: without parts, or when their shapes disagree.

    FlashAttention (Dao et al. 2022, arXiv:2205.14135) merges blocks of keys so. Sets that overlap count twice.
    """
    if not isinstance(parts, Sequence) or any(
        not isinstance(part, tuple) or len(part) != 2 for part in parts
    ):
        raise MaskError("parts are pairs of out and lse, as attention(…, return_lse=True) gives them")
    first, *_ = _same_shapes([out for out, _ in parts])
    for number, (_, lse) in enumerate(parts):
        if lse.shape != first.shape[:-1]:
            raise MaskError(
                f"lse {number} has shape {tuple(lse.shape)}, and out has shape {tuple(first.shape)}",
                hint="lse is out's shape without its last dimension",
            )
    wide = torch.promote_types(first.dtype, torch.float32)
    sizes = torch.stack([lse.to(torch.promote_types(lse.dtype, wide)) for _, lse in parts])
    top = sizes.detach().amax(dim=0)
    top = top.masked_fill(top == -torch.inf, 0.0)
    weights = (sizes - top).exp()
    total = weights.sum(dim=0)
    nothing = total == 0
    total = total.masked_fill(nothing, 1.0)
    shares = (weights / total)[..., None]
    # A part without keys may hold anything, NaN too, and 0 · NaN is NaN.
    outs = [torch.where(w == 0, 0.0, out.to(w.dtype)) for w, (out, _) in zip(shares, parts, strict=True)]
    merged = torch.stack([share * out for share, out in zip(shares, outs, strict=True)]).sum(dim=0)
    lse = (top + total.log()).masked_fill(nothing, -torch.inf)
    return merged.to(first.dtype), lse


def gated_sum(outs: Sequence[Tensor], gates: Sequence[Tensor | float]) -> Tensor:
    """The sum of gate · out over branches, each of which has a softmax of its own.

    Args:
        outs: [B, H, Q, Dv] each.
        gates: one for each branch, a number or a tensor that broadcasts to [B, H, Q].

    Returns:
        [B, H, Q, Dv] in the dtype of the first out.

    Raises:
        MaskError: without branches, with another number of gates, or when shapes disagree.

    Native Sparse Attention (Yuan et al. 2025, arXiv:2502.11089) learns the gates; CATANet (Liu et al. 2025,
    arXiv:2503.06896) adds two branches with gates of 1.
    """
    first, *_ = _same_shapes(outs)
    require_gates(gates, len(outs))
    wide = torch.promote_types(first.dtype, torch.float32)
    total = first.new_zeros((), dtype=wide)
    for number, (out, gate) in enumerate(zip(outs, gates, strict=True)):
        total = total + _gate(gate, first, number) * out.to(wide)
    return total.to(first.dtype)


def require_gates(gates: Sequence[Tensor | float], branches: int) -> None:
    """MaskError where there is not one gate for each branch."""
    if not isinstance(gates, Sequence) or len(gates) != branches:
        number = len(gates) if isinstance(gates, Sequence) else "no sequence of"
        raise MaskError(f"there are {branches} branches and {number} gates")


def _gate(gate: Tensor | float, out: Tensor, number: int) -> Tensor | float:
    """The gate beside a last dimension of `out`."""
    if isinstance(gate, int | float) and not isinstance(gate, bool):
        return gate
    require_tensors(**{f"gate_{number}": gate})
    assert isinstance(gate, Tensor), "just asked"
    try:
        return gate.expand(out.shape[:-1])[..., None]
    except RuntimeError:
        raise MaskError(
            f"gate {number} has shape {tuple(gate.shape)}, which does not broadcast to {tuple(out.shape[:-1])}",
            hint="a gate is [batch, heads, queries], or broadcasts to it",
        ) from None


def _same_shapes(outs: Sequence[Tensor]) -> Sequence[Tensor]:
    require_tensors(**{f"part_{number}": out for number, out in enumerate(outs)})
    if not outs:
        raise MaskError("there is nothing to combine", hint="give at least one part")
    for number, out in enumerate(outs):
        if out.shape != outs[0].shape:
            raise MaskError(
                f"part {number} has shape {tuple(out.shape)}, and part 0 has shape {tuple(outs[0].shape)}",
                hint="parts are outputs for the same queries",
            )
    return outs
