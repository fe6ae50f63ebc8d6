"""Attention by rows of tiles, over the live tiles only: plain torch, any device, with gradients."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch

from attnmask.lower.functions import MaskMod, ScoreMod, untraced
from attnmask.lower.softmax import ALL, allowed, explicit_attention, softmax_attention
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
        at = slice(batch.start, batch.stop), _run(heads)
        out[at] = torch.cat([part for part, _ in rows], dim=2)
        if lse is not None:
            lse[at] = torch.cat([part for _, part in rows if part is not None], dim=2)
    return out, lse


def _groups(tiles: TileMap, batch: int, heads: int) -> Iterator[tuple[range, list[int], int]]:
    """Batch rows and heads that share a plane."""
    plane_of = tiles.plane_of
    batches = [range(batch)] if plane_of.shape[0] == 1 else [range(b, b + 1) for b in range(batch)]
    for number, rows in enumerate(batches):
        planes = plane_of[number]
        for plane in np.unique(planes):
            chosen = range(heads) if len(planes) == 1 else np.flatnonzero(planes == plane).tolist()
            yield rows, list(chosen), int(plane)


def _run(numbers: list[int]) -> slice | list[int]:
    """Ascending numbers as a slice where they follow each other: it takes no copy."""
    first, last = numbers[0], numbers[-1]
    return slice(first, last + 1) if last - first + 1 == len(numbers) else numbers


class _Group:
    """Batch rows and heads that see the same tiles."""

    def __init__(
        self,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        batch: range,
        heads: list[int],
        mask_mod: MaskMod,
        score_mod: ScoreMod | None,
        scale: float,
    ) -> None:
        self.batch = torch.arange(batch.start, batch.stop, device=q.device)
        self.heads = torch.tensor(heads, device=q.device)
        rows, used = slice(batch.start, batch.stop), [head // (q.shape[1] // k.shape[1]) for head in heads]
        kv_heads = sorted(set(used))
        self.q = q[rows, _run(heads)]
        self.k, self.v = (x[rows, _run(kv_heads)] for x in (k, v))
        # Which of these key heads each query head uses; None where they are one to one.
        self.used = (
            None
            if used == kv_heads
            else torch.tensor([kv_heads.index(head) for head in used], device=q.device)
        )
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
        k, v = (self._for_heads(x.index_select(2, at_k)) for x in (self.k, self.v))
        seen = ALL
        if len(partial):
            # A plane's mask is the same for all of the group, so its first (b, h) speaks for all.
            mask = self.mask_mod(self.batch[0], self.heads[0], at_q[:, None], at_k[None, :])
            seen = allowed(mask.expand(len(at_q), len(at_k)))
        if self.score_mod is None and not return_lse:
            return softmax_attention(q, k, v, seen, self.scale), None
        return explicit_attention(q, k, v, seen, self.scale, self._modify(at_q, at_k))

    def _for_heads(self, x: Tensor) -> Tensor:
        """Keys or values [b, key heads, …] for each query head."""
        return x if self.used is None else x.index_select(1, self.used)

    def _modify(self, at_q: Tensor, at_k: Tensor) -> Callable[[Tensor], Tensor] | None:
        """score_mod at these positions."""
        if (score_mod := self.score_mod) is None:
            return None
        b, h = self.batch[:, None, None, None], self.heads[:, None, None]
        return lambda scores: score_mod(scores, b, h, at_q[:, None], at_k[None, :])

    def _nothing(self, q: Tensor, return_lse: bool) -> tuple[Tensor, Tensor | None]:
        """Zeros, and still functions of q, k and v, so that backward goes through where no query sees a key."""
        parts = q[..., :1] + sum(self._for_heads(x[:, :, :1, :1]) for x in (self.k, self.v))
        zero = parts.masked_fill(torch.ones((), dtype=torch.bool, device=q.device), 0.0)
        wide = torch.promote_types(q.dtype, torch.float32)
        lse = q.new_full(q.shape[:-1], -torch.inf, dtype=wide) if return_lse else None
        return zero.expand(*q.shape[:-1], self.v.shape[-1]), lse


def _positions(columns: np.ndarray[tuple[int], np.dtype[np.int32]], block: int, length: int) -> Tensor:
    """Positions of the keys in the given columns of tiles, ascending."""
    at = (columns.astype(np.int64)[:, None] * block + np.arange(block)).ravel()
    return torch.from_numpy(at[at < length])
