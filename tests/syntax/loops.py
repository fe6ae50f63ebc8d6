"""The meaning of a text, element by element in plain Python, beside what attnmask makes of it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

import attnmask as am

Pair = Callable[[int, int], object]
Element = Callable[[int, int, int, int], object]

# (q_len, kv_len, q_offset): one position, square, wide, tall, a cache. Every position is below 12.
SHAPES = [(1, 1, 0), (7, 7, 0), (5, 9, 0), (9, 5, 0), (6, 11, 5)]
BATCH, HEADS = 2, 3


def means(text: str, meaning: Pair, **bindings: object) -> None:
    """`text` holds for exactly the pairs (q, k) for which `meaning` does."""
    mask = am.compile(text, **bindings)
    for q_len, kv_len, offset in SHAPES:
        expected = [[bool(meaning(q + offset, k)) for k in range(kv_len)] for q in range(q_len)]
        found = mask.dense(q_len, kv_len, q_offset=offset)
        assert found.dtype == np.bool_
        assert found.tolist() == expected, (text, q_len, kv_len, offset)


def means_each(text: str, meaning: Element, **bindings: object) -> None:
    """`text` holds for exactly the (b, h, q, k) for which `meaning` does, in two batch rows and three heads."""
    mask = am.compile(text, **bindings)
    for q_len, kv_len, offset in SHAPES:
        expected = [
            [
                [[bool(meaning(b, h, q + offset, k)) for k in range(kv_len)] for q in range(q_len)]
                for h in range(HEADS)
            ]
            for b in range(BATCH)
        ]
        found = mask.dense(q_len, kv_len, q_offset=offset, batch=BATCH, heads=HEADS)
        assert found.tolist() == expected, (text, q_len, kv_len, offset)
