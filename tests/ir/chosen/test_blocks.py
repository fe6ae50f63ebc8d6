"""Scores of pooled units, by hand: pools, norms, heads."""

from __future__ import annotations

from math import exp, sqrt
from typing import Any

import numpy as np
import pytest

from attnmask.errors import MaskError
from tests.ir.chosen.calls import close, picks, scores

UNIT = [[1, 2], [3, 0]]  # the vectors of one unit of keys
# Their products with the mean, (2, 1), are 4 and 6.
LIGHT = 1 / (1 + exp(2 / sqrt(2)))


@pytest.mark.parametrize(
    ("pool", "expected"),
    [
        ("mean", [2, 1]),
        ("max", [3, 2]),
        ("min", [1, 0]),
        ("first", [1, 2]),
        ("scaled_sum", [4 / sqrt(2), 2 / sqrt(2)]),
        ("attention", [LIGHT * 1 + (1 - LIGHT) * 3, LIGHT * 2]),
        ("linear(w, mean)", [2 + 10, 1]),
        ("linear(wh, mean)", [2 + 10, 1]),
    ],
)
def test_pools(pool: str, expected: list[float]) -> None:
    weights = np.asarray([[1, 0], [10, 1]])  # [in, out]
    for axis, x in enumerate([[1, 0], [0, 1]]):
        found = scores(f"top(1, blocks(2, pool={pool}))", [x], UNIT, w=weights, wh=weights[None])
        close(found, expected[axis])
        of_queries = scores(
            f"top(1, blocks(2, q_block=2, q_pool={pool}))", UNIT, [x], w=weights, wh=weights[None]
        )
        close(of_queries, expected[axis])


def test_pools_side_by_side() -> None:
    text = "top(1, blocks(2, pool=concat(max, min), q_pool=concat(mean, first)))"
    close(scores(text, [[1, 10]], UNIT), 3 + 20 + 1 + 0)


def test_bounds_are_the_largest_product_in_the_box() -> None:
    # The box is 1..3 by 0..2.
    for query, largest in (([1, 1], 5), ([1, -1], 3), ([-1, 1], 1), ([-1, -1], -1)):
        close(scores("top(1, blocks(2, pool=bounds))", [query], UNIT), largest)


def test_weights_of_linear_may_differ_by_head() -> None:
    q, k = [[[[1]], [[1]], [[1]], [[1]]]], [[[[1]], [[2]]]]
    of_keys = scores("top(1, blocks(1, pool=linear(w, mean)))", q, k, w=[[[3]], [[5]]])
    close(of_keys, [3, 3, 10, 10])
    of_queries = scores("top(1, blocks(1, q_pool=linear(w, mean)))", q, k, w=[[[1]], [[2]], [[3]], [[4]]])
    close(of_queries, [1, 2, 6, 8])


def test_scale() -> None:
    q, k = [[1, 1, 1, 1]], [[1, 1, 1, 1]]
    close(scores("top(1, blocks(1))", q, k), 4)
    close(scores("top(1, blocks(1, scale=sqrt))", q, k), 2)
    close(scores("top(1, blocks(1, scale=0.5))", q, k), 2)
    wide = "blocks(1, pool=concat(mean, mean, mean, mean), q_pool=concat(mean, mean, mean, mean), scale=sqrt)"
    close(scores(f"top(1, {wide})", q, k), 16 / 4)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("norm=softmax", [[1, 0, 0], [1 / 4, 3 / 4, 0], [1 / 6, 3 / 6, 2 / 6]]),
        ("norm=minmax", [[0, 0, 0], [0, 1, 0], [0, 1, np.log(2) / np.log(3)]]),
    ],
)
def test_norms_are_over_candidates(settings: str, expected: Any) -> None:
    k = np.log([1, 3, 2])
    close(scores(f"causal & top(1, blocks(1, {settings}))", [1, 1, 1], k), expected)


def test_a_counted_unit_that_is_no_candidate_has_no_share() -> None:
    # The keys 0 and 1 have 1/4 and 3/4; the key 2 would have most of all.
    k = np.log([1, 3, 96])
    text = "top_p(0.5, blocks(1, norm=softmax), among=k < 2, count=k == 2)"
    assert picks(text, [1], k) == [[[1, 2]]]
    assert picks(text.replace("0.5", "0.76"), [1], k) == [[[0, 1, 2]]]


def test_rowmax_is_over_candidates() -> None:
    found = scores("causal & top(1, blocks(1, norm=rowmax))", [1, 1], [1, 3])[0]
    close(found[[0, 1, 1], [0, 0, 1]], [0, -2, 0])


