from __future__ import annotations

import pytest

from attnmask.ir.text import one_line
from attnmask.view.labels import position


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


def test_title_is_one_short_printable_line() -> None:
    assert (
        one_line("# Mine\nlet w = 4  # few\n\n  causal &\twindow(w)\n", 80) == "let w = 4; causal & window(w)"
    )
    assert one_line("\x1b[31mcausal", 80) == "�[31mcausal"
    assert one_line("causal | " * 100, 20) == "causal | causal |..."
    assert len(one_line("causal | " * 100, 20)) == 20
