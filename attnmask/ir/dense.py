"""A predicate on every pair of a call: the definition, applied in portions of bounded memory."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnmask.errors import MaskError
from attnmask.ir.domain import Domain
from attnmask.ir.evaluate import evaluate
from attnmask.ir.nodes import Predicate

MOST_PAIRS = 1 << 32
_PORTION = 1 << 22


def dense(root: Predicate, domain: Domain, tables: Mapping[str, NDArray[Any]]) -> NDArray[np.bool_]:
    """bool [batch, heads, q_len, kv_len]. MaskError where that would not fit into memory."""
    shape = (domain.batch, domain.heads, domain.q_len, domain.kv_len)
    pairs = domain.batch * domain.heads * domain.q_len * domain.kv_len
    if pairs > MOST_PAIRS:
        raise MaskError(
            f"a dense mask of {pairs} pairs would not fit into memory",
            hint="tiles(), report() and show() work at any length",
        )
    result = np.empty(shape, np.bool_)
    variables = domain.arrays()
    q = variables["q"]
    step = max(1, _PORTION * domain.q_len // pairs)
    for first in range(0, domain.q_len, step):
        rows = slice(first, first + step)
        result[:, :, rows] = evaluate(root, {**variables, "q": q[:, :, rows]}, tables)
    return result