@pytest.mark.parametrize(
    ("over", "expected"),
    [
        ("row", [[[0, 1], [0, 1]], [[0, 1], [0, 1]]]),
        ("head", [[[0, 1 / 3], [1 / 3, 1]], [[0, 1 / 3], [1 / 3, 1]]]),
        ("all", [[[0, 1 / 7], [1 / 7, 3 / 7]], [[1 / 7, 3 / 7], [3 / 7, 1]]]),
        ("row_heads", [[[0, 1 / 3], [0, 1 / 3]], [[1 / 3, 1], [1 / 3, 1]]]),
        ("column", [[[0, 0], [1, 1]], [[0, 0], [1, 1]]]),
    ],
)
def test_minmax_is_over_those_that_compete(over: str, expected: Any) -> None:
    # Products 1 2 / 2 4 in head 0 and twice that in head 1.
    q, k = [[[[1], [2]], [[2], [4]]]], [[[[1], [2]]]]
    close(scores(f"top(1, blocks(1, norm=minmax), over={over})", q, k), expected)


@pytest.mark.parametrize(
    ("heads", "expected"),
    [
        ("each", [1, 2, 9, 12]),
        ("group_sum", [3, 21]),
        ("group_mean", [1.5, 10.5]),
        ("group_max", [2, 12]),
        ("sum", [24]),
        ("concat", [24]),
        ("mean", [6]),
        ("max", [12]),
    ],
)
def test_heads(heads: str, expected: list[float]) -> None:
    q, k = [[[[1]], [[2]], [[3]], [[4]]]], [[[[1]], [[3]]]]
    close(scores(f"top(1, blocks(1, heads={heads}))", q, k), expected)


def test_only_concat_comes_before_the_norm() -> None:
    q, k = [[[[1]], [[-1]]]], [[[[0], [np.log(2)]]]]
    close(scores("top(1, blocks(1, heads=concat, norm=softmax))", q, k), [1 / 2, 1 / 2])
    close(scores("top(1, blocks(1, heads=max, norm=softmax))", q, k), [2 / 3, 2 / 3])


def test_heads_are_averaged_for_their_proxy() -> None:
    q, k = [[[[1]], [[3]], [[5]], [[7]]]], [[[[1]], [[3]]]]
    close(scores("top(1, blocks(1, proxy=2))", q, k), [2 * 1, 6 * 3])
    close(scores("top(1, blocks(1, proxy=4))", q, k), [4 * 2])
    close(scores("top(1, blocks(1, proxy=2, heads=max))", q, k), [18])
    with pytest.raises(MaskError, match="3 at a time"):
        scores("top(1, blocks(1, proxy=3))", q, k)
    with pytest.raises(MaskError, match="evenly"):
        scores("top(1, blocks(1, proxy=3))", np.ones((1, 6, 1, 1)), np.ones((1, 3, 1, 1)))


def test_a_candidate_must_be_one_for_all_heads_that_share_it_and_one_head_counts_it() -> None:
    q, k = [[[[1]], [[1]]]], [[[[1], [2], [3]]]]
    text = "top(2, blocks(1, heads=sum), among=h == 0 | k < 2, count=h == 1 & k == 0)"
    assert picks(text, q, k) == [[[0, 1]]]
    assert picks(text.replace("heads=sum", "heads=each"), q, k) == [[[1, 2]], [[0, 1]]]


def test_a_short_last_unit_is_pooled_over_what_there_is() -> None:
    close(scores("top(1, blocks(2, q_block=2))", [1, 3, 5], [1, 2, 6]), [[3, 12], [7.5, 30]])


@pytest.mark.parametrize(
    ("text", "weights", "says"),
    [
        ("top(1, blocks(1, q_pool=bounds))", None, "keys alone"),
        ("top(1, blocks(1, pool=concat(bounds, mean)))", None, "keys alone"),
        ("top(1, blocks(1, pool=concat(mean, mean)))", None, "2 channels, and keys 4"),
        ("top(1, blocks(1, pool=linear(w, mean)))", np.eye(3), "shape"),
        ("top(1, blocks(1, pool=linear(w, mean)))", np.ones((5, 2, 2)), "shape"),
        ("top(1, blocks(1, pool=linear(w, mean)))", np.full((2, 2), np.inf), "not finite"),
        ("top_p(0.5, blocks(1))", None, "norm=none"),
        ("top_p(0.5, blocks(1, norm=rowmax))", None, "norm=rowmax"),
        ("top_p(0.5, exact(1, norm=none))", None, "norm=none"),
    ],
)
def test_scores_that_mean_nothing(text: str, weights: Any, says: str) -> None:
    with pytest.raises(MaskError, match=says):
        scores(text, UNIT, UNIT, w=np.ones(1) if weights is None else weights)
