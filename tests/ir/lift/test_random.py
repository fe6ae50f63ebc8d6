"""Random mask functions: what is lifted is what torch computes, on every pair."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch.nn.attention.flex_attention import create_mask

import attnmask as am
from attnmask.errors import MaskError
from attnmask.ir.check import check
from attnmask.ir.dense import dense
from attnmask.ir.domain import Domain
from attnmask.lower.lifting import bound, lifted
from tests.mask_functions import Written, written_masks

SHAPE = (2, 3)
Truth = NDArray[np.bool_]


def by_torch(written: Written, q_len: int, kv_len: int) -> Truth:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's notes on slow batching rules
        return create_mask(written.function, *SHAPE, q_len, kv_len, device="cpu").numpy()


def by_lift(written: Written, q_len: int, kv_len: int) -> Truth:
    return am.lift(written.function).dense(q_len, kv_len, batch=SHAPE[0], heads=SHAPE[1])


def for_lengths(written: Written, q_len: int, kv_len: int) -> Truth:
    """As create_block_mask lifts, which knows the lengths and may compute values for all positions."""
    domain = Domain(q_len, kv_len, 0, *SHAPE)
    found = lifted(written.function, domain, tabulate=True)
    root, tables = bound(found)
    check(root, domain, dict(tables), found.origins)
    return dense(root, domain, {name: data.array for name, data in tables})


@settings(max_examples=250)
@given(written_masks, st.integers(1, 33), st.integers(1, 33))
@example(Written("lambda b, h, q, k: (small[q] + small[k]) > 3"), 33, 33)
@example(Written("lambda b, h, q, k: (octet[q] - k.to(torch.uint8)) < 9"), 30, 31)
@example(Written("lambda b, h, q, k: torch.where(valid[q] & pairs[q, k], q - k, k).int() < 3"), 20, 20)
@example(Written("lambda b, h, q, k: torch.where(q < k, -q, k) % 3 == torch.where(q % 2 == 0, k, 1)"), 12, 9)
@example(Written("lambda b, h, q, k: (q - k) / 2 < (k - 7) / 3"), 12, 19)
@example(Written("lambda b, h, q, k: ((q - k) / 3).to(torch.int64) == -1"), 12, 19)
def test_what_is_lifted_is_what_torch_computes(written: Written, q_len: int, kv_len: int) -> None:
    try:
        expected = by_torch(written, q_len, kv_len)
    except (RuntimeError, AssertionError, IndexError, TypeError):
        assume(False)  # torch does not take this function
    for way in (by_lift, for_lengths):
        try:
            found = way(written, q_len, kv_len)
        except MaskError:
            continue  # not lifted, which is always allowed; the next test counts how often
        np.testing.assert_array_equal(found, np.broadcast_to(expected, found.shape))


def test_most_random_functions_are_lifted() -> None:
    lifted = []

    @settings(max_examples=200, database=None)
    @given(written_masks)
    def attempt(written: Written) -> None:
        try:
            by_torch(written, 9, 9)
        except (RuntimeError, AssertionError, IndexError, TypeError):
            return
        try:
            for_lengths(written, 9, 9)
            lifted.append(True)
        except MaskError:
            lifted.append(False)

    attempt()
    assert len(lifted) > 100
    assert sum(lifted) / len(lifted) > 0.8, f"{sum(lifted)} of {len(lifted)}"


@settings(max_examples=60)
@given(written_masks, st.integers(1, 33), st.integers(1, 33), st.sampled_from([(8, 8), (4, 16), (5, 3)]))
def test_block_masks_are_those_of_torch(
    written: Written, q_len: int, kv_len: int, block: tuple[int, int]
) -> None:
    """Where the function is not lifted torch builds it: the result is the same in any case."""
    function = written.function
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            expected = torch.nn.attention.flex_attention.create_block_mask(
                function, *SHAPE, q_len, kv_len, device="cpu", BLOCK_SIZE=block
            )
        except (RuntimeError, AssertionError, IndexError, TypeError):
            assume(False)
        try:
            found = am.create_block_mask(function, *SHAPE, q_len, kv_len, device="cpu", BLOCK_SIZE=block)
        except MaskError as error:
            pytest.fail(f"torch builds {written.source} and attnmask says {error}")
    assert found.mask_mod is function
    from tests.lower.listed import listed

    assert listed(found) == listed(expected)
