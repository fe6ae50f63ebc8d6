"""Scores that are made of those of single queries and keys: by hand where softmax is even, else by plain loops."""

from __future__ import annotations

from math import exp, log, sqrt
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.ir.chosen.calls import close, scores

Q, K = [1, 2, 0, 1], [1, 3, 2, 5]
EVEN = [0, 0, 0, 0]  # queries that look evenly at all they see


# ---- exact -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("norm=none, reduce=sum", [[1 + 2 + 6, 0], [1 + 3, 2 + 5]]),
        ("norm=none, reduce=mean", [[3, 0], [1, 7 / 3]]),
        ("norm=none, reduce=max", [[6, 0], [3, 5]]),
        ("norm=none, reduce=sum, causal=false", [[12, 21], [4, 7]]),
        ("norm=none, reduce=sum, stride=2", [[1, 0], [0, 0]]),
    ],
)
def test_exact_products(settings: str, expected: Any) -> None:
    close(scores(f"top(1, exact(2, q_block=2, {settings}))", Q, K), expected)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("reduce=sum", [[1 + 1 / 2 + 1 / 2, 0], [2 / 3 + 1 / 2, 1 / 3 + 1 / 2]]),
        ("reduce=mean", [[2 / 4, 0], [7 / 24, 5 / 24]]),
        ("reduce=max", [[1, 0], [1 / 3, 1 / 3]]),
        ("reduce=sum, causal=false", [[1, 1], [1, 1]]),
        ("reduce=mean, stride=2", [[1, 0], [1 / 2, 1 / 2]]),  # one pair of each four takes part
    ],
)
def test_exact_weights(settings: str, expected: Any) -> None:
    close(scores(f"top(1, exact(2, q_block=2, {settings}))", EVEN, K), expected)


def test_exact_products_are_over_the_root_of_the_dimension() -> None:
    close(scores("top(1, exact(1, norm=none))", [[1, 1, 1, 1]], [[1, 1, 1, 3]]), [6 / 2])


def test_the_stride_counts_positions_and_not_queries() -> None:
    # Of the positions 1, 2, 3 the one that takes part is 2.
    found = scores("top(1, exact(1, q_block=4, reduce=sum, norm=none, stride=2))", [7, 5, 3], [1, 1, 1], 1)
    close(found, [5, 0, 5])


@pytest.mark.parametrize(
    ("heads", "expected"),
    [
        ("each", [[2 / 3, 1 / 3], [1 / 3, 2 / 3]]),
        ("concat", [[1 / 2, 1 / 2]]),  # the logits of the heads cancel
        ("sum", [[1, 1]]),
        ("mean", [[1 / 2, 1 / 2]]),
        ("max", [[2 / 3, 2 / 3]]),
        ("group_sum", [[1, 1]]),
        ("group_mean", [[1 / 2, 1 / 2]]),
        ("group_max", [[2 / 3, 2 / 3]]),
    ],
)
def test_heads_are_reduced_token_by_token(heads: str, expected: Any) -> None:
    q, k = [[[[1]], [[-1]]]], [[[[log(2)], [0]]]]
    for score in (f"exact(1, heads={heads})", f"probe(rows=1, heads={heads})"):
        close(scores(f"top(1, {score})", q, k, 1), expected)


def test_the_proxy_of_heads_is_their_mean() -> None:
    q, k = [[[[1]], [[3]], [[5]], [[9]]]], [[[[1]], [[2]]]]
    close(scores("top(1, exact(1, norm=none, proxy=2))", q, k), [2, 14])
    close(scores("top(1, exact(1, norm=none, proxy=4))", q, k), [4.5 * 1.5])


def test_weights_of_large_products() -> None:
    close(scores("top(1, exact(1))", [1], [-3000, 3000], 1), [0, 1])
    close(scores("top(1, exact(1))", [1], [-3000, -3000], 1), [1 / 2, 1 / 2])


