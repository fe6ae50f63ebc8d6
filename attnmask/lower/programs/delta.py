"""Sparse attention corrected by every n-th row computed densely."""

from __future__ import annotations

from typing import Unpack

import torch

from attnmask.errors import MaskError
from attnmask.ir.choices import choices_of
from attnmask.ir.domain import length
from attnmask.lower.choose.choices import Choices
from attnmask.lower.prepare import Lowerable
from attnmask.lower.programs.attend import Options, attend
from attnmask.lower.programs.written import CAUSAL, scored_like, strided_rows

Tensor = torch.Tensor


def delta(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Lowerable,
    *,
    every: int = 64,
    tail: int | None = None,
    dense: Lowerable | None = None,
    recompute: bool = False,
    choices: Choices | None = None,
    **options: Unpack[Options],
) -> Tensor:
    """Delta Attention: every n-th row is computed densely, and what sparse attention misses there is added around.

    The correction of row i is dense - sparse of row every · (i // every); the last rows are dense themselves.
    Rows are counted from the first query of the call. Dense attention is computed for these rows alone.

    Args:
        q: [B, Hq, Q, D]. k: [B, Hkv, K, D]. v: [B, Hkv, K, Dv].
        mask: what each query sees in sparse attention.
        every: distance of dense rows, in rows.
        tail: how many last rows are dense; Q % every + max(128, every) unless given.
        dense: what each query sees in dense attention; `causal` with the scores of `mask` unless given.
        recompute: only overwrite the dense rows, and leave the rows between them as sparse attention has them.
        choices: where `mask` chooses from q and k: what it chose (`mask.choose`); chosen here unless given.
        options: scale, block, q_offset and backend, as in `attention`.

    Returns:
        [B, Hq, Q, Dv].

    Raises:
        MaskError: when `every` is not positive, `tail` is negative or `dense` chooses from q and k, and where
            `attention` raises it.

    Willette, Lee and Hwang 2025, arXiv:2505.11254.
    """
    every = length("every", every)
    if tail is not None and (not isinstance(tail, int) or tail < 0):
        raise MaskError(f"tail must be a number of rows from 0, not {tail!r}")
    if dense is not None and not hasattr(dense, "predicate"):
        raise MaskError(f"dense must be a mask, not {type(dense).__name__}")
    if dense is not None and choices_of(dense.predicate):
        raise MaskError("dense must not choose from q and k: it is asked about some of the rows alone")
    sparse, _ = attend(q, k, v, mask, choices, **options)
    q_len = q.shape[2]
    tail = q_len % every + max(128, every) if tail is None else tail
    first_dense = max(0, q_len - tail)
    full = scored_like(mask, CAUSAL) if dense is None else dense

    def rows(first: int, stop: int, step: int) -> Tensor:
        """Dense attention of the rows range(first, stop, step)."""
        offset = options.get("q_offset", 0)
        domain = full.domain(q_len, k.shape[2], batch=q.shape[0], heads=q.shape[1], q_offset=offset)
        asked, at = strided_rows(full, domain, first, step)
        here: Options = {**options, "q_offset": at}
        return attend(q[:, :, first:stop:step], k, v, asked, **here)[0]

    parts = []
    if first_dense:
        known, strided = sparse[:, :, :first_dense], rows(0, first_dense, every)
        if recompute:
            parts.append(torch.slice_scatter(known, strided, dim=2, step=every))
        else:
            missed = strided - known[:, :, ::every]
            parts.append(known + missed.repeat_interleave(every, dim=2)[:, :, :first_dense])
    if first_dense < q_len:
        parts.append(rows(first_dense, q_len, 1))
    return torch.cat(parts, dim=2)
