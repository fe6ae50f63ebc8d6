"""Heads: query heads beside key heads, groups of them, and what is reduced over them."""

from __future__ import annotations

from typing import assert_never

import torch

from attnmask.errors import MaskError
from attnmask.ir.rules import Heads

Tensor = torch.Tensor


def products(q: Tensor, k: Tensor) -> Tensor:
    """Products [B, Hq, n, m] of q [B, Hq, n, D] and k [B, Hkv, m, D]; query head h uses key head h // (Hq / Hkv)."""
    if q.shape[1] == k.shape[1]:
        return q @ k.mT
    grouped = torch.unflatten(q, 1, (k.shape[1], -1))
    return torch.flatten(grouped @ k.mT[:, :, None], 1, 2)


def proxies(q: Tensor, k: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """Means of `size` query heads in a row, [B, Hq / size, …], and of the key heads that they use."""
    if size == 1:
        return q, k
    k = k.repeat_interleave(q.shape[1] // k.shape[1], dim=1)
    dtype = torch.promote_types(q.dtype, torch.float32)
    q, k = (torch.unflatten(x, 1, (-1, size)).mean(2, dtype=dtype) for x in (q, k))
    return q, k


def require_even(heads: int, kv_heads: int, proxy: int) -> None:
    """MaskError where heads that share a proxy do not use their key heads evenly."""
    group = heads // max(kv_heads, 1)
    if heads % proxy:
        raise MaskError(f"{heads} query heads cannot share a proxy by {proxy}")
    if group % proxy and proxy % group:
        raise MaskError(f"{proxy} heads in a row do not use their key heads evenly: {group} heads share one")


def sets_after(how: Heads, heads: int, kv_heads: int) -> int:
    """How many sets of scores are left of those of `heads` heads."""
    match how:
        case "each":
            return heads
        case "group_sum" | "group_mean" | "group_max":
            return kv_heads
        case "concat" | "sum" | "mean" | "max":
            return 1
        case _:
            assert_never(how)


def joined(products: Tensor, how: Heads) -> Tensor:
    """[B, H, …] before softmax: the product of the channels of all heads side by side is the sum of theirs."""
    return products.sum(1, keepdim=True) if how == "concat" else products


def reduced(scores: Tensor, how: Heads, kv_heads: int) -> Tensor:
    """scores [B, H, …] reduced over the heads of each group, or over all heads."""
    match how:
        case "each" | "concat":
            return scores
        case "group_sum" | "group_mean" | "group_max":
            if scores.shape[1] % kv_heads:
                raise MaskError(f"{scores.shape[1]} heads are not a multiple of {kv_heads} key heads")
            grouped = torch.unflatten(scores, 1, (kv_heads, -1))
            return _over(grouped, how.removeprefix("group_"), 2)
        case _:
            return _over(scores, how, 1).unsqueeze(1)


def _over(scores: Tensor, how: str, dim: int) -> Tensor:
    match how:
        case "sum":
            return scores.sum(dim)
        case "mean":
            return scores.mean(dim)
        case _:
            return scores.amax(dim)
