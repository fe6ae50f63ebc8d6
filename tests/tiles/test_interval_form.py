"""Interval form: equal to the mask on its call, as simple as its bounds allow, and limited to that call."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings

import attnmask as am
from attnmask.errors import MaskError
from attnmask.ir.walk import table_names, variables
from tests.strategies import Case, cases

IDS = np.sort(np.random.default_rng(2).integers(0, 9, 90))
ROWS = np.sort(np.random.default_rng(3).integers(0, 4, (2, 90)), axis=1)


@settings(max_examples=300)
@given(cases())
def test_the_form_is_the_mask(case: Case) -> None:
    call: dict[str, Any] = case.call.options
    form = case.mask.interval_form(*case.call.lengths, most=70, **call)
    np.testing.assert_array_equal(
        form.dense(*case.call.lengths, **call), case.mask.dense(*case.call.lengths, **call)
    )
    # Bounds on k, and no constants of the call: at fewer positions it means the same.
    assert variables(form.predicate) <= {"b", "h", "q", "k"}


@settings(max_examples=60)
@given(cases())
def test_the_form_has_the_tiles_of_the_mask(case: Case) -> None:
    call: dict[str, Any] = case.call.options
    form = case.mask.interval_form(*case.call.lengths, most=70, **call)
    ours = form.tiles(*case.call.lengths, block=case.call.block, **call)
    theirs = case.mask.tiles(*case.call.lengths, block=case.call.block, **call)
    for b, h in np.ndindex(case.call.domain.batch, case.call.domain.heads):
        np.testing.assert_array_equal(ours.dense(b, h), theirs.dense(b, h))


@pytest.mark.parametrize(
    ("text", "form"),
    [
        ("all", "all"),
        ("none", "none"),
        ("causal", "causal"),
        ("~causal", "q + 1 <= k"),
        ("causal & window(16)", "q - 15 <= k & causal"),
        ("window(16)", "q - 15 <= k & k <= q + 15"),
        ("causal & (window(16) | sink(4))", "causal & (k < 4 | q - 15 <= k)"),
        ("sink(4)", "sink(4)"),
        ("diagonal", "q <= k & k <= q"),
        ("causal & ~(10 <= k & k < 20)", "causal & (k < 10 | 20 <= k)"),
        ("causal & (sink(4) | 30 <= k)", "causal & (k < 4 | 30 <= k)"),
    ],
)
@pytest.mark.parametrize("offset", [0, 7])
def test_bounds_without_tables(text: str, form: str, offset: int) -> None:
    assert am.compile(text).interval_form(60, 80, q_offset=offset).predicate is am.compile(form).predicate


@pytest.mark.parametrize(
    ("text", "tables", "form", "shapes"),
    [
        ("same(doc)", {"doc": IDS}, "start[q] <= k & k < end[q]", {"start": (90,), "end": (90,)}),
        ("causal & same(doc)", {"doc": IDS}, "start[q] <= k & causal", {"start": (90,)}),
        ("causal & chunk(16)", {}, "start[q] <= k & causal", {"start": (90,)}),
        ("causal & (chunk(16) | sink(2))", {}, "causal & (sink(2) | start1[q] <= k)", {"start1": (90,)}),
        ("prefix(10)", {}, "k < end[q]", {"end": (90,)}),
        ("causal & rows(i >= 7)", {}, "k < end[q]", {"end": (90,)}),
        ("causal & same(doc) & rows(doc[i] > 3)", {"doc": IDS}, "start[q] <= k & causal", {"start": (90,)}),
        ("causal & q - k < w[h]", {"w": [3, 9, 90, 1]}, "q + start[h] <= k & causal", {"start": (4,)}),
        ("causal & same(doc)", {"doc": ROWS}, "start[b, q] <= k & causal", {"start": (2, 90)}),
        (
            "heads(:3) & causal & chunk(8) | heads(3:) & causal & chunk(4)",
            {},
            "start[h, q] <= k & causal",
            {"start": (4, 90)},
        ),
        (
            "heads(:3) & causal & same(doc) | heads(3:) & causal",
            {"doc": ROWS},
            "start[b, h, q] <= k & causal",
            {"start": (2, 4, 90)},
        ),
        (
            "heads(:3) & causal & (window(5) | sink(2)) | heads(3:) & causal",
            {},
            "causal & (k < end0[h] | q + start1[h] <= k)",
            {"end0": (4,), "start1": (4,)},
        ),
    ],
)
def test_tables_hold_what_expressions_cannot(
    text: str, tables: dict[str, Any], form: str, shapes: dict[str, tuple[int, ...]]
) -> None:
    mask = am.compile(text, **tables)
    call: dict[str, Any] = {"batch": 2, "heads": 4}
    found = mask.interval_form(90, **call)
    assert str(found) == str(am.compile(form.replace("causal", "k <= q"))).replace("causal", "k <= q")
    assert {name: data.array.shape for name, data in found.tables} == shapes
    np.testing.assert_array_equal(found.dense(90, **call), mask.dense(90, **call))


def test_sorted_documents_lose_their_table() -> None:
    mask = am.compile("same(doc)", doc=IDS)
    form = mask.interval_form(90)
    assert table_names(form.predicate) == ("end", "start")
    with pytest.raises(MaskError, match="no table 'doc'"):
        form.bind(doc=IDS)
    with pytest.raises(
        MaskError, match=r"query \d+ attends \d+ intervals of keys, and at most 8 are allowed"
    ):
        am.compile("same(doc)", doc=np.random.default_rng(0).permutation(IDS)).interval_form(90)


def test_a_query_of_more_intervals_than_allowed_is_named() -> None:
    mask = am.compile("causal & strided(3)")
    assert mask.interval_form(24) is not None
    with pytest.raises(MaskError, match="query 24 attends 9 intervals of keys, and at most 8"):
        mask.interval_form(25)
    with pytest.raises(MaskError, match="query 12 attends 5 intervals of keys, and at most 4"):
        mask.interval_form(5, 20, q_offset=10, most=4)
    with pytest.raises(MaskError, match="most must be at least 1"):
        mask.interval_form(25, most=0)


def test_names_that_the_mask_has_already() -> None:
    mask = am.compile("same(start) with s + end[q]", start=IDS, end=IDS)
    form = mask.interval_form(90)
    assert str(form) == "start_[q] <= k & k < end_[q] with s + end[q]"
    np.testing.assert_array_equal(form.dense(90), mask.dense(90))
    assert form.score_mod is not None
    # Both can be used together.
    np.testing.assert_array_equal((form & ~mask).dense(90), np.zeros((90, 90), np.bool_))


def test_positions_that_it_is_not_made_for() -> None:
    form = am.compile("causal & window(9)").interval_form(20, 30, q_offset=10)
    assert form.dense(20, 30, q_offset=10).any()
    assert form.dense(5, 7, q_offset=12).any()
    for call, message in (
        ({"q_len": 20, "kv_len": 30}, "queries from 10, and position 0 is asked for"),
        ({"q_len": 21, "kv_len": 30, "q_offset": 10}, "queries below 30, and position 30"),
        ({"q_len": 20, "kv_len": 31, "q_offset": 10}, "keys below 30, and position 30"),
    ):
        for further in (form, ~form, form & am.library.causal):
            with pytest.raises(MaskError, match=f"the mask is made for {message}"):
                further.tiles(**call)


def test_batch_rows_and_heads_that_it_is_not_made_for() -> None:
    form = am.compile("causal & window(9)").interval_form(20, heads=2)
    assert form.dense(20, batch=7, heads=9).shape == (7, 9, 20, 20)
    form = am.compile("causal & window(h + 1)").interval_form(20, heads=2)
    with pytest.raises(MaskError, match="the mask is made for 2 heads and 3 are asked for"):
        form.dense(20, heads=3)


def test_forms_for_different_queries_do_not_combine() -> None:
    mask = am.compile("causal")
    with pytest.raises(
        MaskError, match="one mask is made for queries below 10 and the other for queries from 10"
    ):
        mask.interval_form(10) | mask.interval_form(10, q_offset=10)
    both = mask.interval_form(10, 20) & mask.interval_form(10, 15, q_offset=5)
    assert (both.made_for.q_offset, both.made_for.q_len, both.made_for.kv_len) == (5, 10, 15)
    with pytest.raises(MaskError, match="queries from 5"):
        both.interval_form(8, q_offset=2)


def test_forms_are_hashable_and_can_be_pickled() -> None:
    import pickle

    form = am.compile("same(doc)", doc=IDS).interval_form(90)
    assert pickle.loads(pickle.dumps(form)) == form == am.compile("same(doc)", doc=IDS).interval_form(90)


def test_tables_that_would_not_fit_into_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("attnmask.tiles.interval_form.MOST_INTERVALS", 300)
    assert am.compile("same(doc)", doc=ROWS).interval_form(90).unbound == ()
    mask = am.compile("heads(:3) & causal & same(doc) | heads(3:) & causal", doc=ROWS)
    with pytest.raises(MaskError, match="a table of 720 entries"):
        mask.interval_form(90, heads=4)
