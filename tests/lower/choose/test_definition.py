"""Choices made in torch against their definition in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import attnmask as am
from attnmask.errors import MaskError
from attnmask.ir.chosen import dense_with_choices
from attnmask.ir.domain import Domain
from attnmask.lower.choose.choices import Choices
from tests.lower.choose.random_choices import Drawn, draw


def defined(drawn: Drawn) -> NDArray[np.bool_] | MaskError:
    """The mask by definition, or why it has none."""
    domain = Domain(drawn.q.shape[2], drawn.k.shape[2], drawn.q_offset, *drawn.q.shape[:2])
    arrays = {name: np.asarray(given) for name, given in drawn.given.items()}
    try:
        mask = am.compile(drawn.text)
        return dense_with_choices(mask.predicate, drawn.q, drawn.k, domain, drawn.tables, arrays)
    except MaskError as error:
        return error


def made(drawn: Drawn) -> tuple[am.Mask, Choices] | MaskError:
    """The mask with its tables, and what it chooses."""
    q, k = torch.from_numpy(drawn.q), torch.from_numpy(drawn.k)
    try:
        mask = am.compile(drawn.text).bind(**drawn.tables)
        return mask, mask.choose(q, k, q_offset=drawn.q_offset, **drawn.given)
    except MaskError as error:
        return error


def compare(drawn: Drawn) -> bool:
    """Whether there was something to compare; AssertionError where the two differ."""
    expected, found = defined(drawn), made(drawn)
    if isinstance(expected, MaskError) or isinstance(found, MaskError):
        assert isinstance(expected, MaskError) and isinstance(found, MaskError), (drawn.text, expected, found)
        return False
    mask, choices = found
    batch, heads, q_len, _ = drawn.q.shape
    kv_len = drawn.k.shape[2]
    call = {"batch": batch, "heads": heads, "q_offset": drawn.q_offset}
    dense = mask.freeze(choices).dense(q_len, kv_len, **call)
    np.testing.assert_array_equal(dense, expected, err_msg=drawn.text)
    block_mask = mask.block_mask(q_len, kv_len, block=drawn.block, choices=choices, q_offset=drawn.q_offset)
    _check_tiles(block_mask, expected, drawn)
    return True


def _check_tiles(block_mask: object, expected: NDArray[np.bool_], drawn: Drawn) -> None:
    """Full tiles are full and those that are not listed empty; mask_mod says what the mask says."""
    batch, heads, q_len, kv_len = expected.shape
    at = [
        torch.arange(size).reshape([-1 if axis == n else 1 for n in range(4)])
        for axis, size in enumerate(expected.shape)
    ]
    mask_mod = block_mask.mask_mod  # type: ignore[attr-defined]  # a BlockMask
    element = torch.broadcast_to(mask_mod(*at), expected.shape).numpy()
    np.testing.assert_array_equal(element, expected, err_msg=drawn.text)
    kinds = {"partial": ("kv_num_blocks", "kv_indices"), "full": ("full_kv_num_blocks", "full_kv_indices")}
    listed = np.zeros((batch, heads, -(-q_len // drawn.block[0]), -(-kv_len // drawn.block[1])), np.int64)
    for value, (counts, entries) in enumerate(kinds.values(), start=1):
        number, columns = (getattr(block_mask, name).numpy() for name in (counts, entries))
        for b, h, row in np.ndindex(listed.shape[:3]):
            plane = b % number.shape[0], h % number.shape[1], row
            mine = columns[plane][: number[plane]]
            assert (np.diff(mine) > 0).all()
            listed[b, h, row, mine] += value
    for b, h, row, column in np.ndindex(listed.shape):
        rows, cols = (
            slice(n * size, (n + 1) * size) for n, size in zip((row, column), drawn.block, strict=True)
        )
        tile = expected[b, h, rows, cols]
        whole = tile.shape == drawn.block
        assert listed[b, h, row, column] != 0 or not tile.any(), (drawn.text, "a live tile is not listed")
        assert listed[b, h, row, column] != 2 or (whole and tile.all()), (
            drawn.text,
            "a tile is full that is not",
        )
        assert listed[b, h, row, column] != 3


@pytest.mark.parametrize("part", range(8))
def test_choices_are_what_the_definition_says(part: int) -> None:
    compared = sum(compare(draw(seed)) for seed in range(part * 40, part * 40 + 40))
    assert compared >= 25
