"""Figures as people read them."""

from __future__ import annotations

import pytest

from attnmask.plan.figures import percent


@pytest.mark.parametrize(
    ("share", "label"),
    [
        (0, "0 %"),
        (1, "100 %"),
        (0.5, "50 %"),
        (0.117981, "11.8 %"),
        (1 / 3, "33.3 %"),
        (0.00012345, "0.0123 %"),
        (0.99999, "> 99.9 %"),
        (1e-7, "0.00001 %"),
        (1e-12, "< 0.000001 %"),
        (78.1234, "7,810 %"),
    ],
)
def test_percent_never_rounds_to_nothing_or_to_all(share: float, label: str) -> None:
    assert percent(share) == label
