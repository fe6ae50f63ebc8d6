"""Attention of a few queries, as in decoding: truth values for every pair, made once for all layers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from attnmask.integrations.transformers.call import CallMask
from attnmask.ir.check import check
from attnmask.lower.functions import build
from attnmask.lower.prepare import sources
from attnmask.lower.softmax import Allowed, allowed, explicit_attention, softmax_attention
from attnmask.mask import Mask

Tensor = torch.Tensor


@dataclass(frozen=True, slots=True)
class Pairs:
    """What the pairs of a call allow and do to scores, query heads packed as `dense_attention` packs them."""

    seen: Allowed
    modify: Callable[[Tensor], Tensor] | None


def dense_attention(
    q: Tensor, k: Tensor, v: Tensor, call: CallMask, mask: Mask, own: bool, scale: float, lse: bool
) -> tuple[Tensor, Tensor | None]:
    """q [B, Hq, Q, D], k [B, Hkv, K, D], v [B, Hkv, K, Dv] → out [B, Hq, Q, Dv], and lse [B, Hq, Q] if asked.

    `mask` is over positions; `own` puts the model's own mask in the place of all but its scores. The query heads
    of one key head are packed into one matrix [B, Hkv, Hq / Hkv * Q, D]: keys are read and not repeated.
    """
    batch, heads, q_len, _ = q.shape
    kv_heads, kv_len = k.shape[1:3]
    packed = q.reshape(batch, kv_heads, heads // kv_heads * q_len, -1)
    key = ("dense", mask, own, heads, kv_heads, q.device)
    pairs = call.kept(key, lambda: _pairs(call, mask, own, heads, kv_heads, kv_len, q.device))
    if not lse and pairs.modify is None:
        return softmax_attention(packed, k, v, pairs.seen, scale).reshape(batch, heads, q_len, -1), None
    out, found = explicit_attention(packed, k, v, pairs.seen, scale, pairs.modify)
    return out.reshape(batch, heads, q_len, -1), found.reshape(batch, heads, q_len)


def _pairs(
    call: CallMask, mask: Mask, own: bool, heads: int, kv_heads: int, kv_len: int, device: torch.device
) -> Pairs:
    groups, tables = heads // kv_heads, dict(mask.tables)
    domain = mask.domain(
        call.q_len, call.kv_offset + kv_len, batch=call.batch, heads=heads, q_offset=call.q_offset
    )
    check(mask.predicate, domain, tables, mask.origins)
    if mask.score is not None:
        check(mask.score, domain, tables, mask.origins)
    mask_source, score_source = sources(mask.predicate, mask.score, tables, domain)
    b = torch.arange(call.batch, device=device)[:, None, None, None]
    h = torch.arange(heads, device=device).view(kv_heads, groups, 1).expand(-1, -1, call.q_len)
    h = h.reshape(kv_heads, -1, 1)
    q = torch.arange(call.q_len, device=device).repeat(groups)[:, None]
    k = torch.arange(call.kv_offset, call.kv_offset + kv_len, device=device)
    if own:
        seen = call.own_dense().to(device).repeat(1, 1, groups, 1)
    else:
        seen = build(mask_source, tables, domain, device)(b, h, q, k)
        if (padding := call.padding_to(call.kv_offset + kv_len)) is not None:
            seen = seen & padding.to(device)[:, None, None, call.kv_offset :]
    # A mask that does not look at k, say, has one value for all keys.
    seen = seen & torch.ones(groups * call.q_len, kv_len, dtype=torch.bool, device=device)
    modify = None
    if score_source is not None:
        score_mod = build(score_source, tables, domain, device)
        modify = lambda scores: score_mod(scores, b, h, q, k)  # noqa: E731  # one expression, given a name
    return Pairs(allowed(seen), modify)