# ---- probe -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("rows=1", [1 / 4, 1 / 4, 1 / 4, 1 / 4]),
        ("rows=2", [7 / 12, 7 / 12, 7 / 12, 1 / 4]),
        ("rows=2, block=3", [21 / 12, 1 / 4]),
        ("rows=9", [1 + 1 / 2 + 7 / 12, 1 / 2 + 7 / 12, 7 / 12, 1 / 4]),
        ("rows=2, width=3", [7 / 12, 7 / 12, (7 / 6 + 1 / 4) / 3, (7 / 12 + 1 / 4) / 2]),
        ("rows=2, causal=false", [1 / 2, 1 / 2, 1 / 2, 1 / 2]),
        ("rows=2, along=diagonals", [7 / 12, 7 / 12, 7 / 12, 1 / 4]),
        ("rows=2, along=diagonals, causal=false", [1 / 2, 1 / 2, 1 / 2, 1 / 4]),
        ("rows=1, along=diagonals, block=2", [1 / 2, 1 / 2]),
    ],
)
def test_probe(settings: str, expected: Any) -> None:
    close(scores(f"top(1, probe({settings}))", EVEN, K), expected)


def test_diagonals_are_counted_from_the_query() -> None:
    q, k = [1.0], [0, log(2), 0, 0]
    # The query at 2 sees three keys, at the distances 2, 1 and 0.
    close(scores("top(1, probe(rows=1, along=diagonals))", q, k, 2), [1 / 4, 1 / 2, 1 / 4])
    # At 5 it sees all four, and nothing lies at the distances 0 and 1.
    close(scores("top(1, probe(rows=1, along=diagonals))", q, k, 5), [0, 0, 1 / 5, 1 / 5, 2 / 5, 1 / 5])


# ---- compressed --------------------------------------------------------------------------------------


def test_compressed_windows_overlap() -> None:
    found = scores("top(1, compressed(block=2, kernel=4, stride=2))", [0] * 8, [0] * 8)[0]
    close(found[2], [0, 0, 0, 0])  # the first window ends at 3
    close(found[3], [1, 1, 0, 0])
    close(found[4], [1, 1, 0, 0])
    close(found[5], [1 / 2, 1, 1 / 2, 0])
    close(found[7], [1 / 3, 2 / 3, 2 / 3, 1 / 3])


def test_a_unit_gets_a_window_as_often_as_it_has_a_stride_of_it() -> None:
    close(scores("top(1, compressed(block=4, kernel=4, stride=2))", [0], [0] * 8, 7), [1, 1])
    # The windows begin at 0 and 2; one at 4 does not fit into 7 keys.
    close(scores("top(1, compressed(block=4, kernel=4, stride=2))", [0], [0] * 7, 7), [1 + 1 / 2, 1 / 2])
    # Of a window of 3 a unit has 3, or 2 and 1: one stride in the larger part.
    close(scores("top(1, compressed(block=4, kernel=3, stride=2))", [0], [0] * 8, 7), [2 / 3, 1 / 3])


def test_compressed_keys_are_means_and_queries_of_a_unit_are_added() -> None:
    k = [3 * log(2), log(2), 0, 0]
    close(scores("top(1, compressed(block=2, kernel=2, stride=2))", [1], k, 3), [4 / 5, 1 / 5])
    two = scores("top(1, compressed(block=2, kernel=2, stride=2, q_block=2))", [1, 0], k, 4)
    close(two, [4 / 5 + 1 / 2, 1 / 5 + 1 / 2])


@pytest.mark.parametrize(
    ("heads", "expected"),
    [
        ("each", [[7 / 6, 5 / 6], [1, 1]]),  # 1/2 + 2/3 and 1/2 + 1/3 in head 0
        ("group_sum", [13 / 6, 11 / 6]),
        ("group_max", [7 / 6, 1]),
        ("concat", [7 / 6, 5 / 6]),
    ],
)
def test_compressed_heads_are_reduced_last(heads: str, expected: Any) -> None:
    q, k = [[[[0], [-1]], [[0], [0]]]], [[[[0], [log(2)]]]]
    score = f"compressed(block=1, kernel=1, stride=1, q_block=4, heads={heads})"
    close(scores(f"top(1, {score})", q, k, 1), expected)


