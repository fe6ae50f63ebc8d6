"""Pools: the vectors of every unit made into one."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import assert_never

import torch

from attnmask.errors import MaskError
from attnmask.ir.rules import Concat, Linear, Pool, Pooling
from attnmask.lower.choose.units import Units, ids_on, sizes_on, summed

Tensor = torch.Tensor


def wide(x: Tensor) -> Tensor:
    """`x` in the precision that scores are computed in: float32, or float64 for such inputs."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def pooled(x: Tensor, found: Units, pool: Pooling, given: Mapping[str, Tensor]) -> Tensor:
    """x [B, H, positions, D] → [B, H, units, channels] in float32 (float64 for such x).

    Units without positions give zeros. MaskError where the weights of `linear` do not fit.
    """
    match pool:
        case Pool(name):
            return _pool(x, found, name)
        case Concat(pools):
            return torch.cat([pooled(x, found, part, given) for part in pools], dim=-1)
        case Linear(weights, inner):
            return _linear(pooled(x, found, inner, given), given[weights], weights)
        case _:
            assert_never(pool)


def _linear(x: Tensor, weights: Tensor, name: str) -> Tensor:
    fits = weights.dim() in (2, 3) and weights.shape[-2] == x.shape[-1]
    if not fits or (weights.dim() == 3 and weights.shape[0] not in (1, x.shape[1])):
        raise MaskError(
            f"'{name}' has shape {tuple(weights.shape)}, and pooled vectors {tuple(x.shape)} need "
            f"[{x.shape[-1]}, out] or [{x.shape[1]}, {x.shape[-1]}, out]"
        )
    return x @ weights.to(x.dtype)


def _pool(x: Tensor, found: Units, name: str) -> Tensor:
    if found.run == 1 and name != "bounds":
        return wide(x)
    match name:
        case "mean":
            return _mean(x, found)
        case "scaled_sum":
            sizes = sizes_on(found, x.device)[:, None]
            return _mean(x, found) * sizes.to(torch.float32).sqrt()
        case "max" | "min":
            return _extreme(x, found, name)
        case "first":
            return _first(x, found)
        case "attention":
            return _attended(x, found)
        case "bounds":
            return torch.cat([_extreme(x, found, "max"), _extreme(x, found, "min")], dim=-1)
        case _:
            raise AssertionError(name)


def _parts(x: Tensor, run: int) -> tuple[Tensor, Tensor]:
    """Whole runs [B, H, runs, run, D], and what is left over at the end [B, H, rest, D]."""
    whole = x.shape[2] // run
    return torch.unflatten(x[:, :, : whole * run], 2, (whole, run)) if whole else x[:, :, None, :0], x[
        :, :, whole * run :
    ]


def _mean(x: Tensor, found: Units) -> Tensor:
    dtype = torch.promote_types(x.dtype, torch.float32)
    if found.run is not None:
        whole, rest = _parts(x, found.run)
        means = [whole.mean(3, dtype=dtype)] if whole.shape[3] else []
        means += [rest.mean(2, keepdim=True, dtype=dtype)] if rest.shape[2] else []
        return torch.cat(means, dim=2)
    return summed(wide(x), found, 2) / sizes_on(found, x.device).clamp(min=1)[:, None]


def _extreme(x: Tensor, found: Units, which: str) -> Tensor:
    if found.run is not None:
        reduce = torch.amax if which == "max" else torch.amin
        whole, rest = _parts(x, found.run)
        found_extremes = [reduce(whole, 3)] if whole.shape[3] else []
        found_extremes += [reduce(rest, 2, keepdim=True)] if rest.shape[2] else []
        return wide(torch.cat(found_extremes, dim=2))
    at = ids_on(found, x.device)[:, None].expand(x.shape)
    zeros = x.new_zeros(*x.shape[:2], found.count, x.shape[3])
    return wide(zeros.scatter_reduce(2, at, x, "amax" if which == "max" else "amin", include_self=False))


def _first(x: Tensor, found: Units) -> Tensor:
    if found.run is not None:
        return wide(x[:, :, :: found.run])
    ids = ids_on(found, x.device)
    places = torch.arange(len(ids), device=x.device)
    firsts = torch.full((found.count,), len(ids), device=x.device).scatter_reduce(0, ids, places, "amin")
    exists = firsts < len(ids)
    return wide(x)[:, :, firsts.clamp(max=len(ids) - 1)].masked_fill(~exists[:, None], 0.0)


def _attended(x: Tensor, found: Units) -> Tensor:
    """Each unit's vectors, weighed by the softmax of their products with their mean (LongHeads, arXiv:2402.10685)."""
    x = wide(x)
    ids = ids_on(found, x.device)
    logits = (x * _mean(x, found)[:, :, ids]).sum(-1) / math.sqrt(x.shape[-1])
    highest = logits.new_full((*logits.shape[:2], found.count), -torch.inf)
    highest = highest.scatter_reduce(2, ids.expand(logits.shape), logits, "amax")
    weights = (logits - highest[:, :, ids]).exp()
    return summed(weights[..., None] * x, found, 2) / summed(weights, found, 2).clamp(min=1e-30)[..., None]
