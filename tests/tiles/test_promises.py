"""Promises to kernels against kernels in plain loops: made exactly where the kernels keep giving what they gave."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, event, example, given, settings
from hypothesis import strategies as st

import attnmask as am
from attnmask.ir.domain import Domain
from attnmask.ir.nodes import Predicate
from attnmask.ir.predicate import or_
from attnmask.mask import Mask
from attnmask.tiles.promises import Promises, promises
from tests.strategies import Call, Case, calls, predicates, sound, tables_of
from tests.tiles.kernels import skips_nothing, stays_a_number

# Random masks leave most queries without a key; joined with one of these, few or none.
COVERS = (
    "none",
    "causal",
    "sink(1)",
    "k >= q - 3",
    "k % 5 == 2",
    "q % 16 == k % 16",
    "tail(2)",
    "same(i // 12)",
)


@st.composite
def long_calls(draw: st.DrawFn) -> Call:
    """Too many queries for the decoding kernel, and blocks that hold several steps."""
    lengths = draw(st.integers(128, 150)), draw(st.integers(1, 150))
    blocks = st.one_of(st.integers(1, 40), st.sampled_from([32, 48, 64, 128]))
    return Call(
        Domain(*lengths, draw(st.integers(0, 9)), 1, draw(st.integers(1, 2))), (draw(blocks), draw(blocks))
    )


@st.composite
def covered(draw: st.DrawFn, calls: st.SearchStrategy[Call]) -> Case:
    call, root = draw(calls), draw(predicates)
    cover: Predicate = am.compile(draw(st.sampled_from(COVERS))).predicate
    root = draw(st.sampled_from([root, cover, or_(root, cover)]))
    assume(sound(root, call.domain))
    return Case(Mask(root, None, tuple(sorted(tables_of(root).items()))), call)


def case(text: str, q_len: int, kv_len: int, block: tuple[int, int], offset: int = 0) -> Case:
    return Case(am.compile(text), Call(Domain(q_len, kv_len, offset), block))


def made(case: Case) -> Promises:
    tiles = case.mask.tiles(*case.call.lengths, block=case.call.block, **case.call.options)
    return promises(tiles, None)


def check(case: Case) -> None:
    dense = case.mask.dense(*case.call.lengths, **case.call.options).reshape(-1, *case.call.lengths)
    found = made(case)
    contiguous = all(skips_nothing(plane, case.call.block) for plane in dense)
    safe = all(stays_a_number(plane, case.call.block) and plane.any(axis=1).all() for plane in dense)
    event(f"contiguous {contiguous}, safe {safe}")
    assert found.contiguous == contiguous, found.not_contiguous
    assert found.rows_safe == safe, found.not_safe


@settings(max_examples=250)
@given(covered(calls()))
@example(case("causal", 1, 100, (128, 128), offset=99))
@example(case("k % 16 == 3", 5, 100, (128, 128)))  # all tiles are listed: steps past the end are not visited
@example(case("k % 16 == 3 & k >= 128", 5, 200, (128, 128)))  # here they are
@example(case("k >= 0", 1, 200, (128, 128)))
def test_short_calls_may_be_decoded(case: Case) -> None:
    check(case)


@settings(max_examples=250)
@given(covered(long_calls()))
@example(case("causal & window(20)", 130, 130, (64, 32)))
@example(
    case("k >= 16 & causal | k == q", 130, 130, (16, 32))
)  # seen in the first tile, not in its first step
@example(case("k == q + 15 - 2 * (q % 16)", 144, 144, (16, 16)))
def test_long_calls(case: Case) -> None:
    check(case)


KNOWN = {
    "all": (True, True),
    "none": (True, False),
    "causal": (True, True),
    "causal & window(512)": (False, False),
    "causal & window(128)": (True, False),
    "causal & (window(512) | sink(4))": (False, True),
    "causal & chunk(256)": (True, True),
    "causal & chunk(200)": (True, False),
    "prefix(300)": (True, True),
    "k > q": (True, False),  # the last query sees nothing
    "heads(:1) & causal | heads(1:) & window(9)": (True, False),
    "heads(:1) & causal | heads(1:) & causal & (window(512) | sink(1))": (False, True),
}


@pytest.mark.parametrize("text", KNOWN)
def test_masks_that_people_use(text: str) -> None:
    found = promises(am.compile(text).tiles(1024, heads=2), None)
    assert (found.contiguous, found.rows_safe) == KNOWN[text]
    names = np.array(["BLOCKS_ARE_CONTIGUOUS", "ROWS_GUARANTEED_SAFE"])
    assert found.options == tuple(names[list(KNOWN[text])])


def test_why_a_promise_is_not_made() -> None:
    found = promises(am.compile("causal & window(512)").tiles(1024), None)
    assert found.not_contiguous == "partial tiles of row 4: 0, then 4"
    assert found.not_safe == "q = 527 sees none of k in 0:16, visited first"
    found = promises(am.compile("k % 256 < 128 & rows(i < 1000)").tiles(1024, q_offset=7), None)
    assert found.not_contiguous == "partial tiles of row 7: 0, then 2"
    assert found.not_safe == "q = 1000 sees none of k in 0:16, visited first"
    found = promises(am.compile("h == 1 & q in 128:256 | h != 1").tiles(1024, heads=2), None)
    assert found.not_safe == "head 1, q = 0 sees no key"
    seen = np.array([[0] * 1024, [0, 1] * 512])
    found = promises(am.compile("t[q // 128 * 128 + k // 128] == 0", t=seen).tiles(128, 128), None)
    assert found.not_contiguous is found.not_safe is None


@pytest.mark.parametrize("seen", ["k == 0", "k == 15"])
def test_the_last_of_many_queries(seen: str) -> None:
    """Rows are looked at in portions, up to the first query that is not safe."""
    mask = am.compile(f"causal & ({seen} & q < n | window(300))", n=(1 << 16) - 1)
    assert promises(mask.tiles((1 << 16) - 1), None).rows_safe
    assert promises(mask.tiles(1 << 16), None).not_safe == "q = 65535 sees none of k in 0:16, visited first"


def test_columns_are_lists_too() -> None:
    """Every row is one run, and the first column is not."""
    found = promises(am.compile("k // 128 == abs(q // 128 - 1)").tiles(512), None)
    assert found.not_contiguous == "full tiles of column 1: 0, then 2"


def test_scores_that_may_be_minus_infinity() -> None:
    tiles = am.compile("causal").tiles(1024)
    for text, safe in {"softcap(30)": True, "s - (q - k) * 0.5": True, "s + log(q)": False}.items():
        score = am.compile(f"causal with {text}").score
        assert promises(tiles, score).rows_safe == safe, text
    assert promises(tiles, score).not_safe == "a modified score may be minus infinity"
