"""Keys pooled over cells of tokens, and one softmax over tokens and pooled tokens."""

from __future__ import annotations

import math
from typing import NamedTuple, Unpack

import torch
from torch.nn.functional import pad

from attnmask.errors import MaskError
from attnmask.ir.choices import choices_of
from attnmask.ir.domain import length
from attnmask.lower.attention import factor_of_scores
from attnmask.lower.choose.choices import Choices, choose
from attnmask.lower.prepare import Lowerable
from attnmask.lower.programs.attend import Options, attend, require_tensors
from attnmask.lower.programs.combine import merge

Tensor = torch.Tensor

# The score of a cell without tokens: finite in every dtype and for every kernel, and its exponential is 0.
_NO_TOKENS = -30000.0


class Pooled(NamedTuple):
    """One key and one value for each of C cells of tokens.

    `keys` [B, Hkv, C, D]. `values` [B, Hkv, C, Dv]. `counts` [B, Hkv, C], in float32 or wider: how many tokens a
    cell stands for, 0 for an empty cell, which no query then sees.
    """

    keys: Tensor
    values: Tensor
    counts: Tensor


def pool_keys(
    k: Tensor, v: Tensor, block: int | None = None, *, ids: Tensor | None = None, cells: int | None = None
) -> Pooled:
    """The mean key and the mean value of each cell, and how many tokens it has.

    Args:
        k: [B, Hkv, K, D]. v: [B, Hkv, K, Dv].
        block: cell c holds the tokens c · block up to (c + 1) · block; the last cell holds what is left.
        ids: or the cell of every token, integers that broadcast to [B, Hkv, K]; a negative one is in no cell.
        cells: how many cells there are, with `ids`; nothing waits for the device to find their largest.

    Raises:
        MaskError: unless `block` or (`ids` and `cells`) is given, and when shapes disagree. An id of `cells` or
            more is one too on the CPU, and an error of torch's elsewhere.
    """
    require_tensors(k=k, v=v)
    if k.dim() != 4 or v.dim() != 4 or k.shape[:3] != v.shape[:3]:
        raise MaskError(f"k {tuple(k.shape)} and v {tuple(v.shape)} differ in batch, heads or length")
    if not k.shape[2]:
        raise MaskError("there are no tokens to pool")
    if ids is None and block is not None and cells is None:
        return _of_blocks(k, v, length("block", block))
    if ids is None or cells is None or block is not None:
        raise MaskError("cells are given by a block length, or by ids and their number")
    return _of_ids(k, v, ids, length("cells", cells))


