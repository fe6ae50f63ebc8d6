"""Spans: the keys around every unit that is chosen."""

from __future__ import annotations

import numpy as np

from attnmask.errors import MaskError
from attnmask.ir.chosen.call import Bools, Call
from attnmask.ir.chosen.units import Integers, Units
from attnmask.ir.rules import Amount, Spans


def spans(rule: Spans, call: Call, units: Units, taken: Bools) -> Bools:
    """`taken` [B, H, Q, K], pairs whose unit is chosen, grown by the reach of each query on either side."""
    if (np.diff(units.of_keys, axis=-1) < 0).any():
        raise MaskError("spans need units of keys that follow each other", hint="number them by k // n")
    back, ahead = (_reach(amount, call) for amount in (rule.back, rule.ahead))
    # A key is in a span where some chosen key lies at most `ahead` before it or `back` after it.
    k = call.k_positions
    first = np.maximum(k - ahead[..., None], 0)
    stop = np.minimum(k + back[..., None] + 1, len(k))
    before = np.concatenate([np.zeros((*taken.shape[:3], 1), np.int64), taken.cumsum(-1)], axis=-1)
    return np.asarray(np.take_along_axis(before, stop, -1) > np.take_along_axis(before, first, -1))


def _reach(amount: Amount, call: Call) -> Integers:
    """How far a span goes: [B, H, Q]."""
    shape = (call.domain.batch, call.domain.heads, call.domain.q_len)
    found = call.named(amount) if isinstance(amount, str) else np.asarray(amount, np.float64)
    if found.ndim > 3 or any(size not in (1, full) for size, full in zip(found.shape[::-1], shape[::-1])):  # noqa: B905  # leading ones may be left out
        raise MaskError(f"'{amount}' has the shape {found.shape}, which does not broadcast to {shape}")
    if (found < 0).any() or (found != np.floor(found)).any():
        raise MaskError(f"'{amount}' must hold whole numbers from 0")
    return np.broadcast_to(found, shape).astype(np.int64)
