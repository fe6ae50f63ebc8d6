"""What a reader found: tables of two types, integers of numpy, calls that are huge, and values that are nothing."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import pytest

import attnmask as am

CAUSAL = am.library.causal
MIXED = am.compile("causal & (window(5) | sink(2))")


@pytest.mark.parametrize("text", ["a[k] & a[k] == 2", "live[q] & live[k] > 1", "a[k] & a[q] + a[k] == 3"])
def test_a_name_that_is_read_as_a_truth_is_no_larger_than_1(text: str) -> None:
    assert am.compile(text).disjoint(am.library.all)


@pytest.mark.parametrize("text", ["a[k] & a[k] == 1", "a[q] | a[k] + a[q] == 1", "~a[k] & q - a[k] < k"])
@pytest.mark.parametrize("claim", ["causal", "no_empty_rows"])
def test_tables_of_counterexamples_can_be_bound(text: str, claim: str) -> None:
    mask = am.compile(text)
    example = mask.prove(claim).counterexample  # type: ignore[arg-type]  # a name of one
    assert example is not None
    dense = mask.bind(**example.tables).dense(example.q_len, example.kv_len)
    row = dense[example.q] if example.q is not None else dense
    assert row.any() != (claim == "no_empty_rows")


def test_tables_that_two_masks_read_differently() -> None:
    """Where one reads a truth and the other a number, only truths fit both."""
    assert am.compile("a[k]").equivalent(am.compile("a[k] == 1"))
    assert am.compile("a[k]") <= am.compile("a[k] > 0")


QUESTIONS: list[Callable[[], object]] = [
    lambda: MIXED.prove("symmetric", q_offset=np.int64(1)),  # type: ignore[arg-type]
    lambda: MIXED.reach(8, layers=2, b=np.int64(0)),  # type: ignore[arg-type]
    lambda: MIXED.reach(8, layers=2, h=np.int64(0)),  # type: ignore[arg-type]
    lambda: MIXED.layers_to_reach(3, 0, q_len=8, h=np.int64(0)),  # type: ignore[arg-type]
    lambda: MIXED.prove("no_empty_rows", q_len=np.int64(4)),  # type: ignore[arg-type]
    lambda: MIXED.prove("no_empty_rows", kv_len=np.int64(4)),  # type: ignore[arg-type]
    lambda: MIXED.compare("equal", CAUSAL, q_len=np.int64(4), heads=np.int64(2)),  # type: ignore[arg-type]
    lambda: MIXED.dense(np.int64(4), q_offset=np.int64(2)),  # type: ignore[arg-type]
    lambda: MIXED.tiles(np.int64(400), block=np.int64(64), q_offset=np.int64(2)),  # type: ignore[arg-type]
]


@pytest.mark.parametrize("ask", QUESTIONS)
def test_integers_of_numpy_are_integers(ask: Callable[[], object]) -> None:
    started = time.perf_counter()
    ask()
    assert time.perf_counter() - started < 5


NONSENSE: list[Callable[[], object]] = [
    lambda: MIXED.prove("symmetric", q_offset=1.5),  # type: ignore[arg-type]
    lambda: MIXED.prove("symmetric", q_offset="x"),  # type: ignore[arg-type]
    lambda: MIXED.reach(8, layers=2, b=1.5),  # type: ignore[arg-type]
    lambda: MIXED.reach(8, layers=2, h=1.5),  # type: ignore[arg-type]
    lambda: MIXED.reach(8, layers=2, h="x"),  # type: ignore[arg-type]
    lambda: MIXED >= 3,  # type: ignore[operator]
    lambda: MIXED >= None,  # type: ignore[operator]
    lambda: MIXED >= "x",  # type: ignore[operator]
    lambda: am.reach(None, 8, layers=2),  # type: ignore[arg-type]
    lambda: am.reach(3, 8, layers=2),  # type: ignore[arg-type]
    lambda: am.reach(object(), 8, layers=2),  # type: ignore[arg-type]
    lambda: MIXED.prove("within_documents", of="i) | same(i"),
    lambda: MIXED.prove("within_documents", of="doc) | all | same(doc"),
]


@pytest.mark.parametrize("ask", NONSENSE)
def test_nonsense_is_said_in_a_sentence(ask: Callable[[], object]) -> None:
    started = time.perf_counter()
    with pytest.raises(am.MaskError):
        ask()
    assert time.perf_counter() - started < 5


def test_calls_that_are_all_refused_take_no_memory() -> None:
    """Every call with 12 queries is refused; what is left over is a candidate with 2**31 - 1 keys."""
    mask = am.compile("t[b, q // 2] < 8 * b + 5", t=[[0, 1, 1, 1, 1], [0, 0, 0, 1, 0]])
    started = time.perf_counter()
    verdict = mask.prove("causal", q_len=12)
    assert verdict.status in ("unknown", "proved for these lengths")
    assert time.perf_counter() - started < 5


@pytest.mark.parametrize("seed", range(4))
def test_counterexamples_are_small(seed: int) -> None:
    table = np.random.default_rng(seed).integers(0, 2, (2, 13)).astype(bool)
    mask = am.compile("0 < where(brow2[b, q], 1, 0)", brow2=table)
    example = mask.prove("causal", q_offset=4, heads=3).counterexample
    assert example is not None
    assert example.kv_len <= 32
    assert mask.dense(
        example.q_len, example.kv_len, batch=example.batch, heads=example.heads, q_offset=example.q_offset
    )[example.b, example.h, example.q - example.q_offset, example.k]  # type: ignore[operator, index]  # a pair