def test_the_largest_sum_of_queries_is_not_the_sum_of_the_largest() -> None:
    q, k = [[[[1], [-1]], [[-1], [1]]]], [[[[0], [log(2)]]]]
    score = "compressed(block=1, kernel=1, stride=1, q_block=4, heads=group_max)"
    close(scores(f"top(1, {score})", q, k, 1), [1, 1])


def test_keys_too_few_for_a_window_score_nothing() -> None:
    close(scores("top(1, compressed(block=2, kernel=4, stride=2))", [1], [1, 2, 3], 7), [0, 0])


# ---- antidiagonal ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "first", "second"),
    [
        ("anti", 2 * 2 + 1 * 4, 2 * 3 + 1 * 1),
        ("diag", 1 * 2 + 2 * 4, 1 * 3 + 2 * 1),
    ],
)
def test_antidiagonal_by_hand(mode: str, first: float, second: float) -> None:
    found = scores(f"top(1, antidiag(stride=2, block=2, mode={mode}))", [1, 2], [2, 4, 3, 1], 2)
    share = exp(first / 2) / (exp(first / 2) + exp(second / 2))
    close(found, [share, 1 - share])


def test_cells_of_a_query_head_are_with_the_keys_of_its_group() -> None:
    q, k = np.ones((1, 4, 1, 1)), [[[[log(2)], [0]], [[0], [log(2)]]]]
    found = scores("top(1, antidiag(stride=1, block=1, causal=false))", q, k)
    close(found, [[2 / 3, 1 / 3]] * 2 + [[1 / 3, 2 / 3]] * 2)


def test_weights_of_cells_are_added() -> None:
    found = scores("top(1, antidiag(stride=1, block=2))", EVEN, K)
    close(found, [[2, 0], [2 / 3 + 1 / 2, 1 / 3 + 1 / 2]])
    close(scores("top(1, antidiag(stride=1, block=2, causal=false))", EVEN, K), [[1, 1], [1, 1]])


@given(
    st.integers(1, 3), st.integers(1, 9), st.integers(1, 9), st.integers(0, 2), st.booleans(), st.booleans()
)
def test_antidiagonal_by_plain_loops(
    stride: int, q_len: int, kv_len: int, cells_before: int, anti: bool, causal: bool
) -> None:
    random = np.random.default_rng(q_len * 10 + kv_len)
    q, k = random.integers(-2, 3, (q_len, 2)), random.integers(-2, 3, (kv_len, 2))
    mode, offset = "anti" if anti else "diag", cells_before * stride
    text = f"top(1, antidiag({stride}, {2 * stride}, {mode}, scale=0.5, causal={str(causal).lower()}))"
    expected: dict[tuple[int, int], float] = {}
    for row in range(-(-q_len // stride)):
        logits = {}
        for column in range(-(-kv_len // stride)):
            if causal and column > row + cells_before:
                continue
            cell = 0
            for r in range(stride):
                at_q, at_k = row * stride + (stride - 1 - r if anti else r), column * stride + r
                if at_q < q_len and at_k < kv_len:
                    cell += int(q[at_q] @ k[at_k])
            logits[column] = cell * 0.5 / (stride * sqrt(2))
        total = sum(exp(logit) for logit in logits.values())
        for column, logit in logits.items():
            at = ((row + cells_before) // 2 - cells_before // 2, column // 2)
            expected[at] = expected.get(at, 0.0) + exp(logit) / total
    found = scores(text, q, k, offset)[0]
    want = [[expected.get((i, u), 0.0) for u in range(found.shape[1])] for i in range(found.shape[0])]
    close(found, want)
