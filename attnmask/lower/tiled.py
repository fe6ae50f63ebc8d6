"""Attention by rows of tiles, over the live tiles only: plain torch, any device, with gradients."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention

from attnmask.lower.functions import MaskMod, ScoreMod, untraced
from attnmask.tiles.tilemap import TileMap

Tensor = torch.Tensor


@untraced
def tiled_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    tiles: TileMap,
    mask_mod: MaskMod,
    score_mod: ScoreMod | None,
    scale: float,
    *,
    return_lse: bool,
) -> tuple[Tensor, Tensor | None]:
    """q [B, Hq, Q, D], k [B, Hkv, K, D], v [B, Hkv, K, Dv] → out [B, Hq, Q, Dv], and lse [B, Hq, Q] if asked.

    Memory follows the longest row of live tiles, not Q × K. A query that sees no key gives 0, and lse -inf.
    """
    # Autocast would change dtypes under way; the inputs' own is kept.
    with torch.autocast(q.device.type, enabled=False):
        return _tiled(q, k, v, tiles, mask_mod, score_mod, scale, return_lse)


def _tiled(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    tiles: TileMap,
    mask_mod: MaskMod,
    score_mod: ScoreMod | None,
    scale: float,
    return_lse: bool,
) -> tuple[Tensor, Tensor | None]:
    out = q.new_zeros(*q.shape[:-1], v.shape[-1])
    wide = torch.promote_types(q.dtype, torch.float32)
    lse = q.new_full(q.shape[:-1], -torch.inf, dtype=wide) if return_lse else None
    for batch, heads, plane in _groups(tiles, q.shape[0], q.shape[1]):
        group = _Group(q, k, v, batch, heads, mask_mod, score_mod, scale)
        rows = [group.row(tiles, plane, row, return_lse) for row in range(tiles.rows)]
        out[batch[:, None], heads] = torch.cat([part for part, _ in rows], dim=2)
        if lse is not None:
            lse[batch[:, None], heads] = torch.cat([part for _, part in rows if part is not None], dim=2)
    return out, lse


def _groups(tiles: TileMap, batch: int, heads: int) -> Iterator[tuple[Tensor, Tensor, int]]:
    """Batch rows and heads that share a plane."""
    plane_of = tiles.plane_of
    batches = [range(batch)] if plane_of.shape[0] == 1 else [range(b, b + 1) for b in range(batch)]
    for number, rows in enumerate(batches):
        planes = plane_of[number]
        for plane in np.unique(planes):
            chosen = range(heads) if len(planes) == 1 else np.flatnonzero(planes == plane).tolist()
            yield torch.tensor(list(rows)), torch.tensor(list(chosen)), int(plane)


class _Group:
    """Batch rows and heads that see the same tiles."""

    def __init__(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        batch: Tensor,
        heads: Tensor,
        mask_mod: MaskMod,
        score_mod: ScoreMod | None,
        scale: float,
    ) -> None:
        device = q.device
        self.batch, self.heads = batch.to(device), heads.to(device)
        kv_heads = self.heads // (q.shape[1] // k.shape[1])
        self.q = q[self.batch[:, None], self.heads]
        self.k = k[self.batch[:, None], kv_heads]
        self.v = v[self.batch[:, None], kv_heads]
        self.mask_mod, self.score_mod, self.scale = mask_mod, score_mod, scale

    def row(self, tiles: TileMap, plane: int, row: int, return_lse: bool) -> tuple[Tensor, Tensor | None]:
        """One row of tiles: out [b, h, rows, Dv] and lse [b, h, rows]."""
        first = row * tiles.block[0]
        q = self.q[:, :, first : first + tiles.block[0]]
        number = plane * tiles.rows + row
        partial, full = tiles.partial.row(number), tiles.full.row(number)
        if not len(partial) and not len(full):
            return self._nothing(q, return_lse)
        at_q = torch.arange(first, first + q.shape[2], device=q.device)
        at_k = _positions(np.union1d(partial, full), tiles.block[1], tiles.kv_len).to(q.device)
        k, v = self.k.index_select(2, at_k), self.v.index_select(2, at_k)
        # A plane's mask is the same for all of the group, so its first (b, h) speaks for all.
        allowed = None
        if len(partial):
            allowed = self.mask_mod(self.batch[0], self.heads[0], at_q[:, None], at_k[None, :])
            allowed = allowed.expand(len(at_q), len(at_k))
        return self._softmax(q, k, v, allowed, at_q, at_k, return_lse)

    def _nothing(self, q: Tensor, return_lse: bool) -> tuple[Tensor, Tensor | None]:
        """Zeros, and still functions of q, k and v, so that backward goes through where no query sees a key."""
        parts = q[..., :1] + self.k[:, :, :1, :1] + self.v[:, :, :1, :1]
        zero = parts.masked_fill(torch.ones((), dtype=torch.bool, device=q.device), 0.0)
        wide = torch.promote_types(q.dtype, torch.float32)
        lse = q.new_full(q.shape[:-1], -torch.inf, dtype=wide) if return_lse else None
        return zero.expand(*q.shape[:-1], self.v.shape[-1]), lse

    def _softmax(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        allowed: Tensor | None,
        at_q: Tensor,
        at_k: Tensor,
        return_lse: bool,
    ) -> tuple[Tensor, Tensor | None]:
        if self.score_mod is not None or return_lse:
            return self._explicit(q, k, v, allowed, at_q, at_k)
        sees = None if allowed is None else allowed.any(dim=1, keepdim=True)
        if allowed is None or sees is None or bool(sees.all()):
            return scaled_dot_product_attention(q, k, v, attn_mask=allowed, scale=self.scale), None
        # A row without keys is computed as if it saw all, and then replaced: no NaN, and no gradient.
        out = scaled_dot_product_attention(q, k, v, attn_mask=allowed | ~sees, scale=self.scale)
        return torch.where(sees, out, 0.0), None

    def _explicit(
        self, q: Tensor, k: Tensor, v: Tensor, allowed: Tensor | None, at_q: Tensor, at_k: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Softmax in float32 (float64 for such inputs), as the kernels compute it."""
        wide = torch.promote_types(q.dtype, torch.float32)
        scores = q.to(wide) @ k.to(wide).transpose(-1, -2) * self.scale
        if self.score_mod is not None:
            b, h = self.batch[:, None, None, None], self.heads[:, None, None]
            scores = self.score_mod(scores, b, h, at_q[:, None], at_k[None, :]).expand(scores.shape)
        if allowed is not None:
            scores = scores.masked_fill(~allowed, -torch.inf)
        # A score of -inf is no key. A row of nothing else is computed as if it were even, and replaced.
        empty = (scores == -torch.inf).all(dim=-1, keepdim=True)
        scores = scores.masked_fill(empty, 0.0)
        lse = scores.logsumexp(dim=-1)
        out = ((scores - lse[..., None]).exp() @ v.to(wide)).to(q.dtype)
        return torch.where(empty, 0.0, out), torch.where(empty[..., 0], -torch.inf, lse)


def _positions(columns: np.ndarray[tuple[int], np.dtype[np.int32]], block: int, length: int) -> Tensor:
    """Positions of the keys in the given columns of tiles, ascending."""
    at = (columns.astype(np.int64)[:, None] * block + np.arange(block)).ravel()
    return torch.from_numpy(at[at < length])
