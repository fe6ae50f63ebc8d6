"""A call so small that what a mask chooses in it can be worked out on paper."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import attnmask as am
from attnmask.ir.chosen import dense_with_choices
from attnmask.ir.domain import Domain

Heads = Sequence[Sequence[Any]]


class Call:
    """Heads of one channel, or of vectors; the queries are the last positions.

    `sees`: bool [heads, queries, keys], the same in torch as by the definition.
    """

    def __init__(self, text: str, q: Heads, k: Heads, **given: Any) -> None:
        queries, keys = (torch.tensor(x, dtype=torch.float64) for x in (q, k))
        queries, keys = (x[None, ..., None] if x.dim() == 2 else x[None] for x in (queries, keys))
        self.first = keys.shape[2] - queries.shape[2]
        mask = am.compile(text)
        arrays: dict[str, Any] = {name: torch.tensor(x, dtype=torch.float64) for name, x in given.items()}
        choices = mask.choose(queries, keys, q_offset=self.first, **arrays)
        lengths = queries.shape[2], keys.shape[2]
        self.sees: NDArray[np.bool_] = mask.freeze(choices).dense(
            *lengths, heads=queries.shape[1], q_offset=self.first
        )[0]
        domain = Domain(*lengths, self.first, 1, queries.shape[1])
        defined = dense_with_choices(
            mask.predicate,
            queries.numpy(),
            keys.numpy(),
            domain,
            {},
            {name: x.numpy() for name, x in arrays.items()},
        )
        np.testing.assert_array_equal(self.sees, defined[0])

    def row(self, i: int, h: int = 0) -> list[int]:
        """The keys that position `i` sees."""
        return [int(j) for j in np.flatnonzero(self.sees[h, i - self.first])]


def ones(n: int) -> list[float]:
    return [1.0] * n


def zeros(n: int) -> list[float]:
    return [0.0] * n
