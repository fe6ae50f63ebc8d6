"""Core tokens: one key and one value for each group of tokens, weighted by what the group's last query attends to."""

from __future__ import annotations

from typing import Unpack

import torch

from attnmask.errors import MaskError
from attnmask.ir.domain import length
from attnmask.ir.index import add, const, floordiv, mul
from attnmask.ir.predicate import and_, compare
from attnmask.lower.attention import factor_of_scores
from attnmask.lower.programs.attend import Options, attend, require_tensors
from attnmask.lower.programs.combine import merge
from attnmask.lower.programs.written import CAUSAL, K, Q, Written

Tensor = torch.Tensor


def core_tokens(
    q: Tensor, k: Tensor, v: Tensor, group: int, *, scale: float | None = None
) -> tuple[Tensor, Tensor]:
    """q [B, Hq, N, D], k [B, Hkv, N, D], v [B, Hkv, N, Dv] → keys [B, Hkv, C, D] and values [B, Hkv, C, Dv].

    The core token of a group is the mean of its tokens, weighted by the softmax of the group's last query over
    its keys; where query heads share a key head, by the mean of their weights. C = N // group: tokens that fill
    no group have no core token. MaskError when shapes disagree or `group` is not positive.
    """
    group = length("group", group)
    require_tensors(q=q, k=k, v=v)
    fits = q.dim() == k.dim() == v.dim() == 4 and q.shape[2] == k.shape[2] and k.shape[:3] == v.shape[:3]
    if not fits or q.shape[0] != k.shape[0] or q.shape[3] != k.shape[3]:
        raise MaskError(
            f"q {tuple(q.shape)}, k {tuple(k.shape)} and v {tuple(v.shape)} differ in batch, length, heads or head "
            "dimension"
        )
    if not k.shape[1] or q.shape[1] % k.shape[1]:
        raise MaskError(f"{q.shape[1]} query heads are not a multiple of {k.shape[1]} key heads")
    batch, heads = k.shape[:2]
    cells = q.shape[2] // group
    wide = torch.promote_types(q.dtype, torch.float32)
    last = q[:, :, group - 1 :: group].to(wide).reshape(batch, heads, q.shape[1] // heads, cells, q.shape[-1])
    keys, values = (
        x[:, :, : cells * group].to(wide).reshape(batch, heads, cells, group, x.shape[-1]) for x in (k, v)
    )
    scores = torch.einsum("bhrcd,bhcgd->bhrcg", last, keys) * factor_of_scores(q, scale)
    weights = scores.softmax(dim=-1).mean(dim=2)
    core_k, core_v = (torch.einsum("bhcg,bhcgd->bhcd", weights, x) for x in (keys, values))
    return core_k.to(k.dtype), core_v.to(v.dtype)


def core_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    group: int = 16,
    window: int = 1024,
    **options: Unpack[Options],
) -> tuple[Tensor, Tensor]:
    """Core Context Aware Attention: recent tokens themselves and the core tokens of what lies before, in one softmax.

    A query sees the last `window` tokens, and those before them back to the start of a group; of the groups
    before that it sees the core tokens. So each token of the past is seen once. A core token has the weight of
    one token.

    Args:
        q: [B, Hq, N, D]. k: [B, Hkv, N, D]. v: [B, Hkv, N, Dv].
        group: tokens for which one core token stands.
        window: how many last tokens are seen themselves at least, the query's own included.
        options: scale, block and backend, as in `attention`.

    Returns:
        out [B, Hq, N, Dv] and lse [B, Hq, N].

    Raises:
        MaskError: as `attention` and `core_tokens`.

    Chen et al. 2024, arXiv:2412.12465; the code is not public, and how the two are fused is read from the text.
    """
    if "q_offset" in options:
        raise MaskError("core tokens need the queries of the whole sequence, and take no q_offset")
    keys, values = core_tokens(q, k, v, group, scale=options.get("scale"))
    first_group = floordiv(add(Q, const(1 - length("window", window))), const(group))
    near = and_(CAUSAL, compare(mul(const(group), first_group), "<=", K))
    parts = [attend(q, k, v, Written(near), **options)]
    if keys.shape[2]:
        parts.append(attend(q, keys, values, Written(compare(K, "<", first_group)), **options))
    return merge(parts)
