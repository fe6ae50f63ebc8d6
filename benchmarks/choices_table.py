"""The README's table of choices made at run time."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.markdown import megabytes, ms, number, table, times, where

Result = dict[str, Any]


def rendered(result: Result) -> str:
    """Markdown of a result of choices."""
    shape, length = result["shape"], result["length"]
    text = (
        f"{length:,} tokens, {shape['heads']} heads, head dimension {shape['head_dim']}, {shape['dtype']}: choosing "
        f"and the block mask beside the compiled attention after them, and all together against dense causal "
        f"FlexAttention ({ms(result['dense_ms'])}). A truth value for every pair would take "
        f"{megabytes(result['cases'][0]['pairs_bytes'])}."
    )
    head = [
        "mask",
        "choose",
        "block mask",
        "attention",
        "overhead",
        "against dense",
        "live tiles",
        "peak memory",
    ]
    return "\n\n".join([where(result), text, table(head, _rows(result))])


def _rows(result: Result) -> Iterator[list[str]]:
    for entry in result["cases"]:
        choose, build, attention, both = (
            entry[name]["median_ms"] for name in ("choose", "block_mask", "attention", "both")
        )
        yield [
            f"`{entry['mask']}`",
            ms(choose),
            ms(build),
            ms(attention),
            f"{number(100 * (choose + build) / attention)} %",
            times(result["dense_ms"] / both),
            f"{number(100 * entry['tile_density'])} %",
            megabytes(entry["peak_bytes"]),
        ]
