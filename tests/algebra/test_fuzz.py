"""The fuzz target runs, and fails where something is wrong."""

from __future__ import annotations

import pytest

from attnmask.algebra.laws import rewrite
from attnmask.ir.nodes import Compare
from attnmask.ir.predicate import compare
from attnmask.ir.walk import transform
from tests.algebra import fuzz
from tests.algebra.fuzz import same
from tests.strategies import Case


def test_a_few_seconds() -> None:
    assert fuzz.fuzz(seconds=4, seed=1) >= 50


def test_a_law_that_is_wrong_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(case: Case) -> None:
        """Takes `<=` for `<`."""
        wrong = transform(
            rewrite(case.mask.predicate),
            lambda node: (
                compare(node.lhs, "<", node.rhs) if isinstance(node, Compare) and node.op == "<=" else node
            ),
        )
        same(case.mask.predicate, wrong, case.call.domain, "careless")

    monkeypatch.setattr(fuzz, "CHECKS", (careless,))
    with pytest.raises(AssertionError, match="careless changes"):
        fuzz.fuzz(seconds=20, seed=1)
