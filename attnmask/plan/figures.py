"""Figures as people read them: shares, FLOPs, bytes, and tables of them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

_LEAST_SHARE = 1e-8


def percent(share: float) -> str:
    """A share of 1 as a percentage of three digits; only nothing is `0 %` and only everything `100 %`.

    >>> [percent(x) for x in (0, 0.5, 0.00012345, 0.99999, 1, 78.123)]
    ['0 %', '50 %', '0.0123 %', '> 99.9 %', '100 %', '7,810 %']
    """
    if 0.9995 <= share < 1:
        return "> 99.9 %"
    if 0 < share < _LEAST_SHARE:
        return "< 0.000001 %"
    return f"{float(f'{100 * share:.3g}'):,.10f}".rstrip("0").rstrip(".") + " %"


def flops_text(number: int) -> str:
    return _scaled(number, 1000, ("FLOP", "kFLOP", "MFLOP", "GFLOP", "TFLOP", "PFLOP", "EFLOP"))


def bytes_text(number: int) -> str:
    return _scaled(number, 1024, ("B", "KiB", "MiB", "GiB", "TiB"))


def _scaled(number: int, step: int, units: tuple[str, ...]) -> str:
    value, unit = float(number), units[0]
    for bigger in units[1:]:
        if value < step:
            break
        value, unit = value / step, bigger
    return f"{value:.4g} {unit}"


def figures_table(title: str, lines: Iterable[tuple[str, str]]) -> Table:
    """Labels and figures as a table of rich."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title), title_justify="left", show_header=False, box=None)
    table.add_column(style="dim", no_wrap=True)
    table.add_column()
    for label, figure in lines:
        table.add_row(Text(label), Text(figure))
    return table
