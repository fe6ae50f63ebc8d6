"""Units of positions: which exist, which are candidates, and which are counted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from attnmask.errors import MaskError
from attnmask.ir import index, predicate
from attnmask.ir.chosen import chosen, meaning, unit_scores
from attnmask.ir.domain import Domain
from attnmask.ir.index import var
from attnmask.ir.nodes import Choice, Index, Predicate
from attnmask.ir.rules import Blocks, Counted, Exact, Over, Pool, Probe, ScoreMap, Selected, Top
from tests.ir.chosen.calls import choice_in, picks, scores, vectors

MEAN = Pool("mean")
Q, K = var("q"), var("k")


def top(
    number: float,
    q_unit: Index,
    k_unit: Index,
    among: Predicate = predicate.TRUE,
    score: ScoreMap = Blocks(MEAN, MEAN, 1.0, "each", "none"),  # noqa: B008  # it cannot change
    over: Over = "row",
) -> Choice:
    return predicate.choice(Selected(Top(number, "number", over), score), q_unit, k_unit, among)


def in_call(choice: Choice, q: Any, k: Any, tables: Any, q_offset: int = 0) -> list[list[list[list[int]]]]:
    q, k = vectors(q), vectors(k)
    domain = Domain(q.shape[2], k.shape[2], q_offset, *q.shape[:2])
    found = chosen(choice, q, k, domain, tables, {})
    return [[[np.flatnonzero(row).tolist() for row in of_set] for of_set in of_row] for of_row in found]


def test_candidates_have_all_of_their_pairs_among_the_allowed() -> None:
    # Blocks of 2 keys; the last one has one key.
    assert picks("causal & top(9, blocks(2))", [1] * 5, [1] * 5) == [[[], [0], [0], [0, 1], [0, 1, 2]]]
    # Blocks of 2 queries: all of them must see the block.
    assert picks("causal & top(9, blocks(2, q_block=2))", [1] * 5, [1] * 5) == [[[], [0], [0, 1, 2]]]


def test_one_counted_pair_counts_its_units() -> None:
    text = "causal & top(1, blocks(2, q_block=2), count=(q == 0 & k == 4))"
    assert picks(text, [1] * 5, [1] * 5) == [[[2], [0], [0]]]


def test_queries_are_those_of_the_call() -> None:
    # Positions 3, 4, 5 are in the units 1 and 2 of queries, which become 0 and 1.
    text = "causal & top(9, blocks(2, q_block=2))"
    assert picks(text, [1] * 3, [1] * 6, 3) == [[[0, 1], [0, 1]]]  # the call has no query at 2
    assert picks(text, [1] * 3, [1] * 4, 3) == [[[0, 1], [0, 1]]]


def test_units_may_leave_numbers_out() -> None:
    doc = np.asarray([4, 4, 1, 1])
    q_unit, k_unit = index.table("doc", [Q]), index.table("doc", [K])
    choice = top(1, q_unit, k_unit)
    # The units 0, 2 and 3 do not exist: neither their rows nor their scores.
    assert in_call(choice, [1, 1, 1, 1], [1, 1, 5, 5], {"doc": doc}) == [[[[1], [], [], [1]]]]
    assert in_call(choice, [1, 1, 1, 1], [-1, -1, -5, -5], {"doc": doc}) == [[[[4], [], [], [4]]]]
    # What is not there takes no part of a ratio: half of the four that are.
    half = predicate.choice(
        Selected(Top(0.5, "ratio", "head"), Blocks(MEAN, MEAN, 1.0, "each", "none")),
        q_unit,
        k_unit,
        predicate.TRUE,
    )
    assert in_call(half, [1, 1, 1, 1], [1, 1, 5, 5], {"doc": doc}) == [[[[1], [], [], [1]]]]
    # Two rows of the head exist, and bring one each.
    head = top(1, q_unit, k_unit, over="head")
    assert in_call(head, [1, 1, 3, 3], [1, 1, 5, 5], {"doc": doc}) == [[[[1], [], [], [1]]]]


def test_units_may_differ_between_batch_rows_and_heads() -> None:
    doc = np.asarray([[0, 0, 1], [0, 1, 1]])
    k = np.asarray([[[[1], [1], [9]]], [[[1], [9], [9]]]], float)
    by_row = top(1, index.const(0), index.table("doc", [var("b"), K]))
    assert in_call(by_row, np.ones((2, 1, 1, 1)), k, {"doc": doc}) == [[[[1]]], [[[1]]]]
    scored = unit_scores(by_row, np.ones((2, 1, 1, 1)), k, Domain(1, 3, 0, 2, 1), {"doc": doc}, {})
    assert scored.scores.tolist() == [[[[1, 9]]], [[[1, 9]]]]

    by_head = top(1, index.const(0), index.table("doc", [var("h"), K]))
    domain, q = Domain(1, 3, 0, 1, 2), np.ones((1, 2, 1, 1))
    scored = unit_scores(by_head, q, k[:1], domain, {"doc": doc}, {})
    assert scored.scores.tolist() == [[[[1, 9]], [[1, 5]]]]
    assert meaning(by_head, q, k[:1], domain, {"doc": doc}, {}).tolist() == [
        [[[False, False, True]], [[False, True, True]]]
    ]
    shared = top(1, index.const(0), by_head.k_unit, score=Blocks(MEAN, MEAN, 1.0, "sum", "none"))
    with pytest.raises(MaskError, match="same units"):
        chosen(shared, q, k[:1], domain, {"doc": doc}, {})


def test_a_query_head_uses_the_key_head_of_its_group() -> None:
    q = [[[[1]], [[1]], [[1]], [[1]]]]
    k = [[[[1], [2]], [[2], [1]]]]
    assert picks("top(1, blocks(1))", q, k) == [[[1]], [[1]], [[0]], [[0]]]


def test_heads_in_a_row_share_a_set() -> None:
    q, k = np.ones((1, 4, 1, 1)), np.asarray([[[[1.0], [2]], [[2], [1]]]])
    choice = choice_in("top(1, blocks(1, heads=group_sum))")
    found = meaning(choice, q, k, Domain(1, 2, 0, 1, 4), {}, {})[0, :, 0]
    assert found.argmax(1).tolist() == [1, 1, 0, 0]


def test_units_of_keys_are_counted_from_zero() -> None:
    with pytest.raises(MaskError, match="-1"):
        in_call(top(1, Q, index.sub(K, index.const(1))), [1], [1], {})
    # Those of queries may begin anywhere.
    assert in_call(top(1, index.sub(Q, index.const(7)), K), [1], [1], {}) == [[[[0]]]]


@pytest.mark.parametrize("units", [(K, K), (Q, Q), (Q, index.sub(Q, K))])
def test_a_unit_depends_on_its_own_position(units: tuple[Index, Index]) -> None:
    with pytest.raises(MaskError, match="own position"):
        in_call(top(1, *units), [1, 1], [1, 1], {})


# ---- probes: one row for all queries -----------------------------------------------------------------


def test_a_unit_of_a_probe_is_a_candidate_where_any_pair_is() -> None:
    # Causal alone would leave the key 2 to the query at 2 only.
    assert picks("causal & top(9, probe(rows=1))", [1, 1, 1], [1, 1, 1]) == [[[0, 1, 2]]]
    assert picks("k < q & top(9, probe(rows=1))", [1, 1, 1], [1, 1, 1]) == [[[0, 1]]]


def test_a_unit_of_a_probe_is_a_candidate_for_all_heads_that_share_it() -> None:
    q, k = np.ones((1, 2, 2, 1)), np.ones((1, 1, 2, 1))
    text = "top(9, probe(rows=1, heads=sum), among=h == 0 | k == 1 & q == 0)"
    assert picks(text, q, k) == [[[1]]]
    assert picks(text.replace("heads=sum", "heads=each"), q, k) == [[[0, 1]], [[1]]]


def test_candidates_along_diagonals_have_keys_up_to_the_query() -> None:
    text = "top(9, probe(rows=1, along=diagonals), among=k != q)"
    assert picks(text, [1, 1], [1, 1]) == [[[1]]]  # (0, 1) lies on no diagonal
    later = "top(9, probe(rows=1, along=diagonals), among=k > q, count=k > q)"
    assert picks(later, [1, 1], [1, 1]) == [[[]]]


def test_diagonals_that_the_call_does_not_have() -> None:
    # Positions 5 and 6 with three keys: the distances 3 to 6.
    assert picks("top(9, probe(rows=1, along=diagonals))", [1, 1], [1, 1, 1], 5) == [[[3, 4, 5, 6]]]


def test_the_best_diagonals_of_all_queries() -> None:
    # The last query, at 3, looks at the key 1: at the distance 2.
    q, k = [0, 0, 0, 1], [0, 9, 0, 0]
    text = "top(2, probe(rows=1, along=diagonals), count=k == q)"
    assert picks(text, q, k) == [[[0, 2]]]
    domain = Domain(4, 4)
    found = meaning(choice_in(text), vectors(q), vectors(k), domain, {}, {})[0, 0]
    expected = [[row - key in (0, 2) for key in range(4)] for row in range(4)]
    np.testing.assert_array_equal(np.tril(found), expected)


# ---- given scores ------------------------------------------------------------------------------------


def test_given_scores_are_for_one_head_a_group_or_each() -> None:
    q, k = np.ones((1, 4, 1, 1)), np.ones((1, 2, 2, 1))
    for heads in (1, 2, 4):
        est = np.eye(2)[np.arange(heads) % 2].reshape(1, heads, 1, 2)
        assert len(picks("top(1, given(est, 1, 1))", q, k, est=est)) == heads
    assert picks("top(1, given(est, 1, 1))", q, k, est=[[[[0, 1]], [[1, 0]]]]) == [[[1]], [[0]]]


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ((2, 1, 1, 2), "does not fit"),
        ((1, 3, 1, 2), "3 heads, not 1, 2 or 4"),
        ((1, 1, 2, 2), "does not fit"),
        ((1, 1, 1, 3), "3 units of keys, and there are 2"),
        ((1, 1, 2), "3 dimensions"),
    ],
)
def test_given_scores_that_do_not_fit(shape: tuple[int, ...], says: str) -> None:
    with pytest.raises(MaskError, match=says):
        picks("top(1, given(est, 1, 1))", np.ones((1, 4, 1, 1)), np.ones((1, 2, 2, 1)), est=np.ones(shape))


def test_scores_that_are_not_given() -> None:
    with pytest.raises(MaskError, match="'est' is not given"):
        picks("top(1, given(est, 1, 1))", [1], [1])


# ---- what has no meaning -----------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_numbers_that_are_not_finite(bad: float) -> None:
    for q, k, est in (([bad], [1], [1]), ([1], [bad], [1]), ([1], [1], [bad])):
        with pytest.raises(MaskError, match="not finite"):
            picks("top(1, given(est, 1, 1))", q, k, est=vectors(est))


@pytest.mark.parametrize(
    ("q", "k", "domain", "says"),
    [
        ((1, 1, 2, 1), (1, 1, 2, 1), Domain(3, 2), "q has the shape"),
        ((1, 2, 2, 1), (1, 1, 2, 1), Domain(2, 2), "q has the shape"),
        ((1, 2, 1), (1, 1, 2, 1), Domain(2, 2, 0, 1, 1), "q has the shape"),
        ((1, 1, 2, 1), (1, 1, 2, 1), Domain(2, 3), "k has the shape"),
        ((1, 1, 2, 1), (1, 1, 2, 2), Domain(2, 2), "k has the shape"),
        ((1, 1, 2, 1), (1, 2, 1), Domain(2, 2), "k has the shape"),
        ((1, 1, 2, 2), (1, 1, 2), Domain(2, 2), "k has the shape"),
        ((2, 1, 2, 1), (1, 1, 2, 1), Domain(2, 2, 0, 2), "k has the shape"),
        ((1, 3, 2, 1), (1, 2, 2, 1), Domain(2, 2, 0, 1, 3), "3 query heads cannot share 2"),
    ],
)
def test_arrays_that_do_not_fit(q: tuple[int, ...], k: tuple[int, ...], domain: Domain, says: str) -> None:
    with pytest.raises(MaskError, match=says):
        chosen(choice_in("top(1, blocks(1))"), np.ones(q), np.ones(k), domain, {}, {})


@pytest.mark.parametrize(
    ("text", "q_offset", "says"),
    [
        ("top(1, antidiag(2, block=4))", 1, "begin at 1, which is not a multiple of 2"),
        ("top(1, antidiag(2, block=3))", 0, "blocks of 3"),
        ("top(1, antidiag(8, block=12))", 0, "blocks of 12"),  # though the call is shorter than one cell
        ("top(1, antidiag(2, block=1))", 0, "whole cells"),
        ("top(1, probe(rows=1, width=2))", 0, "odd"),
        ("top(1, probe(rows=1, width=3, along=diagonals))", 0, "diagonals have none"),
    ],
)
def test_positions_that_do_not_fit(text: str, q_offset: int, says: str) -> None:
    with pytest.raises(MaskError, match=says):
        scores(text, [1, 1, 1, 1], [1, 1, 1, 1], q_offset)


def test_cells_lie_in_one_unit() -> None:
    doc = np.asarray([0, 0, 0, 1])
    text = choice_in("top(1, antidiag(2, block=2))")
    unit = index.table("doc", [K])
    uneven = predicate.choice(text.rule, index.const(0), unit, predicate.TRUE)
    with pytest.raises(MaskError, match="whole cells"):
        in_call(uneven, [1] * 4, [1] * 4, {"doc": doc})
    assert in_call(uneven, [1] * 4, [1] * 4, {"doc": np.asarray([0, 0, 1, 1])}) == [[[[0]]]]


def test_numbers_counted_in_other_units() -> None:
    of_diagonals = Selected(Top(1.0, "number", "row"), Probe(1, "diagonals", "each", True))
    score = Exact("sum", "softmax", "each", True)
    choice = predicate.choice(
        Selected(Top(Counted(of_diagonals), "number", "row"), score), Q, K, predicate.TRUE
    )
    with pytest.raises(MaskError, match="diagonals"):
        in_call(choice, [1], [1], {})


def test_heads_that_share_a_ranking_take_as_many_as_each_counts() -> None:
    text = "top(above(0, given(counted, 1, q_block=1)), given(ranking, 1, q_block=1), among=all)"
    counted = [[[[1, -1, -1]], [[1, 1, -1]]]]
    found = picks(
        text, np.ones((1, 2, 1, 1)), np.ones((1, 1, 3, 1)), counted=counted, ranking=[[[[5, 7, 6]]]]
    )
    assert found == [[[1]], [[1, 2]]]
