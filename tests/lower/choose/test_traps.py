"""Traps of fidelity: where implementations of published rules go wrong without a word."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import attnmask as am

Tensor = torch.Tensor


def vectors(rows: list[float], dim: int = 4) -> Tensor:
    """[1, 1, n, dim]: each row is a number in the first channel."""
    x = torch.zeros(1, 1, len(rows), dim, dtype=torch.float64)
    x[0, 0, :, 0] = torch.tensor(rows, dtype=torch.float64)
    return x


def seen(text: str, q: Tensor, k: Tensor, **given: Any) -> NDArray[np.bool_]:
    mask = am.compile(text)
    choices = mask.choose(q, k, check=None, **given)
    return mask.freeze(choices).dense(q.shape[2], k.shape[2], batch=q.shape[0], heads=q.shape[1])


def rows(text: str, q: Tensor, k: Tensor, **given: Tensor) -> list[list[int]]:
    return [np.flatnonzero(row).tolist() for row in seen(text, q, k, **given)[0, 0]]


def test_1_own_block_by_tokens_and_candidates_by_blocks() -> None:
    """A later key of the own block is hidden; a block is a candidate once it has ended, and not before."""
    q, k = vectors([1] * 8), vectors([0, 0, 9, 9, 1, 1, 5, 5])
    found = rows("zoo.moba(2, 2)", q, k)
    assert found[2] == [
        0,
        1,
        2,
    ]  # the own block, up to the query; the better keys 2 and 3 are no earlier block
    assert found[3] == [0, 1, 2, 3]
    assert found[6] == [2, 3, 6]
    assert found[7] == [2, 3, 6, 7]


def test_2_forced_units_use_the_budget_or_do_not() -> None:
    q, k = vectors([1] * 8), vectors([3, 3, 2, 2, 1, 1, 0, 0])
    inside = "top(2, blocks(2), among=k // 2 < q // 2, count=q // 2 == k // 2) & causal"
    outside = "causal & (q // 2 == k // 2 | top(2, blocks(2), among=k // 2 < q // 2))"
    assert rows(inside, q, k)[7] == [0, 1, 6, 7]
    assert rows(outside, q, k)[7] == [0, 1, 2, 3, 6, 7]
    # More than there are: all of them, and nothing that is no candidate.
    assert (
        rows("top(9, blocks(2), among=k // 2 < q // 2)", q, k)
        == [[], []] + [[0, 1]] * 2 + [[0, 1, 2, 3]] * 2 + [[0, 1, 2, 3, 4, 5]] * 2
    )


@pytest.mark.parametrize("k_of", [1, 2, 3])
def test_including_self_is_self_and_one_fewer_of_the_earlier(k_of: int) -> None:
    torch.manual_seed(k_of)
    q, k = (torch.randint(-2, 3, (1, 2, 30, 4)).double() for _ in range(2))
    together = f"causal & top({k_of}, blocks(4), among=k // 4 < q // 4, count=q // 4 == k // 4)"
    apart = "causal & q // 4 == k // 4"
    if k_of > 1:
        apart = f"causal & (q // 4 == k // 4 | top({k_of - 1}, blocks(4), among=k // 4 < q // 4))"
    np.testing.assert_array_equal(
        seen(together, q, k), seen(apart, q, k) if k_of > 1 else am.compile(apart).dense(30, batch=1, heads=2)
    )


def test_3_ties_are_cut_by_number_and_kept_by_threshold() -> None:
    q, k = vectors([1]), vectors([2, 2, 2, 1])
    assert rows("top(2, blocks(1))", q, k) == [[0, 1]]
    assert rows("above(0.5, blocks(1), quantile=true)", q, k) == [[0, 1, 2]]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_4_a_share_of_1_is_all_and_of_0_the_best(dtype: torch.dtype) -> None:
    """Running sums in float32 fall short of 1; whoever compares with them drops units, or whole rows."""
    torch.manual_seed(1)
    q, k = (torch.randn(1, 1, 200, 8, dtype=dtype) * 4 for _ in range(2))
    scored = "blocks(1, q_block=1, norm=softmax)"
    assert seen(f"top_p(1, {scored})", q, k).all()
    np.testing.assert_array_equal(
        seen(f"top_p(0, {scored})", q, k), seen("top(1, blocks(1, q_block=1))", q, k)
    )
    assert (seen(f"top_p(0.5, {scored})", q, k).sum(-1) >= 1).all()


def test_4_the_unit_that_crosses_stays_or_is_dropped() -> None:
    q, given = vectors([1]), torch.tensor([[[[4.0, 3.0, 2.0, 1.0]]]])
    k = vectors([0] * 4)
    assert rows("top_p(0.5, given(g, 1, q_block=1))", q, k, g=given) == [[0, 1]]
    assert rows("top_p(0.5, given(g, 1, q_block=1), crossing=drop, least=1)", q, k, g=given) == [[0]]
    assert rows("top_p(0.7, given(g, 1, q_block=1))", q, k, g=given) == [[0, 1]]
    assert rows("top_p(0.71, given(g, 1, q_block=1))", q, k, g=given) == [[0, 1, 2]]


def test_5_softmax_before_pooling_is_not_pooling_before_softmax() -> None:
    """One sharp key among dull ones: its weight wins by tokens, and drowns in the mean of its block."""
    q, k = vectors([8]), vectors([1, 1, 1, 1, 3, -9, -9, -9])
    assert rows("top(1, exact(4, reduce=sum, causal=false))", q, k) == [[4, 5, 6, 7]]
    assert rows("top(1, blocks(4, norm=softmax))", q, k) == [[0, 1, 2, 3]]


def test_6_minmax_is_not_softmax_and_mass_is_over_candidates() -> None:
    q, k = vectors([1]), vectors([4, 3, 2, 0])
    assert rows("top_p(0.5, blocks(1, norm=minmax))", q, k) == [[0, 1]]  # 1, 0.75, 0.5, 0 of 2.25
    assert rows("top_p(0.5, blocks(1, norm=softmax))", q, k) == [[0]]
    # A block that is no candidate has no part in the mass, however heavy: PBS leaves out the own segment.
    heavy = vectors([1, 0, 9, 9])
    assert rows("top_p(0.6, blocks(1, norm=softmax), among=k < 2)", q, heavy) == [[0]]
    assert rows("top_p(0.8, blocks(1, norm=softmax), among=k < 2)", q, heavy) == [[0, 1]]


def test_7_sets_of_a_group_are_read_by_its_key_head() -> None:
    torch.manual_seed(0)
    q, k = torch.randn(1, 6, 12, 4), torch.randn(1, 2, 12, 4)
    found = seen("top(2, blocks(2, heads=group_sum))", q, k)
    for h in range(6):
        np.testing.assert_array_equal(found[0, h], found[0, h // 3 * 3])
    assert (found[0, 0] != found[0, 3]).any()
    total = (q.view(1, 2, 3, 12, 4).sum(2) @ k.view(1, 2, 6, 2, 4).mean(3).mT)[0]
    best = torch.zeros_like(total, dtype=torch.bool).scatter(-1, total.topk(2).indices, True)
    np.testing.assert_array_equal(found[0, ::3], best.repeat_interleave(2, -1).numpy())


def test_8_a_ragged_last_block_is_the_mean_of_what_there_is() -> None:
    q, k = vectors([1]), vectors([1, 1, 1, 1, 2])  # padded with zeros the mean of the last would be 0.5
    assert rows("top(1, blocks(4))", q, k) == [[4]]
    assert rows("top(1, blocks(4, pool=min))", q, k) == [[4]]
    negative = vectors([-3, -3, -3, -3, -2])
    assert rows("top(1, blocks(4, pool=max))", q, negative) == [[4]]  # zeros would win


def test_9_last_rows_dense_are_rows() -> None:
    torch.manual_seed(0)
    q, k = torch.randn(1, 1, 11, 4), torch.randn(1, 1, 11, 4)
    gates = {"q_gate": torch.randn(12, 4), "k_gate": torch.randn(12, 4)}
    found = seen("zoo.seer_attention(1, 4)", q, k, **gates)[0, 0]
    np.testing.assert_array_equal(found[4:], np.tril(np.ones((11, 11), bool))[4:])
    assert not found[:4].any()


def test_10_scores_are_computed_in_float32() -> None:
    """Products of bfloat16 would tie; autocast does not reach the scores."""
    q = torch.ones(1, 1, 1, 64, dtype=torch.bfloat16)
    k = torch.ones(1, 1, 2, 64, dtype=torch.bfloat16)
    k[0, 0, 1, 0] = 1.0078125  # the sums are 64 and 64.0078125, both 64 in bfloat16
    for enabled in (False, True):
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            assert rows("top(1, blocks(1))", q, k) == [[1]]
            assert rows("top(1, blocks(1))", q.float(), k.float()) == [[1]]


def test_11_lists_and_mask_mod_say_the_same() -> None:
    """A tile that is not listed is one where mask_mod is false, for choices of every query too."""
    torch.manual_seed(0)
    q, k = torch.randn(1, 2, 96, 8), torch.randn(1, 2, 96, 8)
    mask = am.compile("causal & top(1, blocks(8), among=k // 8 < q // 8)")
    choices = mask.choose(q, k)
    block_mask = mask.block_mask(96, block=16, choices=choices)
    dense = mask.freeze(choices).dense(96, batch=1, heads=2)
    listed = block_mask.to_dense()[0].bool().numpy()
    tiles = dense[0].reshape(2, 6, 16, 6, 16).any((2, 4))
    np.testing.assert_array_equal(listed, tiles)


@pytest.mark.parametrize("backend", ["tiled", "flex"])
def test_12_queries_without_keys_give_0(backend: str) -> None:
    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 2, 70, 16) for _ in range(3))
    mask = am.compile(
        "top(1, blocks(16, q_block=16, scale=sqrt, norm=softmax), over=head, among=all) & causal"
    )
    empty = ~torch.from_numpy(mask.freeze(mask.choose(q, k)).dense(70, batch=1, heads=2)).any(-1)
    assert empty.any()
    out = am.attention(q, k, v, mask, backend=backend)  # type: ignore[call-overload]  # one of them
    assert (out[empty] == 0).all()
    assert torch.isfinite(out).all()
