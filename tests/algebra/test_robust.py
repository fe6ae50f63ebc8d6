"""Questions as people ask them by mistake: whatever is given, the answer is a verdict or a MaskError, and soon."""

from __future__ import annotations

import operator
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import attnmask as am
from attnmask.ir import index
from attnmask.ir.domain import Domain
from attnmask.mask import Mask
from tests.algebra.brute import HOLDS, attacked

CAUSAL = am.compile("causal")
PER_HEAD = am.compile("h < 2 & q - k < 2 + b")
DOCUMENTS = am.compile("doc[q] == doc[k] & Q <= K", doc=np.arange(64) // 5)

ONES = (
    np.int64(1),
    np.int32(1),
    np.uint8(1),
    np.array(1),
    torch.tensor(1),
    torch.tensor(1, dtype=torch.int32),
)
WRONG: tuple[Any, ...] = (
    1.5,
    np.float32(2),
    float("nan"),
    "x",
    "1",
    b"x",
    -1,
    np.int64(-1),
    True,
    10**30,
    [1],
    {},
    object(),
)
SIZES = ("q_len", "kv_len", "batch", "heads", "q_offset")
CALL: dict[str, Any] = {"q_len": 8, "kv_len": 8, "batch": 2, "heads": 2}
SQUARE: dict[str, Any] = {"q_len": 8, "batch": 2, "heads": 2}


def questions(mask: Mask) -> Iterator[tuple[str, Callable[[Any], object]]]:
    """Every argument of every question that wants an integer, by name, as a function of what is given for it."""

    def asking(
        what: str, ask: Callable[..., object], names: tuple[str, ...], **given: Any
    ) -> Iterator[tuple[str, Callable[[Any], object]]]:
        for name in names:

            def with_value(value: Any, name: str = name) -> object:
                return ask(**{**given, name: value})

            yield f"{what}: {name}", with_value

    for claim in ("causal", "symmetric", "no_empty_rows"):
        yield from asking(claim, lambda claim=claim, **given: mask.prove(claim, **given), SIZES)
    yield from asking("banded", lambda **given: mask.prove("banded", **given), ("within",))
    yield from asking("equal", lambda **given: mask.compare("equal", CAUSAL, **given), SIZES)
    yield from asking("simplify", mask.simplify, SIZES[:4])
    for ask in (mask.domain, mask.dense, mask.row_intervals):
        yield from asking(ask.__name__, ask, SIZES, **CALL)
    yield from asking("tiles", mask.tiles, (*SIZES, "block"), **CALL)
    yield from asking("report", mask.report, (*SIZES, "block", "head_dim"), **CALL)
    yield from asking("interval_form", mask.interval_form, (*SIZES, "most"), **CALL)
    yield from asking("show", mask.show, (*SIZES, "block", "b", "h"), **CALL)
    difference = {**CALL, "other": CAUSAL}
    yield from asking("difference", mask.difference, (*SIZES, "block", "b", "h"), **difference)
    yield from asking("tile_formula", mask.tile_formula, ("block",))
    yield from asking(
        "reach", mask.reach, ("q_len", "layers", "block", "batch", "heads", "b", "h"), **SQUARE, layers=2
    )
    needed = {**SQUARE, "q": 3, "k": 0}
    yield from asking(
        "layers_to_reach",
        mask.layers_to_reach,
        ("q", "k", "q_len", "block", "batch", "heads", "b", "h"),
        **needed,
    )


@pytest.mark.parametrize("mask", [CAUSAL, PER_HEAD, DOCUMENTS], ids=str)
def test_integers_of_every_kind_are_those_of_python(mask: Mask) -> None:
    for what, ask in questions(mask):
        expected = answer(ask, 1)
        for one in ONES:
            began = time.monotonic()
            assert answer(ask, one) == expected, f"{what} = {one!r}"
            assert time.monotonic() - began < 1, f"{what} = {one!r}"


@pytest.mark.parametrize("mask", [CAUSAL, PER_HEAD, DOCUMENTS], ids=str)
def test_what_is_no_integer_is_refused_in_a_sentence(mask: Mask) -> None:
    for what, ask in questions(mask):
        for value in WRONG:
            if value == 10**30 and what.endswith((": within", ": b", ": h", ": layers")):
                continue  # any distance and depth makes sense, and so do rows of a mask that is the same for all
            began = time.monotonic()
            with pytest.raises(am.MaskError):
                print(what, repr(value), ask(value))
            assert time.monotonic() - began < 1, f"{what} = {value!r}"


def answer(ask: Callable[[Any], object], value: object) -> str:
    try:
        return repr(ask(value))
    except am.MaskError as error:
        return str(error)


def test_constants_of_numpy_are_found_in_range_at_once() -> None:
    began = time.monotonic()
    assert index.const(np.int64(5)) is index.const(5)  # type: ignore[arg-type]  # an integer all the same
    assert time.monotonic() - began < 0.1


@pytest.mark.parametrize("other", [3, None, "x", object(), [CAUSAL]])
def test_masks_are_compared_with_masks(other: Any) -> None:
    for ask in (
        lambda: operator.le(CAUSAL, other),
        lambda: operator.ge(CAUSAL, other),
        lambda: CAUSAL.equivalent(other),
        lambda: CAUSAL.disjoint(other),
        lambda: CAUSAL.counterexample(other),
        lambda: CAUSAL.difference(other, 8),
    ):
        with pytest.raises(am.MaskError, match=f"with a mask, not with {type(other).__name__}"):
            ask()


@pytest.mark.parametrize("masks", [None, 3, object(), "causal", torch.tensor(1), np.array(1), [CAUSAL, None]])
def test_layers_are_masks(masks: Any) -> None:
    with pytest.raises(am.MaskError, match="layers are masks, not"):
        am.reach(masks, 8, layers=2)
    with pytest.raises(am.MaskError, match="layers are masks, not"):
        am.layers_to_reach(masks, 3, 0, q_len=8)


@pytest.mark.parametrize("scale", ["x", [1.0], object()])
def test_scale_is_a_number(scale: Any) -> None:
    q = torch.zeros(1, 1, 4, 8)
    with pytest.raises(am.MaskError, match="scale must be a number"):
        am.attention(q, q, q, CAUSAL, scale=scale)


@pytest.mark.parametrize(
    ("of", "carets"),
    [
        ("i) | same(i", "i) | same(i\n   ^"),
        ("doc[", "doc[\n      ^"),
        ("i // nosuch(3)", "same(i // nosuch(3))\n  ^^^^^^^^^^^^^^^^^^^^"),
    ],
)
def test_token_function_of_documents_is_one_expression(of: str, carets: str) -> None:
    with pytest.raises(am.MaskError) as caught:
        CAUSAL.prove("within_documents", of=of)
    assert carets in str(caught.value)


def test_token_functions_of_documents_are_texts() -> None:
    for of in (None, 3, CAUSAL):
        with pytest.raises(am.MaskError, match="'of' is a token function as text"):
            CAUSAL.prove("within_documents", of=of)  # type: ignore[arg-type]  # on purpose
    assert am.compile("same(i // 64)").prove("within_documents", of="i // 32 // 2")
    assert am.compile("same(doc) & causal").prove("within_documents", of="doc")


# ---- counterexamples: tables that the masks take, calls that can be looked at ------------------------

CELLS = st.sampled_from(["a[q]", "a[k]", "a[b, k]", "c[q]", "c[k - k % 2]", "c[a[k]]", "w[q // 2]"])


@st.composite
def masks_of_cells(draw: st.DrawFn) -> str:
    """A few cells, each as a truth value here and as an integer there."""
    parts = []
    for _ in range(draw(st.integers(1, 3))):
        cell = draw(CELLS)
        number = draw(st.sampled_from(["0", "1", "2", "q", "h", "c[q]"]))
        parts.append(
            draw(st.sampled_from([cell, f"~{cell}", f"{cell} == {number}", f"{cell} + {cell} > {number}"]))
        )
    return draw(st.sampled_from([" & ", " | ", " ^ "])).join(f"({part})" for part in parts)


@settings(deadline=None, max_examples=60)
@given(text=masks_of_cells(), other=masks_of_cells(), claim=st.sampled_from(sorted(HOLDS)))
def test_tables_of_counterexamples_can_be_bound(text: str, other: str, claim: str) -> None:
    one, two = am.compile(text), am.compile(other)
    attacked(one.prove(claim, batch=2, heads=2), claim, one, batch=2, heads=2)  # type: ignore[arg-type]  # a name
    attacked(one.disjoint(two), "disjoint", one, two)
    attacked(one <= two, "contained", one, two)


@pytest.mark.parametrize("text", ["a[k] & a[k] == 2", "a[q] & a[k] > 1", "a[k] & a[k] + a[k] > 2"])
def test_tables_of_truth_values_hold_no_other(text: str) -> None:
    assert am.compile(text).disjoint(am.compile("all")).status != "refuted"
    assert (
        am.compile(text.replace("2", "1").replace("> 1", "> 0")).disjoint(am.compile("all")).status
        == "refuted"
    )


def test_truth_values_are_added_as_integers() -> None:
    verdict = am.compile("a[k] & a[k] + a[k] == 2").disjoint(am.compile("all"))
    assert verdict.counterexample is not None
    assert verdict.counterexample.tables["a"].dtype == np.bool_


@pytest.mark.parametrize("text", ["a[q] & a[b, q, k]", "a[q] & a[b, k]", "n[k] & n > 1"])
def test_tables_of_several_numbers_of_dimensions(text: str) -> None:
    mask = am.compile(text)
    verdict = mask.disjoint(am.compile("all"))
    attacked(verdict, "disjoint", mask, am.compile("all"))
    assert (verdict.status == "refuted") == (text == "a[q] & a[b, k]")


def test_tables_fit_the_scores_too() -> None:
    for text, status in (("a[k] > 1", "proved for all lengths"), ("a[k] > 0", "refuted")):
        mask = am.compile(f"{text} with where(a[k], s, 0)")
        verdict = mask.prove("causal")
        assert verdict.status == status
        if verdict.counterexample is not None:
            mask.bind(**verdict.counterexample.tables)


def test_a_table_too_short_is_found_without_the_positions_of_the_longest_call() -> None:
    mask = am.compile("t[b, q // 2] < 8*b + 5", t=[[0, 1, 1, 1, 1], [0, 0, 0, 1, 0]])
    began = time.monotonic()
    assert mask.prove("causal", q_len=12).status == "unknown"
    assert time.monotonic() - began < 5


def test_positions_of_variables_that_are_asked_for_alone() -> None:
    arrays = Domain(4, 2**31 - 1, batch=2).arrays({"q", "b", "K"})
    assert {"q", "b"} <= arrays.keys() and not {"k", "h"} & arrays.keys()
    assert arrays["q"].shape == (1, 1, 4, 1)


def test_counterexamples_are_of_calls_no_longer_than_they_need() -> None:
    seen = np.ones((2, 13), bool)
    mask = am.compile("0 < where(brow2[b, q], 1, 0)", brow2=seen)
    found = mask.prove("causal", q_offset=4, heads=3).counterexample
    assert found is not None and found.k is not None
    assert (found.kv_len, found.q_len) == (found.k + 1, (found.q or 0) - 3)
    assert found.kv_len <= 14
    attacked(mask.prove("causal", q_offset=4, heads=3), "causal", mask)


@settings(deadline=None, max_examples=40)
@given(far=st.integers(20, 5000), offset=st.integers(0, 30), square=st.booleans())
def test_shrunk_counterexamples_still_contradict(far: int, offset: int, square: bool) -> None:
    mask = am.compile(f"k - q == {far} & perm[q] != perm[k]", perm=np.arange(1 << 14) % 7)
    verdict = mask.prove("causal", q_offset=offset, square=square)
    attacked(verdict, "causal", mask)
    if (found := verdict.counterexample) is not None:
        assert max(found.q_len, found.kv_len) <= 2 * (far + offset + 20)
