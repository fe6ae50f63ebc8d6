"""Causal attention over vector-quantised keys, in time linear in the length."""

from __future__ import annotations

from typing import Unpack

import torch

from attnmask.errors import MaskError
from attnmask.ir.domain import length
from attnmask.ir.index import add, const, floordiv, sub
from attnmask.ir.predicate import and_, compare
from attnmask.lower.programs.attend import Options, require_tensors
from attnmask.lower.programs.pooled import Pooled, attend_with_pooled, sums
from attnmask.lower.programs.written import CAUSAL, K, Q, Written

Tensor = torch.Tensor


def codebook_attention(
    q: Tensor,
    v: Tensor,
    codes: Tensor,
    codebook: Tensor,
    *,
    section: int = 512,
    **options: Unpack[Options],
) -> tuple[Tensor, Tensor]:
    """Transformer-VQ: causal attention where the key of token j is codebook[codes[j]].

    A query sees the tokens of its own section and of the one before themselves. Of all sections before these it
    sees each code once, with the mean of its values, and with the logarithm of how often it came added to its
    score. That is exactly causal attention over the quantised keys.

    Args:
        q: [B, Hq, N, D]. v: [B, Hkv, N, Dv].
        codes: [B, Hkv, N], integers from 0 to below S. Looked at on the CPU alone: elsewhere that would wait for the
            device.
        codebook: [Hkv, S, D].
        section: tokens in a section (the paper's block). There are N / section caches of S codes.
        options: scale, block and backend, as in `attention`.

    Returns:
        out [B, Hq, N, Dv] and lse [B, Hq, N]. Gradients reach q, v and the codebook.

    Raises:
        MaskError: when shapes disagree, or `section` is not positive.

    Lingle 2023, arXiv:2309.16354.
    """
    section = length("section", section)
    require_tensors(q=q, v=v, codes=codes, codebook=codebook)
    if codes.is_floating_point() or codes.dtype == torch.bool:
        raise MaskError(f"codes must be integers, not {codes.dtype}")
    if v.dim() != 4 or codes.shape != v.shape[:3]:
        raise MaskError(f"codes {tuple(codes.shape)} and v {tuple(v.shape)} differ in batch, heads or length")
    if codebook.dim() != 3 or codebook.shape[0] != v.shape[1]:
        raise MaskError(f"codebook {tuple(codebook.shape)} and v {tuple(v.shape)} differ in heads")
    if q.dim() != 4 or q.shape[2] != v.shape[2] or "q_offset" in options:
        raise MaskError("a codebook's caches are for the whole sequence, with a query for every token")
    if codes.device.type == "cpu" and not bool(((codes >= 0) & (codes < codebook.shape[1])).all()):
        raise MaskError(
            f"codes must be from 0 to below {codebook.shape[1]}, the number of the codebook's entries"
        )
    heads = torch.arange(v.shape[1], device=codes.device)[:, None]
    keys = codebook[heads, codes.long()]
    own, its = floordiv(Q, const(section)), floordiv(K, const(section))
    near = and_(CAUSAL, compare(sub(own, its), "<=", const(1)))
    # The cells of section s + 2 are those of cache s.
    far = compare(add(floordiv(K, const(codebook.shape[1])), const(2)), "==", own)
    caches = max(1, -(-v.shape[2] // section) - 2)
    pooled = _caches(v, codes, codebook, section, caches)
    return attend_with_pooled(q, keys, v, Written(near), pooled, Written(far), **options)


def _caches(v: Tensor, codes: Tensor, codebook: Tensor, section: int, caches: int) -> Pooled:
    """For each of the first sections: all codes, with counts and mean values of the tokens up to its end."""
    batch, heads, tokens, _ = v.shape
    n_codes = codebook.shape[1]
    wide = torch.promote_types(v.dtype, torch.float32)
    of_section = torch.arange(tokens, device=v.device) // section
    ids = torch.where(of_section < caches, of_section * n_codes + codes.long(), -1)
    cells = caches * n_codes

    def upto(x: Tensor) -> Tensor:
        per_section = sums(x, ids, cells).reshape(batch, heads, caches, n_codes, -1)
        return per_section.cumsum(dim=2).flatten(2, 3)

    counts = upto(v.new_ones((batch, heads, tokens, 1), dtype=wide))
    values = upto(v.to(wide)) / counts.clamp(min=1)
    keys = codebook.repeat(1, caches, 1).expand(batch, heads, cells, -1)
    return Pooled(keys, values.to(v.dtype), counts[..., 0])
