"""Thirty masks as people write them, with more conditions than they need."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

import attnmask as am
from attnmask.algebra.cost import operations
from attnmask.algebra.laws import rewrite
from attnmask.ir.nodes import Predicate
from attnmask.ir.text import to_text
from attnmask.mask import Mask
from tests.algebra.pairs import Pair, pairs

MASKS = pairs("redundant.txt")
_POSITIONS = 1300
_random = np.random.default_rng(4)
TABLES = {
    "doc": np.sort(_random.integers(0, 40, _POSITIONS)),
    "live": _random.integers(0, 5, _POSITIONS) > 0,
    "role": _random.integers(0, 3, _POSITIONS),
    "length": np.array([1, 40, 900]),
    "layer": 5,
}
# Queries, keys, offset: small and unequal ones, and rows far down, where windows of a thousand end.
CALLS = [(1, 1, 0), (7, 12, 0), (12, 7, 0), (40, 40, 3), (150, 150, 0), (9, 1100, 1091), (3, 1300, 1290)]


@cache
def compiled(text: str) -> Mask:
    mask = am.compile(text)
    return mask.bind(**{name: TABLES[name] for name in mask.unbound})


def simplified(text: str) -> Predicate:
    return rewrite(compiled(text).predicate)


@pytest.mark.parametrize("pair", MASKS, ids=lambda pair: pair.heading)
def test_simplified_text(pair: Pair) -> None:
    # Before tables are bound, so that a setting is not a number yet.
    assert to_text(rewrite(am.compile(pair.given).predicate)) == str(am.compile(pair.expected))


@pytest.mark.parametrize("pair", MASKS, ids=lambda pair: pair.heading)
def test_the_same_pairs_are_attended(pair: Pair) -> None:
    mask, found = compiled(pair.given), Mask(simplified(pair.given), tables=compiled(pair.given).tables)
    for q_len, kv_len, q_offset in CALLS:
        calls = [
            each.dense(q_len, kv_len, batch=3, heads=10, q_offset=q_offset)
            for each in (mask, found, compiled(pair.expected))
        ]
        np.testing.assert_array_equal(calls[0], calls[1])
        np.testing.assert_array_equal(calls[0], calls[2])


def test_operations_saved() -> None:
    """A quarter at the least, of all thirty together."""
    assert len(MASKS) == 30
    roots = [am.compile(pair.given).predicate for pair in MASKS]
    before, after = (sum(operations(each) for each in found) for found in (roots, map(rewrite, roots)))
    assert after <= 0.75 * before
    assert before - after == sum(operations(root) - operations(rewrite(root)) for root in roots)
