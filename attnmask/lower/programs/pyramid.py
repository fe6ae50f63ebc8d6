"""Attention in which every pair of blocks has a resolution of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

import torch

from attnmask.errors import MaskError
from attnmask.ir.domain import length
from attnmask.ir.index import add, const, floordiv, mul
from attnmask.ir.nodes import Predicate
from attnmask.ir.predicate import TRUE, and_, choice, compare
from attnmask.ir.rules import Above, Given, Selected
from attnmask.lower.choose.choices import choose
from attnmask.lower.programs.attend import Options, attend, require_tensors
from attnmask.lower.programs.combine import merge
from attnmask.lower.programs.pooled import attend_pooled, pool_keys
from attnmask.lower.programs.written import K, Q, Written
from attnmask.tiles.build import Block, block_pair

Tensor = torch.Tensor


def pyramid_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    levels: Tensor,
    *,
    unit: Block = 128,
    sizes: Sequence[int] = (1, 2, 4, 8),
    causal: bool = False,
    **options: Unpack[Options],
) -> tuple[Tensor, Tensor]:
    """Pyramid Sparse Attention: a query block sees a key block token by token, pooled, or not at all.

    At level n the keys and values of n tokens in a row are averaged, and log(n) is added to their score. One
    attention call for each size, merged into one softmax. The levels stay on their device.

    Args:
        q: [B, Hq, Q, D]. k: [B, Hkv, K, D]. v: [B, Hkv, K, Dv].
        levels: integers [B or 1, Hq or 1, query blocks, key blocks]: one of `sizes`; with any other number, such as
            0, the block is not seen. A last block that the length cuts off counts as one.
        unit: length of the blocks, one number or (query, key).
        sizes: the levels there are, divisors of the length of a key block.
        causal: a query at position i sees a cell of n tokens only when its last token is not after i; tokens of a
            cell that is cut by that line are not seen, so blocks there want level 1.
        options: scale, block, q_offset and backend, as in `attention`.

    Returns:
        out [B, Hq, Q, Dv] and lse [B, Hq, Q].

    Raises:
        MaskError: when the levels do not fit q and k, or a size does not divide the key block.

    PSA (Li et al. 2025, arXiv:2512.04025), which takes levels 1, 2, 4, 8 and 0 by importance.
    """
    of_q, of_k = block_pair(unit)
    require_tensors(levels=levels)
    if levels.is_floating_point() or levels.dtype == torch.bool:
        raise MaskError(f"levels must be integers, not {levels.dtype}")
    for size in sizes:
        if of_k % length("a size", size):
            raise MaskError(f"a key block of {of_k} tokens is not divided by level {size}")
    parts = []
    for size in dict.fromkeys(sizes):
        pooled = pool_keys(k, v, size)
        mask = Written(_at_level(size, of_q, of_k, causal))
        level = {"level": (levels == size).float()}
        found = choose(mask, q, pooled.keys, level, q_offset=options.get("q_offset", 0), check=False)
        if size == 1:
            parts.append(attend(q, k, v, mask, found, **options))
        else:
            parts.append(attend_pooled(q, pooled, mask, found, **options))
    return merge(parts)


def _at_level(size: int, of_q: int, of_k: int, causal: bool) -> Predicate:
    """Which query sees which cell of `size` tokens, by the levels that are given when it is chosen."""
    rule = Selected(Above(0.5, False, "row"), Given("level"))
    seen = choice(rule, floordiv(Q, const(of_q)), floordiv(K, const(of_k // size)), TRUE)
    return and_(seen, compare(mul(const(size), K), "<=", add(Q, const(1 - size)))) if causal else seen
