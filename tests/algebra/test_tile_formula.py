"""Formulas of tiles against the search for tiles, which knows nothing of them, and against dense blocks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from numpy.typing import NDArray

import attnmask as am
from attnmask.algebra.tile_formula import TileFormula
from attnmask.ir.evaluate import evaluate
from attnmask.tiles.tilemap import TileMap
from tests.algebra.published import LIBRARY, PUBLISHED
from tests.strategies import Case, cases

NAMED = {**LIBRARY, **PUBLISHED}
WITHOUT = {
    "same(doc)": "doc",
    "before(doc)": "doc",
    "bigbird": "%",
    "clear": "q // 8",
}
LENGTHS = [(1, 1), (7, 30), (30, 7), (32, 32), (33, 41), (64, 64)]


def by_formula(
    formula: TileFormula, q_len: int, kv_len: int, heads: int = 1, batch: int = 1
) -> NDArray[np.uint8]:
    """uint8 [B, H, rows, cols]: 0 empty, 1 partial, 2 full, as `TileMap.dense` has it for each plane."""
    rows, cols = -(-q_len // formula.block[0]), -(-kv_len // formula.block[1])
    at = {
        "q": np.arange(rows)[:, None],
        "k": np.arange(cols),
        "h": np.arange(heads)[:, None, None],
        "b": np.arange(batch)[:, None, None, None],
        **{
            name: np.asarray(size) for name, size in (("Q", q_len), ("K", kv_len), ("H", heads), ("B", batch))
        },
    }
    shape = (batch, heads, rows, cols)
    live, full = (np.broadcast_to(evaluate(part, at, {}), shape) for part in (formula.live, formula.full))
    assert not (full & ~live).any()
    outcome: NDArray[np.uint8] = live.astype(np.uint8) + full
    return outcome


@pytest.mark.parametrize("name", sorted(set(NAMED) - set(WITHOUT)))
@pytest.mark.parametrize("block", [(8, 8), (4, 16), (5, 3)])
def test_formulas_of_library_and_published_masks(name: str, block: tuple[int, int]) -> None:
    mask = NAMED[name]
    try:
        formula = mask.tile_formula(block)
    except am.MaskError as error:
        assert "too long" in str(error)
        assert name in LONG
        return
    for q_len, kv_len in LENGTHS:
        tiles = mask.tiles(q_len, kv_len, block=block, heads=4)
        compare(by_formula(formula, q_len, kv_len, heads=4), tiles, f"{name} {q_len} x {kv_len}\n{formula}")


LONG = frozenset({"swin", "halonet", "maxvit_grid", "maxvit_block", "landmark", "sparse_transformer_fixed"})


@pytest.mark.parametrize("name", WITHOUT)
def test_masks_without_a_formula_say_why(name: str) -> None:
    with pytest.raises(am.MaskError, match="depends on"):
        NAMED[name].tile_formula(8)


def test_text() -> None:
    formula = am.compile("causal & (window(512) | sink(4))").tile_formula(128)
    assert str(formula) == (
        "live: 128 * I - K < 511 & I - J < 5 & J <= I | J == 0\n"
        "full: 128 <= K - 128 * J & J < I & 128 <= Q - 128 * I & I - J < 4"
    )


@settings(deadline=None, max_examples=40)
@given(case=cases(most=40))
def test_formulas_of_random_masks(case: Case) -> None:
    domain = case.call.domain
    try:
        formula = case.mask.tile_formula(case.call.block)
    except am.MaskError:
        assume(False)
    planes = {"heads": domain.heads, "batch": domain.batch}
    tiles = case.mask.tiles(*case.call.lengths, block=case.call.block, **planes)
    compare(by_formula(formula, *case.call.lengths, **planes), tiles, str(formula))


def compare(found: NDArray[np.uint8], tiles: TileMap, message: str) -> None:
    """A TileMap has one plane where the mask does not depend on the batch row or the head."""
    for b, h in np.ndindex(*found.shape[:2]):
        np.testing.assert_array_equal(found[b, h], tiles.dense(b, h), err_msg=message)
