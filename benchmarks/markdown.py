"""Tables and numbers as the README shows them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

Result = dict[str, Any]


def where(result: Result) -> str:
    """When and on what a result was measured."""
    env = result["environment"]
    machine = f"{env['cpu']}, {env['cores']} cores, {env['memory_gib']} GiB"
    if env.get("gpu"):
        machine = f"{env['gpu']}; {machine}"
    return (
        f"Measured {env['date']} at commit `{env['commit']}` on {machine}; "
        f"Python {env['python']}, torch {env['torch']}, numpy {env['numpy']}."
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] + ["---:"] * (len(head) - 1), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def thousands(value: int) -> str:
    return f"{value:,}".replace(",", "\u202f")


def number(value: float) -> str:
    return thousands(round(value)) if value >= 100 else f"{value:.3g}"


def ms(value: float) -> str:
    return f"{number(value / 1e3)} s" if value >= 1000 else f"{number(value)} ms"


def times(value: float | None) -> str:
    return "–" if value is None else f"{number(value)} ×"


def megabytes(value: int) -> str:
    return f"{number(value / 1e6)} MB"
