"""Which units compete with one another."""

from __future__ import annotations

from collections.abc import Iterator
from typing import assert_never

import numpy as np
from numpy.typing import NDArray

from attnmask.ir.rules import Over


def scopes(over: Over, shape: tuple[int, int, int]) -> Iterator[NDArray[np.int64]]:
    """The units of each competition, as places in a flat array of [heads, rows, units], in the order of ties."""
    places = np.arange(np.prod(shape), dtype=np.int64).reshape(shape)
    heads, rows, units = (range(size) for size in shape)
    match over:
        case "row":
            yield from (places[h, row] for h in heads for row in rows)
        case "head":
            yield from (places[h].ravel() for h in heads)
        case "all":
            yield places.ravel()
        case "row_heads":
            yield from (places[:, row].ravel() for row in rows)
        case "column":
            yield from (places[h, :, unit] for h in heads for unit in units)
        case _:
            assert_never(over)
