"""Verdicts: every proof is attacked by looking at every pair, every counterexample is evaluated."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
