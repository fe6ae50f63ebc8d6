"""Native Sparse Attention: compressed, selected and recent keys, each with a softmax of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import torch

from attnmask.errors import MaskError
from attnmask.ir.domain import length
from attnmask.ir.index import add, const, mul, sub
from attnmask.ir.predicate import and_, compare
from attnmask.lower.choose.choices import Choices
from attnmask.lower.prepare import Lowerable
from attnmask.lower.programs.attend import Options, attend
from attnmask.lower.programs.combine import gated_sum, require_gates
from attnmask.lower.programs.written import CAUSAL, K, Q, Written

Tensor = torch.Tensor


def compress(x: Tensor, kernel: int = 32, stride: int = 16) -> Tensor:
    """x [B, H, K, D] → the means of its whole windows of `kernel` tokens, one every `stride`: [B, H, C, D].

    C = (K - kernel) // stride + 1, or 0 where no window fits. MaskError when a number is not positive.
    """
    kernel, stride = length("kernel", kernel), length("stride", stride)
    if x.dim() != 4:
        raise MaskError(f"keys have 4 dimensions [batch, heads, length, head_dim], not {x.dim()}")
    if x.shape[2] < kernel:
        return x[:, :, :0]
    return x.unfold(2, kernel, stride).mean(dim=-1)


def nsa(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    gates: Sequence[Tensor | float],
    *,
    kernel: int = 32,
    stride: int = 16,
    window: int = 512,
    selected: Lowerable | None = None,
    compressed: tuple[Tensor, Tensor] | None = None,
    choices: Choices | None = None,
    **options: Unpack[Options],
) -> Tensor:
    """Native Sparse Attention: the sum of gate · branch, over keys compressed, selected and recent.

    A query at position i sees window c of the compressed keys where i >= c · stride + kernel - 1, so that none of
    its tokens is in the future.

    Args:
        q: [B, Hq, Q, D]. k: [B, Hkv, K, D]. v: [B, Hkv, K, Dv].
        gates: of the compressed branch, of the selected one where there is one, and of the window; each a number
            or a tensor that broadcasts to [B, Hq, Q].
        kernel, stride: tokens in a compressed window, and tokens from one to the next.
        window: how many last keys the third branch sees, the query's own included.
        selected: the mask of the selected branch, causality included; without it there is no such branch.
        compressed: keys [B, Hkv, C, D] and values [B, Hkv, C, Dv] of the windows, as a learned compression makes
            them; means unless given.
        choices: where `selected` chooses from q and k: what it chose (`selected.choose`); chosen here unless given.
        options: scale, block, q_offset and backend, as in `attention`.

    Returns:
        [B, Hq, Q, Dv]. A branch in which a query sees nothing adds 0.

    Raises:
        MaskError: when shapes or the number of gates disagree, or a number is not positive.

    Yuan et al. 2025, arXiv:2502.11089.
    """
    kernel, stride, window = length("kernel", kernel), length("stride", stride), length("window", window)
    require_gates(gates, 2 if selected is None else 3)
    recent = Written(and_(CAUSAL, compare(sub(Q, K), "<", const(window))))
    outs = [attend(q, k, v, recent, **options)[0]]
    if selected is not None:
        outs.insert(0, attend(q, k, v, selected, choices, **options)[0])
    if compressed is not None and (not isinstance(compressed, tuple) or len(compressed) != 2):
        raise MaskError("compressed is a pair of keys and values")
    keys, values = (compress(x, kernel, stride) for x in (k, v)) if compressed is None else compressed
    if keys.shape[2]:
        seen = compare(add(mul(const(stride), K), const(kernel - 1)), "<=", Q)
        outs.insert(0, attend(q, keys, values, Written(seen), **options)[0])
    else:
        outs.insert(0, torch.zeros_like(outs[0]))
    return gated_sum(outs, gates)
