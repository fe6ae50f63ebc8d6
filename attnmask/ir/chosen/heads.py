"""How scores of heads become scores of the sets that heads share."""

from __future__ import annotations

from dataclasses import replace
from typing import assert_never

import numpy as np

from attnmask.errors import MaskError
from attnmask.ir.chosen.call import Call, Floats
from attnmask.ir.rules import Antidiagonal, Blocks, Compressed, Exact, Given, Heads, Probe, ScoreMap


def averaged(call: Call, proxy: int) -> Call:
    """The call with queries averaged over `proxy` heads in a row, and keys over the key heads that these use."""
    batch, heads, q_len, dim = call.q.shape
    group = heads // call.kv_heads
    if heads % proxy:
        raise MaskError(f"{heads} heads cannot be averaged {proxy} at a time")
    if group % proxy and proxy % group:
        raise MaskError(f"{proxy} heads in a row do not use their key heads evenly: {group} heads share one")
    q = call.q.reshape(batch, heads // proxy, proxy, q_len, dim).mean(2)
    per_key = max(1, proxy // group)
    k = call.k.reshape(batch, -1, per_key, *call.k.shape[2:]).mean(2)
    return replace(call, q=q, k=k)


def sets_of(score: ScoreMap, call: Call) -> int:
    """How many sets are chosen, each for as many heads. MaskError where heads cannot share them evenly."""
    heads = call.domain.heads
    match score:
        case Blocks() | Exact():
            call = averaged(call, score.proxy)
            found = _sets(score.heads, call.q.shape[1], call.kv_heads)
        case Compressed() | Probe():
            found = _sets(score.heads, heads, call.kv_heads)
        case Antidiagonal():
            found = heads
        case Given(name):
            found = given_scores(call, name).shape[1]
            if found not in (1, call.kv_heads, heads):
                raise MaskError(f"'{name}' has {found} heads, not 1, {call.kv_heads} or {heads}")
        case _:
            assert_never(score)
    return found


def given_scores(call: Call, name: str) -> Floats:
    found = call.named(name)
    if found.ndim != 4:
        raise MaskError(f"'{name}' has {found.ndim} dimensions, not batch, heads, query units and key units")
    return found


def _sets(reduction: Heads, heads: int, kv_heads: int) -> int:
    match reduction:
        case "each":
            return heads
        case "group_sum" | "group_mean" | "group_max":
            return kv_heads
        case "concat" | "sum" | "mean" | "max":
            return 1
        case _:
            assert_never(reduction)


def joined(scores: Floats, reduction: Heads) -> Floats:
    """[B, H, …] before the norm: one product of all channels is the sum of the products of the heads."""
    return scores.sum(1, keepdims=True) if reduction == "concat" else scores


def reduced(scores: Floats, reduction: Heads, sets: int) -> Floats:
    """[B, sets, …] from [B, H, …], after the norm."""
    batch, heads, *rest = scores.shape
    grouped = scores.reshape(batch, sets, heads // sets, *rest)
    match reduction:
        case "each" | "concat":
            return scores
        case "group_sum" | "sum":
            return np.asarray(grouped.sum(2))
        case "group_mean" | "mean":
            return np.asarray(grouped.mean(2))
        case "group_max" | "max":
            return np.asarray(grouped.max(2))
        case _:
            assert_never(reduction)
