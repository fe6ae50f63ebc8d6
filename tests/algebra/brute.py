"""Claims decided by looking at every pair of a dense mask: what every verdict is held against."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from attnmask.algebra.verdict import Counterexample, Verdict
from attnmask.errors import MaskError
from attnmask.ir.check import check
from attnmask.mask import Mask
from tests.oracle import At, holds

Dense = NDArray[np.bool_]  # [B, H, Q, K]
ALL = [(q_len, kv_len) for q_len in range(1, 41) for kv_len in range(1, 41)]
_MOST_PLACES = 300
LARGER = [(64, 100), (257, 300), (520, 40), (1000, 700)]
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


@lru_cache(maxsize=4096)
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
    if verdict.counterexample is not None:
        _evaluated(verdict.counterexample, claim, masks)
    assert (verdict.status == "refuted") == (verdict.counterexample is not None)
    assert verdict.status != "unknown" or verdict.reason


def _evaluated(example: Counterexample, claim: str, masks: tuple[Mask, ...]) -> None:
    """The masks accept the counterexample's call, and say there what it says that they say."""
    options = {"batch": example.batch, "heads": example.heads, "q_offset": example.q_offset}
    bound = []
    for mask in masks:
        known = mask.bind(**{n: table for n, table in example.tables.items() if n in mask.unbound})
        check(known.predicate, known.domain(example.q_len, example.kv_len, **options), dict(known.tables), {})
        bound.append(known)
    keys = range(example.kv_len) if example.k is None else [example.k]
    queries = range(example.q_offset, example.q_offset + example.q_len) if example.q is None else [example.q]
    if example.q is None or example.k is None:
        assert claim in ("no_empty_rows", "no_empty_columns")
        assert example.truths == (False,)
        places = [(q, k) for q in queries for k in keys]
        if len(places) > _MOST_PLACES:  # a sample of a long row
            places = places[:: len(places) // _MOST_PLACES]
        assert not any(_truth(bound[0], example, q, k) for q, k in places)
        return
    (q,), (k,) = queries, keys
    assert example.q_offset <= q < example.q_offset + example.q_len and 0 <= k < example.kv_len
    if claim == "symmetric":
        assert example.truths == (_truth(bound[0], example, q, k), _truth(bound[0], example, k, q))
        assert example.truths[0] != example.truths[1]
        return
    assert example.truths == tuple(_truth(mask, example, q, k) for mask in bound)
    if claim in RELATIONS:
        assert not RELATIONS[claim](*(np.array([[truth]]) for truth in example.truths))
    else:
        assert example.truths == (True,)
        assert k >= q if claim == "strictly_causal" else k > q


def _truth(mask: Mask, example: Counterexample, q: int, k: int) -> bool:
    """By the oracle, in plain Python numbers."""
    sizes = {"Q": example.q_len, "K": example.kv_len, "B": example.batch, "H": example.heads}
    at = {"b": example.b, "h": example.h, "q": q, "k": k, **sizes}
    return holds(mask.predicate, At(at, {name: data.array.tolist() for name, data in mask.tables}))


def _decided(claim: str, found: list[Dense | None], q_offset: int) -> bool:
    dense = [one for one in found if one is not None]
    return RELATIONS[claim](*dense) if claim in RELATIONS else HOLDS[claim](dense[0], q_offset)
