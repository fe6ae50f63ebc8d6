from __future__ import annotations

import pytest

from attnmask.ir.text import one_line
from attnmask.view.labels import percent, position


@pytest.mark.parametrize(
    ("tokens", "label"),
    [
        (0, "0"),
        (768, "768"),
        (1000, "1000"),
        (1024, "1k"),
        (1536, "1.5k"),
        (1537, "1537"),
        (100_000, "100000"),
        (131_072, "128k"),
        (1 << 20, "1m"),
        (3 << 19, "1.5m"),
        (12_345_678, "11.77m"),  # nothing exact is short enough
    ],
)
def test_position(tokens: int, label: str) -> None:
    assert position(tokens) == label


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
    ],
)
def test_percent_never_rounds_to_nothing_or_to_all(share: float, label: str) -> None:
    assert percent(share) == label


def test_title_is_one_short_printable_line() -> None:
    assert (
        one_line("# Mine\nlet w = 4  # few\n\n  causal &\twindow(w)\n", 80) == "let w = 4; causal & window(w)"
    )
    assert one_line("\x1b[31mcausal", 80) == "�[31mcausal"
    assert one_line("causal | " * 100, 20) == "causal | causal |..."
    assert len(one_line("causal | " * 100, 20)) == 20
