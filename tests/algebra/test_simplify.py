"""Simplifying changes no truth, makes nothing costlier, and is told step by step."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import attnmask as am
from attnmask.algebra.cost import operations
from attnmask.algebra.laws import rewrite
from attnmask.ir.evaluate import evaluate
from attnmask.ir.text import to_text
from attnmask.mask import Mask
from tests.algebra.pairs import Pair, pairs
from tests.algebra.published import LIBRARY, PUBLISHED
from tests.algebra.test_redundant import CALLS, MASKS, compiled
from tests.strategies import ARRAYS, Case, cases


def same_everywhere(mask: Mask, simple: Mask, lengths: list[tuple[int, int]], **planes: int) -> None:
    for q_len, kv_len in lengths:
        for q_offset in (0, 5):
            call = {"q_offset": q_offset, **planes}
            expected = mask.dense(q_len, kv_len, **call)
            found = simple.dense(q_len, kv_len, **call)
            np.testing.assert_array_equal(found, expected, err_msg=f"{mask} became {simple}")


ALL = [(q_len, kv_len) for q_len in range(1, 13) for kv_len in range(1, 13)]
NAMED = {**LIBRARY, **PUBLISHED}


@pytest.mark.parametrize("name", NAMED)
def test_library_and_published_masks(name: str) -> None:
    mask = NAMED[name]
    simple = mask.simplify()
    assert operations(simple.predicate) <= operations(mask.predicate)
    if mask.unbound:
        mask, simple = mask.bind(doc=ARRAYS["doc"]), simple.bind(doc=ARRAYS["doc"])
    same_everywhere(mask, simple, [*ALL[::5], (30, 40), (64, 64)], batch=1, heads=3)


@pytest.mark.parametrize("pair", pairs("simplify.txt"), ids=lambda pair: pair.heading)
def test_examples(pair: Pair) -> None:
    mask = am.compile(pair.given)
    found = mask.simplification()
    assert to_text(found.after) == pair.expected == str(mask.simplify())
    assert found.steps
    assert operations(found.after) <= operations(rewrite(mask.predicate))


@pytest.mark.parametrize("pair", MASKS, ids=lambda pair: pair.heading)
def test_redundant_masks(pair: Pair) -> None:
    mask = compiled(pair.given)
    simple = mask.simplify()
    assert operations(simple.predicate) <= operations(rewrite(mask.predicate))
    for q_len, kv_len, q_offset in CALLS:
        call = {"batch": 3, "heads": 10, "q_offset": q_offset}
        np.testing.assert_array_equal(
            simple.dense(q_len, kv_len, **call), mask.dense(q_len, kv_len, **call), err_msg=str(simple)
        )


def test_operations_saved() -> None:
    """What is to be reached is a quarter."""
    masks = [am.compile(pair.given) for pair in MASKS]
    counts = [(operations(mask.predicate), operations(mask.simplify().predicate)) for mask in masks]
    before, after = (sum(count) for count in zip(*counts, strict=True))
    assert len(masks) == 30
    assert all(less <= more for more, less in counts)
    assert after <= 0.6 * before


def test_what_cannot_be_made_cheaper_is_left_alone() -> None:
    mask = am.compile("causal & q - k < 512")
    assert mask.simplify() == mask
    assert mask.simplification().steps == ()


def test_steps_are_equal_where_they_stand() -> None:
    """The last step leads to the result, and every step names a rule and makes a change."""
    found = am.compile("causal & (window(512) | sink(4) | k == 4) & causal").simplification()
    assert all(step.rule and step.before is not step.after for step in found.steps)
    assert operations(found.after) < operations(found.before)


def test_terms_that_lengths_decide() -> None:
    mask = am.compile("causal & window(512) & k < 100000")
    short = mask.simplify(q_len=300)
    assert str(short) == "k <= q"
    same_everywhere(mask, short, [(250, 250), (295, 10)])
    with pytest.raises(am.MaskError):
        short.tiles(301, 300)
    with pytest.raises(am.MaskError):
        short.tiles(300, 300, q_offset=1)
    assert str(mask.simplify(q_len=600, kv_len=600)) == "k <= q & q - k < 512"


@pytest.mark.parametrize("lengths", [{"q_len": 0}, {"kv_len": -3}, {"heads": 0}, {"q_len": "many"}])
def test_lengths_that_make_no_sense(lengths: dict[str, int]) -> None:
    with pytest.raises(am.MaskError):
        am.library.causal.simplify(**lengths)


def test_a_table_that_disappears_still_limits_the_lengths() -> None:
    mask = am.compile("causal & (same(doc) | ~same(doc))", doc=np.zeros(20, int))
    one = am.compile("causal & doc[q] == doc[k]", doc=np.zeros(20, int)).simplify()
    for simple in (mask, one):
        assert str(simple) == "k <= q"
    assert one.dense(20).sum() == 210
    with pytest.raises(am.MaskError):
        one.dense(21)


def test_scores_stay() -> None:
    mask = am.compile("causal & causal & window(9) & window(5) with softcap(30)")
    assert str(mask.simplify()) == "k <= q & q - k < 5 with 30.0 * tanh(s / 30.0)"


@settings(deadline=None, max_examples=80)
@given(case=cases(most=24), with_lengths=st.booleans())
def test_random_masks(case: Case, with_lengths: bool) -> None:
    check_simplified(case, with_lengths)


def check_simplified(case: Case, with_lengths: bool) -> None:
    domain = case.call.domain
    lengths = {"q_len": domain.q_len + domain.q_offset, "kv_len": domain.kv_len} if with_lengths else {}
    simple = case.mask.simplify(**lengths)
    assert operations(simple.predicate) <= operations(case.mask.predicate)
    np.testing.assert_array_equal(
        simple.dense(*case.call.lengths, **case.call.options),
        case.mask.dense(*case.call.lengths, **case.call.options),
        err_msg=f"{case.mask} became {simple}",
    )


@settings(deadline=None, max_examples=30)
@given(case=cases(most=12))
def test_random_masks_at_all_short_lengths(case: Case) -> None:
    """Sizes as dimensions: every call up to 12 × 12 in one evaluation, whether the mask accepts it or not."""
    simple = case.mask.simplify()
    at = {
        "Q": np.arange(1, 13)[:, None, None, None],
        "K": np.arange(1, 13)[:, None, None],
        "q": np.arange(12)[:, None],
        "k": np.arange(12),
        "b": np.asarray(0),
        "h": np.asarray(0),
        "B": np.asarray(1),
        "H": np.asarray(1),
    }
    inside = (at["q"] < at["Q"]) & (at["k"] < at["K"])
    with np.errstate(all="ignore"):
        try:
            before = evaluate(case.mask.predicate, at, case.arrays) & inside
        except IndexError:
            return
        np.testing.assert_array_equal(evaluate(simple.predicate, at, case.arrays) & inside, before)
