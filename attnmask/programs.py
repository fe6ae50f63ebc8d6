"""Programs of several attention calls: what papers do around a mask. Needs torch.

am.programs.delta(q, k, v, mask)  # or: from attnmask.programs import delta
"""

from __future__ import annotations

from attnmask.lower.programs.codebook import codebook_attention
from attnmask.lower.programs.combine import gated_sum, merge
from attnmask.lower.programs.core_tokens import core_attention, core_tokens
from attnmask.lower.programs.delta import delta
from attnmask.lower.programs.nsa import compress, nsa
from attnmask.lower.programs.permuted import permuted
from attnmask.lower.programs.pooled import Pooled, attend_pooled, attend_with_pooled, pool_keys
from attnmask.lower.programs.pyramid import pyramid_attention
from attnmask.lower.programs.rescale import Rescaled, rescale
from attnmask.lower.programs.span_sum import span_sum

__all__ = [
    "Pooled",
    "Rescaled",
    "attend_pooled",
    "attend_with_pooled",
    "codebook_attention",
    "compress",
    "core_attention",
    "core_tokens",
    "delta",
    "gated_sum",
    "merge",
    "nsa",
    "permuted",
    "pool_keys",
    "pyramid_attention",
    "rescale",
    "span_sum",
]
