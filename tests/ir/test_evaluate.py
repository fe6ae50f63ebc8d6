"""The definition, `ir/evaluate.py`, against the oracle that knows nothing of it."""

from __future__ import annotations

import math
from typing import get_args

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import attnmask as am
from attnmask.ir.check import check
from attnmask.ir.domain import Domain
from attnmask.ir.evaluate import evaluate
from attnmask.ir.nodes import Choice, Index, Predicate, ScoreExpr
from tests.oracle import At, elements, holds, integer, real
from tests.strategies import (
    ARRAYS,
    ENTRIES,
    INDEX,
    PREDICATE,
    SCORE,
    Call,
    Case,
    calls,
    cases,
    indices,
    scores,
    sound,
)

small_calls = calls(most=6)


@pytest.mark.parametrize(("union", "rules"), [(Index, INDEX), (Predicate, PREDICATE), (ScoreExpr, SCORE)])
def test_the_strategies_have_a_rule_for_every_kind_of_node(union: object, rules: dict[type, object]) -> None:
    # What a choice is becomes known with q and k: see tests/lower/choose.
    assert set(rules) == set(get_args(union)) - {Choice}


@given(cases(most=6))
def test_masks_mean_what_the_oracle_says(case: Case) -> None:
    dense = case.mask.dense(*case.call.lengths, **case.call.options)
    expected = [holds(case.mask.predicate, at) for at in elements(case.call.domain, ENTRIES)]
    np.testing.assert_array_equal(dense.ravel(), expected)


@given(indices, small_calls)
def test_integers_mean_what_the_oracle_says(root: Index, call: Call) -> None:
    assume(sound(root, call.domain))
    found = evaluate(root, call.domain.arrays(), ARRAYS)
    shape = (call.domain.batch, call.domain.heads, call.domain.q_len, call.domain.kv_len)
    expected = [integer(root, at) for at in elements(call.domain, ENTRIES)]
    np.testing.assert_array_equal(np.broadcast_to(found, shape).ravel(), expected)


@settings(max_examples=40)
@given(scores, calls(most=4), st.floats(-4, 4))
def test_scores_mean_what_the_oracle_says(root: ScoreExpr, call: Call, score: float) -> None:
    assume(sound(root, call.domain))
    shape = (call.domain.batch, call.domain.heads, call.domain.q_len, call.domain.kv_len)
    with np.errstate(all="ignore"):  # infinities and NaN are values here
        found = evaluate(root, call.domain.arrays(), ARRAYS, np.full(shape, score))
    at_score = [At(at.variables, at.tables, score) for at in elements(call.domain, ENTRIES)]
    expected = [real(root, at) for at in at_score]
    np.testing.assert_allclose(np.broadcast_to(found, shape).ravel(), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("q // -3 == k - 3", lambda q, k: math.floor(q / -3) == k - 3),
        ("(q - 4) % -3 == -k", lambda q, k: (q - 4) - -3 * math.floor((q - 4) / -3) == -k),
        ("(q - 5) // 3 + 2 == k", lambda q, k: math.floor((q - 5) / 3) + 2 == k),
        ("((q - 4) & 3) == k", lambda q, k: int(np.binary_repr(q - 4, 8), 2) % 4 == k),
        ("(-q ^ 5) == k - 8", lambda q, k: int(np.bitwise_xor(-q, 5)) == k - 8),
        ("k <= q < k + 2", lambda q, k: k <= q and q < k + 2),
        ("k in 2:5 & q not in 3", lambda q, k: 2 <= k < 5 and q != 3),
    ],
)
def test_signs_and_rounding_are_those_of_python(text: str, expected: object) -> None:
    assert callable(expected)
    want = [[expected(q, k) for k in range(8)] for q in range(8)]
    np.testing.assert_array_equal(am.compile(text).dense(8), want)


def test_variables_cover_offset_and_sizes() -> None:
    mask = am.compile("q == 5 & k == K - 1 & h == H - 1 & b == B - 1 & Q == 3")
    dense = mask.dense(3, 4, batch=2, heads=2, q_offset=4)
    assert np.argwhere(dense).tolist() == [[1, 1, 1, 3]]


def test_a_domain_lists_positions_from_its_offset() -> None:
    arrays = Domain(3, 2, 7, 1, 2).arrays()
    assert [arrays[name].ravel().tolist() for name in "bhqkQK"] == [[0], [0, 1], [7, 8, 9], [0, 1], [3], [2]]


@given(cases(most=12))
def test_check_runs_on_every_case(case: Case) -> None:
    narrow = check(case.mask.predicate, case.call.domain, dict(case.mask.tables), {})
    assert isinstance(narrow, bool)
