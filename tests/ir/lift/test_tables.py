"""Captured tensors: their names, their copies, and how callables of every kind hold them."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.attention.flex_attention import and_masks, or_masks

import attnmask as am
from attnmask.errors import MaskError

ids = torch.arange(12) // 5


def causal(b: Any, h: Any, q: Any, k: Any) -> Any:
    return q >= k


def by_ids(table: torch.Tensor, b: Any, h: Any, q: Any, k: Any) -> Any:
    return table[q] == table[k]


class Documents:
    def __init__(self, offsets: torch.Tensor) -> None:
        self.offsets = offsets

    def __call__(self, b: Any, h: Any, q: Any, k: Any) -> Any:
        return self.offsets[q] == self.offsets[k]

    def method(self, b: Any, h: Any, q: Any, k: Any) -> Any:
        return self(b, h, q, k) & causal(b, h, q, k)


def window(size: int) -> Any:
    def inner(b: Any, h: Any, q: Any, k: Any) -> Any:
        def near(x: Any, y: Any) -> Any:
            return x - y < size

        return near(q, k)

    return inner


def test_names_of_tables() -> None:
    local = torch.arange(12) % 4
    assert str(am.lift(lambda b, h, q, k: ids[q] == local[k])) == "ids[q] == local[k]"
    assert str(am.lift(Documents(ids))) == "offsets[q] == offsets[k]"
    assert str(am.lift(partial(by_ids, ids))) == "table[q] == table[k]"
    q_ids = k = ids  # a name that the language has another use for
    assert str(am.lift(lambda b, h, x, y: k[x] == q_ids[y])).count("[") == 2


def test_two_tensors_of_one_name_are_two_tables() -> None:
    def over(table: torch.Tensor) -> Any:
        return lambda b, h, q, k: table[q] == table[k]

    mask = am.lift(and_masks(over(ids), over(ids % 2)))
    assert str(mask) == "table[q] == table[k] & table_2[q] == table_2[k]"
    expected = (ids[:, None] == ids) & (ids[:, None] % 2 == ids % 2)
    np.testing.assert_array_equal(mask.dense(12), expected.numpy())


@pytest.mark.parametrize(
    "function",
    [
        and_masks(causal, or_masks(partial(by_ids, ids), window(3))),
        lambda b, h, q, k: Documents(ids).method(b, h, q, k) | (causal(b, h, q, k) & (q - k < 3)),
        partial(lambda limit, b, h, q, k: (q >= k) & ((ids[q] == ids[k]) | (q - k < limit)), 3),
    ],
)
def test_callables_of_every_kind(function: Any) -> None:
    q, k = torch.arange(12)[:, None], torch.arange(12)
    expected = (q >= k) & ((ids[:, None] == ids) | (q - k < 3))
    np.testing.assert_array_equal(am.lift(function).dense(12), expected.numpy())


@pytest.mark.parametrize(
    "dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.bool]
)
def test_tables_of_every_type(dtype: torch.dtype) -> None:
    table = (torch.arange(12) % 3).to(dtype)
    mask = am.lift(lambda b, h, q, k: table[q] == table[k])
    np.testing.assert_array_equal(mask.dense(12), (table[:, None] == table).numpy())


def test_strided_tables_are_read_as_they_are() -> None:
    table = torch.arange(24).view(12, 2).t()[1]
    assert not table.is_contiguous()
    mask = am.lift(lambda b, h, q, k: table[q] > k)
    np.testing.assert_array_equal(mask.dense(12), (table[:, None] > torch.arange(12)).numpy())


def test_a_lifted_mask_keeps_its_own_copy() -> None:
    table = torch.arange(12) // 3
    mask = am.lift(lambda b, h, q, k: table[q] == table[k])
    before = mask.dense(12)
    table.zero_()
    np.testing.assert_array_equal(mask.dense(12), before)
    assert am.lift(lambda b, h, q, k: table[q] == table[k]).dense(12).all()


def test_a_tensor_that_learns_is_refused() -> None:
    table = torch.zeros(4, requires_grad=True)
    with pytest.raises(MaskError, match="float32"):
        am.lift(lambda b, h, q, k: table[q] > 0)


def test_lifted_masks_combine_with_the_language() -> None:
    mask = am.lift(Documents(ids)) & am.library.causal
    expected = (ids[:, None] == ids) & (torch.arange(12)[:, None] >= torch.arange(12))
    np.testing.assert_array_equal(mask.dense(12), expected.numpy())
    assert mask == am.compile("same(offsets) & causal", offsets=ids)


def test_floats_end_where_they_are_no_longer_exact() -> None:
    mask = am.lift(lambda b, h, q, k: (q / 100).floor() >= (k / 100).floor())
    assert mask.made_for.q_len == mask.made_for.kv_len == 1 << 23
    assert mask.tiles(1 << 14).rows == 128
    for further in (mask, mask & am.library.causal, ~mask):
        with pytest.raises(MaskError, match="made for keys below 8388608, and position 8388608") as caught:
            further.dense(1, (1 << 23) + 1)
        assert caught.value.hint is not None and "floats" in caught.value.hint
    with pytest.raises(MaskError, match="made for queries below 8388608, and position 8388611"):
        mask.tiles(4, q_offset=1 << 23)


def test_bounds_of_rows_and_heads_are_taken() -> None:
    def function(b: Any, h: Any, q: Any, k: Any) -> Any:
        return (q >> h) == (k >> h)

    with pytest.raises(am.LiftError, match="the amount of >> may lie in 0…65535"):
        am.lift(function)
    mask = am.lift(function, heads=5)
    for h in range(5):
        np.testing.assert_array_equal(
            mask.dense(40, heads=5)[0, h], (np.arange(40)[:, None] >> h) == (np.arange(40) >> h)
        )
    with pytest.raises(MaskError, match="made for 5 heads and 6 are asked for"):
        (mask & am.library.causal).dense(4, heads=6)
    for wrong in ({"batch": 0}, {"heads": -1}, {"heads": 2.5}):
        with pytest.raises(MaskError, match="must be"):
            am.lift(function, **wrong)
