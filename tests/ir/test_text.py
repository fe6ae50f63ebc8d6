"""Printing: what is printed compiles again, to a mask that means the same."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings

import attnmask as am
from attnmask.ir.evaluate import evaluate
from attnmask.ir.nodes import ScoreExpr
from attnmask.ir.predicate import TRUE
from attnmask.ir.score import SCORE, arith
from attnmask.mask import Mask
from tests.strategies import ARRAYS, Call, Case, calls, cases, scores, sound, tables_of


@settings(max_examples=200)
@given(cases(most=12))
def test_printed_masks_mean_the_same(case: Case) -> None:
    again = am.compile(str(case.mask), **case.arrays)
    lengths, options = case.call.lengths, case.call.options
    np.testing.assert_array_equal(
        again.dense(*lengths, **options), case.mask.dense(*lengths, **options), err_msg=str(case.mask)
    )


@given(cases(most=12))
def test_printing_settles(case: Case) -> None:
    once = str(am.compile(str(case.mask), **case.arrays))
    assert str(am.compile(once, **case.arrays)) == once


@given(scores, calls(most=5))
def test_printed_scores_mean_the_same(root: ScoreExpr, call: Call) -> None:
    assume(sound(root, call.domain))
    root = arith("+", SCORE, root)  # a modification of scores takes notice of them
    tables = tuple(sorted(tables_of(root).items()))
    text = str(Mask(TRUE, root, tables))
    again = am.compile(text, **{name: ARRAYS[name] for name, _ in tables}).score
    assert again is not None
    values = call.domain.arrays()
    with np.errstate(all="ignore"):
        found, expected = (evaluate(score, values, ARRAYS, np.asarray(0.75)) for score in (again, root))
    np.testing.assert_allclose(found, expected, rtol=1e-9, err_msg=text)


@pytest.mark.parametrize(
    ("text", "printed"),
    [
        ("causal", "k <= q"),
        ("window(512)", "abs(q - k) < 512"),
        ("not (causal | sink(4))", None),
        ("k + (-q) // 2 >= 0", None),
        ("-(q // 2) - k >= -5", None),
        ("k + (-q) % 4 >= 3", None),
        ("-3 * (q // 2) - (q % 3) * k >= -9", None),
        ("((doc[q] + 0) & doc[k]) != 0", None),
        ("~(q < k ^ live[q]) | ~live[k] & q != k", None),
        ("((q ^ k) & 5) == 1", None),
        ("q - (k - (q - 4)) * -2 <= -7", None),
        ("where(q < 3, -q, k // 2) - -k > 2", None),
    ],
)
def test_known_texts(text: str, printed: str | None) -> None:
    bindings = {name: ARRAYS[name] for name in ("doc", "live") if f"{name}[" in text}
    mask = am.compile(text, **bindings)
    if printed is not None:
        assert str(mask) == printed
    np.testing.assert_array_equal(am.compile(str(mask), **bindings).dense(12), mask.dense(12))


def test_shared_parts_get_names_that_no_table_has() -> None:
    """Texts that would be long name their shared parts; a table may be called t1 as well."""
    part = am.compile("abs(t1[q] - k) // 3 < 2", t1=np.arange(9))
    mask = part
    for number in range(12):
        mask = (mask ^ am.compile(f"q % {number + 2} == 0")) & (mask | am.compile(f"k % {number + 2} == 1"))
    text = str(mask)
    assert text.startswith("let ") and len(text) < 5000
    np.testing.assert_array_equal(am.compile(text, t1=np.arange(9)).dense(9), mask.dense(9))


def test_shared_terms_keep_their_sign() -> None:
    mask = am.compile("none")
    for number in range(150):
        mask |= am.compile(f"k - 3 * (q // 4) == {number} & {number} * k - 3 * (q // 4) < 5")
    assert "let " in str(mask)
    assert " = -3 * " in str(mask)
    np.testing.assert_array_equal(am.compile(str(mask)).dense(30), mask.dense(30))


def test_deep_masks_compile_again() -> None:
    mask = am.compile("causal")
    turns = [am.compile(f"(q * {i} + k) % 7 == 3") for i in range(1, 9)]
    for number in range(150):
        mask = mask ^ turns[number % 8] if number % 2 else mask | turns[number % 8]
    np.testing.assert_array_equal(am.compile(str(mask)).dense(6), mask.dense(6))
