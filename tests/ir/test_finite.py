"""Which score modifications are known to keep scores finite."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, event, given, settings

import attnmask as am
from attnmask.ir.evaluate import evaluate
from attnmask.ir.finite import stays_finite
from attnmask.ir.nodes import ScoreExpr
from tests.strategies import ARRAYS, Call, calls, scores, sound

TABLES = {
    "bias": np.linspace(-3, 3, 8),
    "hole": np.array([0.0, -np.inf]),
    "unknown": np.array([0.0, np.nan]),
    "flag": np.array([True, False]),
    "empty": np.zeros(0),
}
FINITE = (
    "softcap(30)",
    "s + bias[h] * (q - k)",
    "where(k < 4, s, s - 1000)",
    "s - flag[k] * 3",
    "s / (2 + tanh(s))",
    "log(2 + exp(tanh(s)))",
    "s + exp(60 * tanh(s))",
    "s / (tanh(s) - 3)",
)
UNKNOWN = (
    "s + log(q)",  # log(0) is minus infinity
    "s + log(tanh(s))",
    "where(k < 4, s, -100000.0)",  # so it is in half precision
    "s + hole[k]",
    "s * unknown[k]",
    "s + empty[k]",
    "exp(s)",
    "s / tanh(s)",
    "s / (tanh(s) - 1)",
    "s * s",
    "s + 1 / (1 + k)",  # finite, which takes more than bounds for any length
)


@pytest.mark.parametrize("text", [*FINITE, *UNKNOWN])
def test_texts(text: str) -> None:
    score = am.compile(f"causal with {text}").score
    assert score is not None
    assert stays_finite(score, TABLES) == (text in FINITE)


@settings(max_examples=300)
@given(scores, calls(most=4))
def test_no_score_overflows_where_none_is_said_to(root: ScoreExpr, call: Call) -> None:
    assume(sound(root, call.domain))
    known = stays_finite(root, ARRAYS)
    event(f"finite {known}")
    if known:
        for score in (-(2.0**60), -1.0, 0.0, 1e-30, 30.0, 2.0**60):
            found = evaluate(root, call.domain.arrays(), ARRAYS, np.asarray(score))
            assert (np.abs(found) < np.finfo(np.float32).max).all()
