"""Claims decided by looking at every pair of a dense mask: what every verdict is held against."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
from numpy.typing import NDArray

from attnmask.algebra.verdict import Verdict
from attnmask.errors import MaskError
from attnmask.mask import Mask

Dense = NDArray[np.bool_]  # [B, H, Q, K]
ALL = [(q_len, kv_len) for q_len in range(1, 41) for kv_len in range(1, 41)]
FEW = [(1, 1), (1, 7), (7, 1), (5, 8), (8, 5), (13, 13), (21, 40), (40, 21), (40, 40)]


def _later(dense: Dense, q_offset: int) -> Dense:
    q, k = np.arange(dense.shape[-2])[:, None] + q_offset, np.arange(dense.shape[-1])
    return np.broadcast_to(k > q, dense.shape)


def _symmetric(dense: Dense, q_offset: int) -> bool:
    """Among the positions that are queries and keys."""
    last = min(q_offset + dense.shape[-2], dense.shape[-1])
    square = dense[..., : max(last - q_offset, 0), q_offset:last]
    return bool((square == square.swapaxes(-1, -2)).all())


def _own(dense: Dense, q_offset: int) -> Dense:
    q, k = np.arange(dense.shape[-2])[:, None] + q_offset, np.arange(dense.shape[-1])
    return np.broadcast_to(k >= q, dense.shape)


HOLDS: dict[str, Callable[[Dense, int], bool]] = {
    "causal": lambda dense, offset: not (dense & _later(dense, offset)).any(),
    "strictly_causal": lambda dense, offset: not (dense & _own(dense, offset)).any(),
    "no_empty_rows": lambda dense, offset: bool(dense.any(axis=-1).all()),
    "no_empty_columns": lambda dense, offset: bool(dense.any(axis=-2).all()),
    "symmetric": _symmetric,
}
RELATIONS: dict[str, Callable[[Dense, Dense], bool]] = {
    "contained": lambda one, other: not (one & ~other).any(),
    "equal": lambda one, other: bool((one == other).all()),
    "disjoint": lambda one, other: not (one & other).any(),
}


def dense_of(mask: Mask, q_len: int, kv_len: int, batch: int, heads: int, q_offset: int) -> Dense | None:
    """bool [B, H, Q, K], or None where the call is refused."""
    try:
        return mask.dense(q_len, kv_len, batch=batch, heads=heads, q_offset=q_offset)
    except MaskError:
        return None


def attacked(
    verdict: Verdict,
    claim: str,
    *masks: Mask,
    lengths: Iterable[tuple[int, int]] = FEW,
    batch: int = 1,
    heads: int = 1,
    q_offset: int = 0,
) -> None:
    """Fails where a claim is called proved and some call says otherwise, or a counterexample is none."""
    if verdict:
        for q_len, kv_len in lengths:
            found = [dense_of(mask, q_len, kv_len, batch, heads, q_offset) for mask in masks]
            if all(dense is not None for dense in found):
                where = f"{claim} of {masks} at {q_len} x {kv_len}, {heads} heads, offset {q_offset}"
                assert _decided(claim, found, q_offset), f"called proved, and it is false: {where}"
    if (example := verdict.counterexample) is not None:
        assert verdict.status == "refuted"
        bound = [
            mask.bind(**{n: t for n, t in example.tables.items() if n in mask.unbound}) for mask in masks
        ]
        call = (example.q_len, example.kv_len, example.batch, example.heads, example.q_offset)
        found = [dense_of(mask, *call) for mask in bound]
        assert all(dense is not None for dense in found), "the counterexample's call is refused"
        assert not _decided(claim, found, example.q_offset), (
            f"no counterexample: {claim} of {masks}: {example}"
        )
        _points_at_it(verdict, claim, found)
    assert (verdict.status == "refuted") == (verdict.counterexample is not None)
    assert verdict.status != "unknown" or verdict.reason


def _decided(claim: str, found: list[Dense | None], q_offset: int) -> bool:
    dense = [one for one in found if one is not None]
    return RELATIONS[claim](*dense) if claim in RELATIONS else HOLDS[claim](dense[0], q_offset)


def _points_at_it(verdict: Verdict, claim: str, found: list[Dense | None]) -> None:
    """The counterexample's place is one where the claim fails, and its truths are those of the masks."""
    example = verdict.counterexample
    assert example is not None
    planes = [dense[example.b, example.h] for dense in found if dense is not None]
    if example.k is None:
        assert example.q is not None
        assert not planes[0][example.q - example.q_offset].any()
        return
    if example.q is None:
        assert not planes[0][:, example.k].any()
        return
    row = example.q - example.q_offset
    if claim == "symmetric":
        assert example.truths == (
            planes[0][row, example.k],
            planes[0][example.k - example.q_offset, example.q],
        )
        assert example.truths[0] != example.truths[1]
        return
    assert example.truths == tuple(plane[row, example.k] for plane in planes)
    if claim in RELATIONS:
        assert not RELATIONS[claim](*(np.array([[truth]]) for truth in example.truths))
    else:
        assert example.truths == (True,)
