"""The selectors on small matrices of scores, against plain loops that ask of each unit how many beat it."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from math import floor, sqrt
from typing import Any, get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnmask.errors import MaskError
from attnmask.ir import predicate
from attnmask.ir.chosen import chosen
from attnmask.ir.domain import Domain
from attnmask.ir.index import var
from attnmask.ir.rules import Above, Counted, Given, Over, Selected, Selector, Top, TopP

Cell = tuple[int, int, int]
OVER = get_args(Over)
AT = [var("b"), var("h"), var("q"), var("k")]


@dataclass(frozen=True)
class Case:
    """Scores [B, sets, rows, keys]; candidates and counted pairs are [B, heads, rows, keys]."""

    scores: np.ndarray[Any, Any]
    among: np.ndarray[Any, Any]
    count: np.ndarray[Any, Any]

    def choose(self, selector: Selector, **given: Any) -> np.ndarray[Any, Any]:
        tables = {"among": self.among, "count": self.count}
        among, count = (predicate.bool_table(name, AT) for name in tables)
        choice = predicate.choice(Selected(selector, Given("s")), var("q"), var("k"), among, count)
        batch, heads, rows, keys = self.among.shape
        arrays = {"s": self.scores} | {name: np.asarray(array) for name, array in given.items()}
        q, k = np.zeros((batch, heads, rows, 1)), np.zeros((batch, self.scores.shape[1], keys, 1))
        return chosen(choice, q, k, Domain(rows, keys, 0, batch, heads), tables, arrays)


@st.composite
def cases(draw: st.DrawFn) -> Case:
    batch, sets, rows, keys = (draw(st.integers(1, most)) for most in (2, 2, 3, 5))
    heads = sets * draw(st.integers(1, 2))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    shape = (batch, heads, rows, keys)
    return Case(
        random.integers(0, draw(st.integers(1, 4)), (batch, sets, rows, keys)).astype(float),
        random.random(shape) < draw(st.sampled_from([0.3, 0.8, 1.0])),
        random.random(shape) < draw(st.sampled_from([0.0, 0.1, 0.4])),
    )


tops = st.one_of(
    st.builds(Top, st.integers(1, 6).map(float), st.just("number"), st.sampled_from(OVER)),
    st.builds(
        Top,
        st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]),
        st.sampled_from(["ratio", "ratio_causal"]),
        st.sampled_from(OVER),
    ),
)
# Shares of whole numbers by quarters are exact.
shares = st.builds(
    TopP,
    st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]),
    st.sampled_from(OVER),
    st.sampled_from(["keep", "drop"]),
    st.integers(1, 3),
    st.none() | st.integers(3, 5),
)
thresholds = st.one_of(
    st.builds(Above, st.integers(-1, 4).map(float), st.just(False), st.sampled_from(OVER)),
    st.builds(Above, st.sampled_from([0.0, 0.25, 0.5, 1.0]), st.just(True), st.sampled_from(OVER)),
)


def compete(over: Over, one: Cell, other: Cell) -> bool:
    same = [a == b for a, b in zip(one, other, strict=True)]
    needed = {"row": (0, 1), "head": (0,), "all": (), "row_heads": (1,), "column": (0, 2)}[over]
    return all(same[axis] for axis in needed)


def expected(case: Case, selector: Selector) -> np.ndarray[Any, Any]:
    result = np.zeros(case.scores.shape, bool)
    for b in range(len(result)):
        heads, rows, keys = map(range, result.shape[1:])
        cells = list(product(heads, rows, keys))
        group = case.among.shape[1] // result.shape[1]
        pairs = {c: [(b, c[0] * group + g, *c[1:]) for g in range(group)] for c in cells}
        candidates = {c for c in cells if all(case.among[at] for at in pairs[c])}
        forced = {c for c in cells if any(case.count[at] for at in pairs[c])}
        for c in cells:
            rivals = [other for other in cells if compete(selector.over, c, other)]
            weights = {other: float(case.scores[(b, *other)]) for other in rivals}
            there = forced.intersection(rivals)
            wins = c in candidates and wins_over(selector, c, weights, candidates.intersection(rivals), there)
            result[(b, *c)] = c in forced or wins
    return result


def wins_over(
    selector: Selector, c: Cell, weights: dict[Cell, float], candidates: set[Cell], forced: set[Cell]
) -> bool:
    better = {
        o for o in candidates - forced if weights[o] > weights[c] or (weights[o] == weights[c] and o < c)
    }
    place = len(forced) + len(better)
    match selector:
        case Top(amount, of):
            assert isinstance(amount, float)
            n, rows = len(weights), len({cell[:2] for cell in weights})
            if of == "number":
                return place < amount * (1 if selector.over == "column" else rows)
            return place < max(1, floor(n * (amount if of == "ratio" else 1 - sqrt(1 - amount))))
        case TopP(p, _, crossing, least, most):
            assert isinstance(p, float)
            total = sum(weights[o] for o in candidates | forced)
            before = sum(weights[o] for o in forced | better)
            enough = before < p * total if crossing == "keep" else before + weights[c] <= p * total
            return (p == 1 or enough or place < least) and (most is None or place < most)
        case Above(threshold, quantile):
            assert isinstance(threshold, float)
            above = [o for o in candidates if weights[o] > weights[c]]
            if quantile:
                return len(above) < max(1, floor((1 - threshold) * len(candidates)))
            return weights[c] > threshold


@given(cases(), tops)
def test_top_takes_what_is_beaten_by_few_enough(case: Case, selector: Selector) -> None:
    np.testing.assert_array_equal(case.choose(selector), expected(case, selector))


@given(cases(), shares)
def test_top_p_takes_what_is_beaten_by_little_enough(case: Case, selector: Selector) -> None:
    np.testing.assert_array_equal(case.choose(selector), expected(case, selector))


@given(cases(), thresholds)
def test_above_takes_what_is_high_enough(case: Case, selector: Selector) -> None:
    np.testing.assert_array_equal(case.choose(selector), expected(case, selector))


@given(cases(), tops | shares | thresholds)
def test_counted_units_are_always_taken_and_others_are_candidates(case: Case, selector: Selector) -> None:
    found = case.choose(selector)
    by_set = (*found.shape[:2], -1, *found.shape[2:])
    forced, candidates = case.count.reshape(by_set).any(2), case.among.reshape(by_set).all(2)
    assert (found >= forced).all()
    assert (found <= (forced | candidates)).all()


@given(cases(), st.integers(1, 4))
def test_a_row_takes_as_many_as_there_are_up_to_its_number(case: Case, number: int) -> None:
    found = case.choose(Top(float(number), "number", "row"))
    by_set = (*found.shape[:2], -1, *found.shape[2:])
    forced, candidates = case.count.reshape(by_set).any(2), case.among.reshape(by_set).all(2)
    n_forced, n_free = forced.sum(-1), (candidates & ~forced).sum(-1)
    np.testing.assert_array_equal(found.sum(-1), n_forced + np.clip(number - n_forced, 0, n_free))


@given(cases(), st.integers(1, 3), st.sampled_from(["row", "head", "all", "row_heads"]))
def test_a_counted_number_is_that_of_the_other_rule(case: Case, number: int, over: Over) -> None:
    same_in_all_rows = Counted(Selected(Top(float(number), "number", "row"), Given("s")))
    capped = min(number, case.scores.shape[3])
    np.testing.assert_array_equal(
        case.choose(Top(same_in_all_rows, "number", over)), case.choose(Top(float(capped), "number", over))
    )


def of(*rows: list[float]) -> Case:
    scores = np.asarray(rows)[None, None]
    return Case(scores, np.ones(scores.shape, bool), np.zeros(scores.shape, bool))


def taken(case: Case, selector: Selector, **given: Any) -> list[list[int]]:
    return [np.flatnonzero(row).tolist() for row in case.choose(selector, **given)[0, 0]]


@pytest.mark.parametrize(
    ("selector", "rows"),
    [
        (Top(2.0, "number", "row"), [[1, 3], [0, 1]]),  # two of three that are equal: the lower ones
        (Top(1.0, "number", "head"), [[1, 3], []]),  # two of all
        (Top(2.0, "number", "head"), [[1, 3], [0, 1]]),
        (Top(1.0, "number", "column"), [[1, 3], [0, 2]]),
        (Top(0.3, "ratio", "row"), [[1], [0]]),  # of four
        (Top(0.75, "ratio_causal", "head"), [[1, 3], [0, 1]]),  # half of eight
        (TopP(0.5, "row", "keep", 1, None), [[1], [0, 1]]),  # 4 of 8; 2 and 4 of 6
        (TopP(0.5, "row", "drop", 1, None), [[1], [0]]),
        (TopP(0.25, "row", "drop", 1, None), [[1], [0]]),  # at least one
        (TopP(0.0, "row", "keep", 2, None), [[1, 3], [0, 1]]),
        (TopP(1.0, "row", "keep", 1, None), [[0, 1, 2, 3], [0, 1, 2, 3]]),  # the one without weight too
        (TopP(1.0, "row", "keep", 1, 3), [[0, 1, 3], [0, 1, 2]]),
        (Above(2.0, False, "row"), [[1, 3], []]),
        (TopP(0.75, "row", "drop", 1, None), [[1], [0, 1]]),  # 4 of 8, 7 would be too much; 4 of 4.5
        (TopP(0.875, "row", "drop", 1, None), [[1, 3], [0, 1]]),  # 7 of 7
        (Above(0.75, True, "row"), [[1], [0, 1, 2]]),  # those that equal the last
        (Above(1.0, True, "row"), [[1], [0, 1, 2]]),  # at least one
    ],
)
def test_two_rows_by_hand(selector: Selector, rows: list[list[int]]) -> None:
    case = of([1, 4, 0, 3], [2, 2, 2, 0])
    assert taken(case, selector) == rows


def test_counted_units_use_up_the_number() -> None:
    case = of([5, 4, 3, 2])
    case.count[0, 0, 0, 3] = case.count[0, 0, 0, 2] = True
    assert taken(case, Top(3.0, "number", "row")) == [[0, 2, 3]]
    assert taken(case, Top(1.0, "number", "row")) == [[2, 3]]
    # 5 of 14 are counted; 5 more make 10, which is enough for half and not for 0.75.
    assert taken(case, TopP(0.5, "row", "keep", 1, None)) == [[0, 2, 3]]
    assert taken(case, TopP(0.75, "row", "keep", 1, None)) == [[0, 1, 2, 3]]
    assert taken(case, TopP(0.75, "row", "drop", 1, None)) == [[0, 2, 3]]


def test_counted_units_are_some_of_the_most() -> None:
    case = of([5, 4, 3, 2])
    case.count[0, 0, 0, 3] = True
    assert taken(case, TopP(1.0, "row", "keep", 1, 3)) == [[0, 1, 3]]
    case.count[0, 0, 0, :] = True
    assert taken(case, TopP(1.0, "row", "keep", 1, 3)) == [[0, 1, 2, 3]]


def test_a_ratio_is_one_of_all_units_and_not_of_candidates() -> None:
    case = of([5, 4, 3, 2])
    case.among[0, 0, 0, :2] = False
    assert taken(case, Top(0.5, "ratio", "row")) == [[2, 3]]
    assert taken(case, Above(0.5, True, "row")) == [[2]]


def test_a_counted_unit_that_is_no_candidate_has_a_weight() -> None:
    case = of([5, 4, 3])
    case.among[0, 0, 0, 0], case.count[0, 0, 0, 0] = False, True
    assert taken(case, TopP(0.25, "row", "keep", 1, None)) == [[0]]
    assert taken(case, TopP(0.5, "row", "keep", 1, None)) == [[0, 1]]


def test_rows_without_candidates_stay_empty() -> None:
    case = of([5, 4], [3, 2])
    case.among[0, 0, 0] = False
    for selector in (Top(2.0, "number", "row"), TopP(1.0, "row", "keep", 2, None), Above(0.0, True, "row")):
        assert taken(case, selector)[0] == []
    # Its number is there for the other rows of the head.
    assert taken(case, Top(1.0, "number", "head")) == [[], [0, 1]]


def test_amounts_by_name_are_one_or_one_a_head() -> None:
    scores = np.asarray([[[3.0, 2, 1]], [[1, 2, 3]]])[None]
    case = Case(scores, np.ones(scores.shape, bool), np.zeros(scores.shape, bool))
    assert case.choose(Top("n", "number", "row"), n=2).sum(-1).tolist() == [[[2], [2]]]
    assert case.choose(Top("n", "number", "row"), n=[1, 3]).sum(-1).tolist() == [[[1], [3]]]
    assert case.choose(Top("n", "number", "all"), n=[1, 3]).sum() == 4
    assert case.choose(Above("t", False, "row"), t=[2.0, 0.0]).sum(-1).tolist() == [[[1], [3]]]
    assert case.choose(TopP("p", "row", "keep", 1, None), p=[0.5, 1.0]).sum(-1).tolist() == [[[1], [3]]]


@pytest.mark.parametrize(
    ("selector", "amount", "says"),
    [
        (Top("x", "number", "row"), 1.5, "whole numbers"),
        (Top("x", "number", "row"), -1, "whole numbers"),
        (Top("x", "number", "row"), [1, 2, 3], "shape"),
        (Top("x", "ratio", "row"), 1.5, "between 0 and 1"),
        (Top("x", "ratio", "all"), [0.5, 1], "the same share"),
        (TopP("x", "row", "keep", 1, None), -0.1, "between 0 and 1"),
        (TopP("x", "all", "keep", 1, None), [0.5, 1], "the same share"),
        (Above("x", False, "row"), np.nan, "not finite"),
        (Above("x", True, "row"), 2, "between 0 and 1"),
        (Above("x", True, "row_heads"), [0.5, 1], "the same share"),
        (Above("y", False, "row"), 1, "'y' is not given"),
    ],
)
def test_amounts_that_mean_nothing(selector: Selector, amount: object, says: str) -> None:
    scores = np.ones((1, 2, 1, 3))
    case = Case(scores, scores > 0, scores < 0)
    with pytest.raises(MaskError, match=says):
        case.choose(selector, x=amount)


def test_negative_weights_have_no_share() -> None:
    with pytest.raises(MaskError, match="negative"):
        taken(of([1, -1]), TopP(0.5, "row", "keep", 1, None))


def test_a_number_by_rows_is_none_for_columns() -> None:
    counted = Counted(Selected(Top(1.0, "number", "row"), Given("s")))
    with pytest.raises(MaskError, match="columns"):
        taken(of([1, 2]), Top(counted, "number", "column"))