def _of_blocks(k: Tensor, v: Tensor, block: int) -> Pooled:
    kv_len = k.shape[2]
    cells = -(-kv_len // block)
    wide = torch.promote_types(k.dtype, torch.float32)
    counts = (kv_len - torch.arange(cells, device=k.device) * block).clamp(max=block).to(wide)
    keys, values = (
        pad(x.to(wide), (0, 0, 0, cells * block - kv_len)).reshape(*x.shape[:2], cells, block, -1).sum(dim=3)
        / counts[:, None]
        for x in (k, v)
    )
    return Pooled(keys.to(k.dtype), values.to(v.dtype), counts.expand(*k.shape[:2], cells))


def _of_ids(k: Tensor, v: Tensor, ids: Tensor, cells: int) -> Pooled:
    require_tensors(ids=ids)
    if ids.is_floating_point() or ids.dtype == torch.bool:
        raise MaskError(f"ids must be integers, not {ids.dtype}")
    if ids.device.type == "cpu" and bool((ids >= cells).any()):
        raise MaskError(f"there are {cells} cells, counted from 0, and a token is in cell {int(ids.max())}")
    try:
        ids = ids.expand(k.shape[:3])
    except RuntimeError:
        raise MaskError(
            f"ids {tuple(ids.shape)} do not broadcast to batch, heads and length of k {tuple(k.shape)}"
        ) from None
    wide = torch.promote_types(k.dtype, torch.float32)
    counts = sums(torch.ones_like(ids, dtype=wide)[..., None], ids, cells)
    keys, values = (sums(x.to(wide), ids, cells) / counts.clamp(min=1) for x in (k, v))
    return Pooled(keys.to(k.dtype), values.to(v.dtype), counts[..., 0])


def sums(x: Tensor, ids: Tensor, cells: int) -> Tensor:
    """x [B, H, K, D] and ids [B, H, K] → the sum of each cell's rows, [B, H, cells, D]; negative ids are dropped."""
    # Row 0 gathers what is in no cell.
    at = (ids.long().clamp(min=-1) + 1)[..., None].expand(x.shape)
    return x.new_zeros(*x.shape[:2], cells + 1, x.shape[-1]).scatter_add(2, at, x)[:, :, 1:]


def attend_pooled(
    q: Tensor, pooled: Pooled, mask: Lowerable, choices: Choices | None = None, **options: Unpack[Options]
) -> tuple[Tensor, Tensor]:
    """Attention to pooled tokens, where the logarithm of its count is added to a cell's score.

    Where the keys of a cell are equal this is attention to its tokens. Counts stay on their device and get no
    gradient.

    Args:
        q: [B, Hq, Q, D].
        pooled: C cells.
        mask: which query sees which cell; its k is the number of the cell.
        choices: where `mask` chooses from q and the pooled keys: what it chose; chosen here unless given.
        options: scale, block, q_offset and backend, as in `attention`.

    Returns:
        out [B, Hq, Q, Dv] and lse [B, Hq, Q]; 0 and -inf for a query that sees no token. A sum of scores below
        exp(-15000) counts as none.

    Raises:
        MaskError: when shapes disagree, or the scale's size is not between 2^-14 and 2^14.
    """
    keys, values, counts = pooled
    if keys.dim() != 4 or values.shape[:3] != keys.shape[:3] or counts.shape != keys.shape[:3]:
        raise MaskError(
            f"pooled keys {tuple(keys.shape)}, values {tuple(values.shape)} and counts {tuple(counts.shape)} "
            "differ in batch, heads or cells"
        )
    if q.dim() != 4:
        raise MaskError(f"q must have 4 dimensions [batch, heads, length, head_dim], not {q.dim()}")
    scale = factor_of_scores(q, options.get("scale"))
    if choices is None and choices_of(mask.predicate):
        # Not from the longer ones, in whose products the counts are.
        choices = choose(mask, q, keys, {}, q_offset=options.get("q_offset", 0), check=None)
    longer_q, longer_keys = _with_counts(q, keys, counts, scale)
    given: Options = {**options, "scale": scale}
    out, lse = attend(longer_q, longer_keys, values, mask, choices, **given)
    nothing = lse < _NO_TOKENS / 2
    return torch.where(nothing[..., None], 0.0, out), lse.masked_fill(nothing, -torch.inf)


def _with_counts(q: Tensor, keys: Tensor, counts: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """q and keys with two channels more, which add log(count) to q · key · scale.

    As channels and not as a table of scores: tables live on the host. In q they are a power of two near
    1 / scale, exact in every dtype; in the keys the logarithm, and what rounding to the dtype left of it.
    """
    if not 2.0**-14 <= abs(scale) <= 2.0**14:
        raise MaskError(f"the scale must be between 2^-14 and 2^14 in size to weight cells, not {scale}")
    factor = 2.0 ** -round(math.log2(abs(scale)))
    present = counts > 0
    logarithm = counts.detach().masked_fill(~present, 1.0).log().masked_fill(~present, _NO_TOKENS)
    wanted = logarithm / (scale * factor)
    high = wanted.to(keys.dtype)
    low = (wanted - high.to(wanted.dtype)).to(keys.dtype)
    longer_q = torch.cat([q, q.new_full((*q.shape[:-1], 2), factor)], dim=-1)
    return longer_q, torch.cat([keys, torch.stack([high, low], dim=-1)], dim=-1)


def attend_with_pooled(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Lowerable,
    pooled: Pooled,
    pooled_mask: Lowerable,
    choices: Choices | None = None,
    **options: Unpack[Options],
) -> tuple[Tensor, Tensor]:
    """One softmax over tokens and pooled tokens, whose scores get the logarithm of their counts added.

        pooled = pool_keys(k, v, 64)
        far = am.compile("(k + 1) * 64 <= q - 256")  # cell k is wholly further back than 256 tokens
        near = am.compile("causal & k >= (q - 256) // 64 * 64")
        out, lse = attend_with_pooled(q, k, v, near, pooled, far)

    Args:
        q: [B, Hq, Q, D]. k: [B, Hkv, K, D]. v: [B, Hkv, K, Dv].
        mask: which query sees which token itself.
        pooled: C cells.
        pooled_mask: which query sees which cell; its k is the number of the cell. A token that a query sees
            itself and in a cell counts twice.
        choices: where `mask` chooses from q and k: what it chose (`mask.choose`); chosen here unless given.
        options: scale, block, q_offset and backend, as in `attention`.

    Returns:
        out [B, Hq, Q, Dv] and lse [B, Hq, Q]. Exactly attention to all tokens where keys of a cell are equal.

    Raises:
        MaskError: as `attention`, and when the pooled shapes disagree.

    Combiner (Ren et al. 2021, arXiv:2107.05768) and Transformer-VQ (Lingle 2023, arXiv:2309.16354) attend so.
    """
    tokens = attend(q, k, v, mask, choices, **options)
    return merge([tokens, attend_pooled(q, pooled, pooled_mask, **options)])
