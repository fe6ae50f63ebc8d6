"""How good a choice is: attention mass that it keeps, and pairs that it attends, on rows of given q and k."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from numpy.typing import NDArray

from attnmask.errors import MaskError
from attnmask.ir.domain import Domain
from attnmask.lower.choose.choices import Choices, as_tensor
from attnmask.lower.choose.heads import products
from attnmask.lower.choose.lowered import Lowered, lowered
from attnmask.lower.choose.pools import wide
from attnmask.lower.functions import MaskMod
from attnmask.lower.prepare import Lowerable
from attnmask.tiles.build import Block

Tensor = torch.Tensor
_PORTION = 1 << 24


@dataclass(frozen=True, slots=True)
class Measured:
    """Figures for every batch row and head, nested lists [B][H], over the queries that were looked at.

    `pairs`: attended pairs; `allowed`: pairs that the mask attends for some choice. `recall`: the
    mean share of the attention weights over allowed pairs that attended ones have, and `least_recall` the
    smallest of a query. `empty`: queries without a key.
    """

    queries: int
    pairs: list[list[int]]
    allowed: list[list[int]]
    recall: list[list[float]]
    least_recall: list[list[float]]
    empty: list[list[int]]
    tiles: list[list[int]]
    tiles_per_row: tuple[int, float, int]


@torch.no_grad()
def measure(
    mask: Lowerable,
    everything: Lowerable,
    q: Tensor | NDArray[Any],
    k: Tensor | NDArray[Any],
    choices: Choices,
    block: Block,
    scale: float | None,
    rows: int,
) -> Measured:
    """The figures of a choice on at most `rows` queries, evenly spread; reads results back from the device.

    `everything`: what the mask attends for whatever is chosen.
    """
    q, k = as_tensor("q", q), as_tensor("k", k)
    domain = choices.call
    fits = q.shape[:3] == (domain.batch, domain.heads, domain.q_len) and k.shape[2] == domain.kv_len
    if not fits or q.shape[3] != k.shape[3] or q.shape[0] != k.shape[0] or q.shape[1] % k.shape[1]:
        raise MaskError(
            f"q {tuple(q.shape)} and k {tuple(k.shape)} are not of the call that the choices were made for: "
            f"{domain.batch} batch rows, {domain.heads} heads, {domain.q_len} queries, {domain.kv_len} keys"
        )
    ready = lowered(mask, domain, block, choices)
    open_ = lowered(everything, domain, block, choices).mask_mod
    at = torch.linspace(0, domain.q_len - 1, min(rows, domain.q_len), device=q.device).round().long()
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    parts = []
    for part in torch.split(at, max(1, _PORTION // (q.shape[0] * q.shape[1] * domain.kv_len))):
        parts.append(_some(q, k, part, ready, open_, domain, scale))
    pairs, allowed, kept = (torch.cat([part[n] for part in parts], dim=2) for n in range(3))
    live = ~ready.outcomes.never.expand(domain.batch, domain.heads, -1, -1)
    per_row = live.sum(-1)
    seen = allowed > 0
    recall = kept.masked_fill(~seen, 0.0).sum(-1) / seen.sum(-1).clamp(min=1)
    least = kept.masked_fill(~seen, 1.0).amin(-1)
    return Measured(
        len(at),
        pairs.sum(-1).tolist(),
        allowed.sum(-1).tolist(),
        recall.tolist(),
        least.tolist(),
        (pairs == 0).sum(-1).tolist(),
        live.sum((-1, -2)).tolist(),
        (int(per_row.min()), float(per_row.double().mean()), int(per_row.max())),
    )


def _some(
    q: Tensor, k: Tensor, at: Tensor, ready: Lowered, everything: MaskMod, domain: Domain, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Attended pairs, allowed pairs and the share of weights that is kept, of some queries: [B, H, queries]."""
    b = torch.arange(domain.batch, device=q.device)[:, None, None, None]
    h = torch.arange(domain.heads, device=q.device)[:, None, None]
    keys = torch.arange(domain.kv_len, device=q.device)
    shape = (domain.batch, domain.heads, len(at), domain.kv_len)
    attended = ready.mask_mod(b, h, at[:, None], keys).expand(shape)
    allowed = everything(b, h, at[:, None], keys).expand(shape)
    scores = products(wide(q[:, :, at]), wide(k)) * scale
    if ready.score_mod is not None:
        scores = ready.score_mod(scores, b, h, at[:, None], keys)
    weights = scores.masked_fill(~allowed, -torch.inf).softmax(-1)
    kept = weights.masked_fill(~(attended & allowed), 0.0).sum(-1)
    return attended.sum(-1), allowed.sum(-1), kept
