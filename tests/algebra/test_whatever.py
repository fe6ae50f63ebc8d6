"""Rows that are empty whatever is chosen: every counterexample is held against choices from random q and k."""

from __future__ import annotations

import numpy as np
import pytest

import attnmask as am
from attnmask.ir.chosen import dense_with_choices
from attnmask.ir.domain import Domain
from attnmask.provable import ClaimName

EMPTY = (
    "causal & topk_blocks(8)",
    "causal & (diagonal | topk_blocks(8))",
    "causal & (k >= 3 & sink(5) | top(2, blocks(4, q_block=4)))",
    "causal & spans(top(2, blocks(4)), back=1) & k >= 1",
    "~topk_blocks(3) & k > q",
    "causal & top(2, blocks(4), count=same(i // 4)) & k > 2",
    "causal & top(3, probe(64, along=diagonals)) & k != 0",
    "causal & (q == 0 | label[k] == 1 & topk_blocks(2, block=2, q_block=2))",
)
LABEL = {"label": np.arange(12) % 3}


@pytest.mark.parametrize("claim", ["no_empty_rows", "no_empty_columns"])
@pytest.mark.parametrize("text", EMPTY)
def test_a_row_that_is_called_empty_is(text: str, claim: ClaimName) -> None:
    mask = am.compile(text, **LABEL) if "label" in text else am.compile(text)
    verdict = mask.prove(claim)
    assert verdict.status == "refuted"
    found = verdict.counterexample
    assert found is not None
    call = Domain(found.q_len, found.kv_len, found.q_offset, found.batch, found.heads)
    tables = {name: data.array for name, data in mask.tables}
    n = np.random.default_rng(0)
    for _ in range(20):
        q, k = (n.standard_normal((1, 1, length, 4)) for length in (call.q_len, call.kv_len))
        seen = dense_with_choices(mask.predicate, q, k, call, tables, {})[0, 0]
        row = seen[found.q - call.q_offset] if found.q is not None else seen[:, found.k]
        assert not row.any()


UNKNOWN = (
    "topk_blocks(3)",  # of all blocks, one is always taken
    "causal & topk_tokens(4)",
    "causal & top_p(0.5, probe(8))",
    "sink(1) ^ topk_blocks(2)",  # more of the choice is not more of the mask
    "causal & where(topk_blocks(2), 1, 0) == 1",
    "causal & label[k] == 1 & topk_blocks(2)",  # a table that nobody has bound
    "top(1, blocks(i // (h + 2), heads=max), among=none)",  # a call of several heads is refused
)


@pytest.mark.parametrize("text", UNKNOWN)
def test_nothing_is_claimed_where_a_choice_might_fill_the_row(text: str) -> None:
    assert am.compile(text).prove("no_empty_rows", square=True).status == "unknown"


def test_the_call_that_is_given_is_looked_at() -> None:
    mask = am.compile("causal & top(2, blocks(16, q_block=16))")
    found = mask.prove("no_empty_rows", q_len=64, kv_len=64).counterexample
    assert found is not None and (found.q_len, found.kv_len, found.q) == (64, 64, 0)
    later = mask.prove("no_empty_rows", q_len=64, kv_len=128, q_offset=64)
    assert later.status == "unknown"  # every block of queries has candidates
    assert "whatever is chosen" in str(mask.prove("no_empty_rows", square=True))
