"""Verdicts: every proof is attacked by looking at every pair, every counterexample is evaluated."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import attnmask as am
from attnmask.algebra.claims import no_empty_rows
from attnmask.algebra.exhaustive import contradicted
from attnmask.algebra.scope import Scope
from attnmask.mask import Mask
from tests.algebra.brute import ALL, FEW, HOLDS, LARGER, RELATIONS, attacked
from tests.algebra.published import LIBRARY, PUBLISHED
from tests.strategies import Case, cases

PLAIN = sorted(HOLDS)
NAMED = {**LIBRARY, **PUBLISHED}


@pytest.mark.parametrize("name", NAMED)
def test_claims_about_library_and_published_masks(name: str) -> None:
    mask = NAMED[name]
    lengths = [*ALL, *LARGER]
    for claim in PLAIN:
        for square in (False, True):
            verdict = mask.prove(claim, square=square)  # type: ignore[arg-type]  # names from a table
            assert verdict.status != "unknown" or name in OPEN, verdict
            sides = [(q, k) for q, k in lengths if q == k or not square]
            for heads in (1, 4):
                attacked(verdict, claim, mask, lengths=sides, heads=heads)


@pytest.mark.parametrize("name", PUBLISHED)
def test_relations_of_published_masks(name: str) -> None:
    for other, mask in PUBLISHED.items():
        for relation in sorted(RELATIONS):
            verdict = PUBLISHED[name].compare(relation, mask)  # type: ignore[arg-type]  # names from a table
            attacked(verdict, relation, PUBLISHED[name], mask, lengths=[*FEW, (64, 100)], heads=4)
            assert verdict or relation == "disjoint" or other != name


# Questions that are not decided: products of positions, and quotients by a length.
OPEN = frozenset({"bigbird", "longlora_roll", "longlora_flash", "clear"})


@settings(deadline=None, max_examples=60)
@given(case=cases(most=24), claim=st.sampled_from(PLAIN), given_lengths=st.booleans())
def test_claims_about_random_masks(case: Case, claim: str, given_lengths: bool) -> None:
    check_claim(case, claim, given_lengths)


@settings(deadline=None, max_examples=60)
@given(
    one=cases(most=24),
    other=cases(most=24),
    relation=st.sampled_from(sorted(RELATIONS)),
    mix=st.integers(0, 4),
)
def test_relations_of_random_masks(one: Case, other: Case, relation: str, mix: int) -> None:
    check_relation(one, other, relation, mix)


def check_claim(case: Case, claim: str, given_lengths: bool) -> None:
    domain = case.call.domain
    options = {"batch": domain.batch, "heads": domain.heads, "q_offset": domain.q_offset}
    asked = {"q_len": domain.q_len, "kv_len": domain.kv_len} if given_lengths else {}
    verdict = case.mask.prove(claim, **options, **asked)  # type: ignore[arg-type]  # names from a table
    lengths = [case.call.lengths, *(() if given_lengths else ((1, 1), (3, 5), (9, 4), (12, 12)))]
    attacked(verdict, claim, case.mask, lengths=lengths, **options)


def check_relation(one: Case, other: Case, relation: str, mix: int) -> None:
    """Relations between masks that have something to do with each other."""
    first, second = one.mask, other.mask
    mixed = (second, first & second, first | second, first ^ second, ~first)[mix]
    domain = one.call.domain
    options = {"batch": domain.batch, "heads": domain.heads, "q_offset": domain.q_offset}
    verdict = first.compare(relation, mixed, **options)  # type: ignore[arg-type]  # names from a table
    lengths = [one.call.lengths, (1, 1), (3, 5), (9, 4), (12, 12)]
    attacked(verdict, relation, first, mixed, lengths=lengths, **options)
    if relation == "contained" and mix == 2:
        assert verdict.status != "refuted"


def test_tables_in_many_runs_are_looked_at_in_full() -> None:
    mask = am.compile("a[q] == a[k] & causal", a=np.arange(1500) // 40)
    assert mask.prove("within_documents", of="i // 40").status == "proved for all lengths"
    verdict = mask.prove("within_documents", of="i // 60")
    assert verdict.counterexample is not None
    assert verdict.counterexample.q is not None and verdict.counterexample.k is not None
    assert verdict.counterexample.q // 60 != verdict.counterexample.k // 60
    assert verdict.counterexample.truths == (True,)


def test_products_in_another_order() -> None:
    assert am.compile("q * k % 7 != 1").prove("symmetric").status == "proved for all lengths"


@pytest.mark.parametrize("text", ["q * k * k % 7 != 1 | q == k", "(q ^ k) % 5 < 3 | k == q // 2"])
def test_given_lengths_are_looked_at_in_full(text: str) -> None:
    mask = am.compile(text)
    verdict = mask.prove("no_empty_rows", q_len=60, kv_len=61)
    assert verdict.status == "proved for these lengths"
    attacked(verdict, "no_empty_rows", mask, lengths=[(60, 61)])


def test_hard_questions_end() -> None:
    hard = " ^ ".join(f"(q * {i} + k * {i + 3}) % {i + 7} < q // {i + 1} % 5" for i in range(1, 12))
    start = time.perf_counter()
    verdict = am.compile(f"causal & ({hard}) | q == k").prove("no_empty_columns", q_offset=None, heads=2)
    assert time.perf_counter() - start < 10  # 2 s on a machine that does nothing else
    assert verdict.status in ("refuted", "unknown")


def test_questions_from_several_threads() -> None:
    mask = am.compile("causal & (window(512) | sink(4))")

    def ask(number: int) -> bool:
        other = am.compile(f"causal & (window({500 + number}) | sink(4))")
        return bool(other <= mask) is (number <= 12) and bool(mask.prove("no_empty_rows"))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(ask, range(1, 25)))


@pytest.mark.parametrize(
    ("ask", "says"),
    [
        (lambda mask: mask.prove("causl"), "there is no claim 'causl'"),
        (lambda mask: mask.prove("banded"), "needs a distance"),
        (lambda mask: mask.prove("banded", within=-1), "within"),
        (lambda mask: mask.prove("causal", q_len=0), "q_len must be at least 1"),
        (lambda mask: mask.prove("causal", q_offset=-1), "q_offset must be an integer from 0"),
        (lambda mask: mask.prove("causal", q_len=3, kv_len=4, square=True), "as many keys as queries"),
        (lambda mask: mask.prove("symmetric", q_offset=None), "where queries begin"),
        (lambda mask: mask.prove("within_documents", of="causal &"), "ends too early"),
        (lambda mask: mask.prove([1]), "asked for by name"),
        (lambda mask: mask.prove("banded", within="a"), "within must be an integer"),
        (lambda mask: mask.prove("banded", within=True), "within"),
        (lambda mask: mask.prove("causal", q_offset="a"), "q_offset must be an integer from 0"),
        (lambda mask: mask.compare("alike", mask), "cannot be compared for 'alike'"),
        (lambda mask: mask.equivalent("causal"), "a mask is compared with a mask"),
    ],
)
def test_what_makes_no_sense_is_said(ask: Callable[[Mask], object], says: str) -> None:
    with pytest.raises(am.MaskError, match=says):
        ask(am.library.causal)


@pytest.mark.parametrize("given_lengths", [False, True])
def test_a_table_of_keys_does_not_limit_queries(given_lengths: bool) -> None:
    """With its places changed the mask would read past its table; the calls in question are its own."""
    mask = am.compile("live[k]", live=np.arange(40) % 3 > 0)
    length = 40 if given_lengths else None
    verdict = mask.prove("symmetric", q_offset=3, q_len=length, kv_len=length)
    assert verdict.status == "refuted"
    attacked(verdict, "symmetric", mask, q_offset=3)


def test_a_look_at_every_pair_of_the_longest_call_tells_nothing_of_shorter_rows() -> None:
    """Row 13 has its one key at position 15: it is empty in shorter calls than the longest."""
    order = np.roll(np.arange(20), 15)
    mask = am.compile("q < 13 & k == 0 | order[k] == 0 & order[q] >= 0", order=order)
    assert mask.dense(20, 20).any(axis=1).all()
    tables = dict(mask.tables)
    assert contradicted(no_empty_rows(mask.predicate), Scope(), tables) is None
    assert contradicted(no_empty_rows(mask.predicate), Scope(20, 20), tables) is False
    verdict = mask.prove("no_empty_rows")
    assert not verdict
    attacked(verdict, "no_empty_rows", mask)


_STEEP = np.r_[np.cumsum(np.arange(60) % 7 + 1), 2**62 + 1, -(2**62)]


@pytest.mark.parametrize(
    ("text", "table"),
    [
        ("T[q] < 0", np.array([2**62 + 1, -(2**62)])),
        ("T[q] < 0", np.array([2**63 - 1, -2])),
        ("T[q] < 5", np.array([0, 2**61, 0, 3, 2**62, 7, 9])),
        ("q < k & T[q] >= 0 & T[k] < 0", _STEEP),
        ("q < k & T[q] >= 0 & T[k] < 0", np.stack([_STEEP, _STEEP])),
    ],
)
def test_entries_whose_differences_leave_64_bits(text: str, table: NDArray[np.int64]) -> None:
    """Steps between entries must not be subtracted: they would wrap, and a table that falls seem to rise."""
    mask = am.compile(text, T=table)
    length, batch = table.shape[-1], table.ndim
    expected = mask.dense(length, batch=batch)
    assert expected.any()
    verdict = mask.equivalent(am.library.none)
    assert not verdict
    attacked(verdict, "equal", mask, am.library.none)
    np.testing.assert_array_equal(mask.simplify().dense(length, batch=batch), expected)


@pytest.mark.parametrize(
    "text",
    [f"(q & {2**62}) == k", f"(q | {-(2**62)}) < k", f"(q ^ {2**63 - 1}) > k", "q * q * q * q < k"],
)
def test_constants_near_64_bits(text: str) -> None:
    mask = am.compile(text)
    attacked(mask.prove("causal"), "causal", mask)
    mask.simplify()


def test_offsets_of_numpy() -> None:
    assert am.library.causal.prove("causal", q_offset=np.int64(5))  # type: ignore[arg-type]  # taken all the same


def test_masks_lifted_from_functions_without_source_can_be_asked() -> None:
    mask = am.lift(eval("lambda b, h, q, k: (q // 3 < 11) & (k <= q)"))
    assert mask.bind().prove("causal")
    attacked(mask.prove("no_empty_rows"), "no_empty_rows", mask)
