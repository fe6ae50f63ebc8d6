"""The predicate for partial tiles says the same as the mask at every pair of a partial tile."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

import attnmask as am
from attnmask.ir.dense import dense
from attnmask.ir.nodes import Predicate
from attnmask.ir.text import to_text
from attnmask.mask import Mask
from attnmask.tiles.specialise import on_partial_tiles
from attnmask.tiles.tilemap import TileMap
from tests.strategies import Case, cases


def specialised(mask: Mask, tiles: TileMap, **call: int) -> Predicate:
    domain = mask.domain(tiles.q_len, tiles.kv_len, **call)
    return on_partial_tiles(mask.predicate, tiles, domain, dict(mask.tables))


@pytest.mark.parametrize(
    ("text", "q_len", "expected"),
    [
        ("causal & same(i // 1024)", 4096, "k <= q"),  # chunks of whole tiles
        ("causal & same(i // 100)", 4096, "k <= q & q // 100 == k // 100"),
        ("causal & (window(512) | sink(4))", 4096, "k <= q & (abs(q - k) < 512 | k < 4)"),
        ("causal & (window(5000) | sink(4))", 4096, "k <= q"),
        ("causal & k < K & q < 100k", 1000, "k <= q"),
        ("causal | k < 256", 1024, "k <= q"),
    ],
)
def test_examples(text: str, q_len: int, expected: str) -> None:
    mask = am.compile(text)
    assert to_text(specialised(mask, mask.tiles(q_len))) == expected


def test_sizes_stay_variables() -> None:
    """A length as a constant would be a new kernel for each length."""
    mask = am.compile("causal & k >= K - 100 & k < 100000")
    assert to_text(specialised(mask, mask.tiles(1000))) == "k <= q & K - 100 <= k"


@settings(deadline=None, max_examples=80)
@given(case=cases())
def test_random_masks(case: Case) -> None:
    mask, call = case.mask, case.call
    tiles = mask.tiles(*call.lengths, block=call.block, **call.options)
    found = specialised(mask, tiles, **call.options)
    tables = case.arrays
    expected, shorter = (dense(root, call.domain, tables) for root in (mask.predicate, found))
    for b, h in np.ndindex(*tiles.plane_of.shape):
        for row, col in np.argwhere(tiles.dense(b, h) == 1):
            at = (
                b,
                h,
                slice(row * call.block[0], (row + 1) * call.block[0]),
                slice(col * call.block[1], (col + 1) * call.block[1]),
            )
            np.testing.assert_array_equal(shorter[at], expected[at])
