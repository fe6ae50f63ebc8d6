"""The README's table of proofs, simplification and compilation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from statistics import median
from typing import Any

from benchmarks.markdown import ms, number, table, where

Result = dict[str, Any]
_TITLES = {
    "causal": "causal, of library definitions and published masks",
    "no_empty_rows": "no empty rows, of the same",
    "contained": "contained, of ordered pairs of published masks",
    "equal": "equal, of pairs of published masks",
}


def rendered(result: Result) -> str:
    """Markdown of an algebra result."""
    before = sum(entry["before"] for entry in result["simplified"])
    after = sum(entry["after"] for entry in result["simplified"])
    simplified = [entry["ms"] for entry in result["simplified"]]
    compiled = [entry["ms"] for entry in result["compiled"]]
    first = [entry["ms"] for entry in result["first_compile"]]
    text = (
        f"`simplify` takes {number(100 * (1 - after / before))} % of the operations away from {len(simplified)} "
        f"redundantly written masks ({before} to {after}), in {ms(median(simplified))} in the median and "
        f"{ms(max(simplified))} at most, and makes none costlier. `compile` takes {ms(median(compiled))} in the "
        f"median and {ms(max(compiled))} at most, as the first of a process {ms(median(first))} and {ms(max(first))}."
    )
    head = ["claim", "questions", "proved", "refuted", "unknown", "median", "slowest"]
    return "\n\n".join([where(result), table(head, _rows(result["proofs"])), text])


def _rows(proofs: list[Result]) -> Iterator[list[str]]:
    for claim, title in _TITLES.items():
        asked = [entry for entry in proofs if entry["claim"] == claim]
        found = Counter(entry["status"] for entry in asked)
        spent = [entry["ms"] for entry in asked]
        counts = [str(found[status]) for status in ("proved", "refuted", "unknown")]
        yield [title, str(len(asked)), *counts, ms(median(spent)), ms(max(spent))]
