"""The README's tables, rendered from the results.

    python -m benchmarks.table            # writes the tables into README.md, between their markers
    python -m benchmarks.table --check    # exit code 1 when README.md says something else

The section of a result stands between `<!-- benchmarks:NAME -->` and `<!-- /benchmarks:NAME -->`.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from benchmarks import algebra_table, choices_table, lifting_table
from benchmarks.environment import RESULTS, ROOT
from benchmarks.markdown import megabytes, ms, number, table, thousands, times, where

Result = dict[str, Any]
README = ROOT / "README.md"
_SECTION = re.compile(r"(<!-- benchmarks:(\w+) -->\n).*?(<!-- /benchmarks:\2 -->)", re.DOTALL)


def rendered(name: str, result: Result | None) -> str:
    """Markdown of one result; None stands for a benchmark that has not run."""
    return _NOT_MEASURED[name] if result is None else _RENDER[name](result)


def updated(readme: str, results: Path = RESULTS) -> str:
    """The text with every section replaced by what the results say."""

    def section(match: re.Match[str]) -> str:
        return f"{match[1]}{rendered(match[2], read(match[2], results))}\n{match[3]}"

    return _SECTION.sub(section, readme)


def read(name: str, results: Path = RESULTS) -> Result | None:
    file = results / f"{name}.json"
    if not file.exists():
        return None
    result: Result = json.loads(file.read_text(encoding="utf-8"))
    return result


# ---- build ---------------------------------------------------------------------------------------------------


def _build(result: Result) -> str:
    parts = [
        where(result),
        "Tiles and `BlockMask`, warm, against torch's `create_block_mask` in the same process:",
        _against_torch(result),
        "attnmask alone. Time follows the boundary, which grows with the length; the area grows with its square:",
        _growth(result),
    ]
    if result["memory"]:
        parts += ["Peak memory of one build, above that of the process before it:", _memory(result)]
    if rows := [
        [g["what"], f"{number(g['measured'])} {g['unit']}"] for g in result.get("targets", []) if _is_other(g)
    ]:
        parts += ["Exact counts, and the command from a cold shell:", table(["what", "time"], rows)]
    return "\n\n".join(parts)


def _is_other(goal: dict[str, Any]) -> bool:
    """Whether a goal is about a time that no other table shows."""
    return str(goal["name"]).startswith(("count_", "cold_shell"))


def _against_torch(result: Result) -> str:
    rows = []
    for entry in result["cases"]:
        eager, compiled = entry.get("torch_eager"), entry.get("torch_compiled")
        if eager is None and compiled is None:
            continue
        rows.append(
            [
                f"`{entry['mask']}`",
                thousands(entry["length"]),
                ms(entry["block_mask"]["median_ms"]),
                "–" if eager is None else ms(eager["median_ms"]),
                "–" if compiled is None else ms(compiled["median_ms"]),
                times(entry.get("torch_eager_ratio")),
                times(entry.get("torch_compiled_ratio")),
            ]
        )
    head = [
        "mask",
        "tokens",
        "attnmask",
        "torch, eager",
        "torch, compiled",
        "eager / ours",
        "compiled / ours",
    ]
    return table(head, rows)


def _growth(result: Result) -> str:
    alone = [entry for entry in result["cases"] if entry["checked"].startswith("definition")]
    rows = [
        [
            f"`{entry['mask']}`",
            thousands(entry["length"]),
            ms(entry["tiles"]["median_ms"]),
            ms(entry["block_mask"]["median_ms"]),
            thousands(entry["partial_tiles"]),
            thousands(entry["full_tiles"]),
            thousands(entry["all_tiles"]),
        ]
        for entry in result["growth"] + alone
    ]
    head = ["mask", "tokens", "tiles", "tiles and `BlockMask`", "partial tiles", "full tiles", "all tiles"]
    return table(head, rows)


_WAYS = {
    "tiles": "attnmask, tiles",
    "block_mask": "attnmask, `BlockMask`",
    "torch_eager": "torch, eager",
}


def _memory(result: Result) -> str:
    from benchmarks.masks import CASES

    rows = [
        [
            f"`{CASES[entry['case']].text}`",
            thousands(entry["length"]),
            _WAYS[entry["way"]],
            megabytes(entry["peak"]),
            megabytes(entry["result"]),
        ]
        for entry in result["memory"]
    ]
    return table(["mask", "tokens", "built", "peak", "size of the result"], rows)


def goals(result: Result) -> str:
    """Markdown of what was to be reached, and whether it was; it does not stand in the README."""
    rows = []
    for goal in result["targets"]:
        bound = f"{'≥' if goal['at_least'] else '≤'} {number(goal['limit'])} {goal['unit']}"
        reached = "yes" if goal["reached"] else "**no**"
        rows.append([goal["what"], bound, f"{number(goal['measured'])} {goal['unit']}", reached])
    return table(["what", "goal", "measured", "reached"], rows)


# ---- attention -----------------------------------------------------------------------------------------------


def _attention_cpu(result: Result) -> str:
    rows = [
        [
            f"`{entry['mask']}`",
            thousands(entry["length"]),
            *(ms(entry[way]["median_ms"]) for way in ("flex", "tiled", "sdpa_dense")),
            times(entry["sdpa_dense"]["median_ms"] / entry["flex"]["median_ms"]),
            f"{100 * entry['tile_density']:.1f} %",
        ]
        for entry in result["cases"]
    ]
    shape = result["shape"]
    intro = (
        f"Forward, {shape['heads']} heads of {shape['head_dim']}, {shape['dtype']}; the first compilation "
        f"(up to {max(entry['compile_s'] for entry in result['cases']):.0f} s here) is not counted:"
    )
    head = [
        "mask",
        "tokens",
        "FlexAttention, compiled",
        "tiled",
        "SDPA, dense mask",
        "SDPA / Flex",
        "live tiles",
    ]
    return "\n\n".join([where(result), intro, table(head, rows)])


def _attention_gpu(result: Result) -> str:
    rows = []
    for entry in result["cases"]:
        for way, title in (
            ("attnmask", "attnmask"),
            ("torch", "torch's builder"),
            ("sdpa_causal", "SDPA, causal"),
        ):
            for direction in ("forward", "backward"):
                timing = entry[way][direction]
                if timing is None:
                    continue
                share = timing.get("share_of_bound")
                rows.append(
                    [
                        f"`{entry['mask']}`",
                        thousands(entry["length"]),
                        title,
                        direction,
                        ms(timing["median_ms"]),
                        f"{timing['tflops']:.0f}",
                        "–" if share is None else f"{100 * share:.0f} %",
                    ]
                )
    shape = result["shape"]
    intro = f"{shape['heads']} heads of {shape['head_dim']}, {shape['dtype']}:"
    head = ["mask", "tokens", "what", "direction", "time", "TFLOP/s", "share of the bound"]
    built = [
        [
            f"`{entry['mask']}`",
            thousands(entry["length"]),
            *(
                "does not fit" if entry["build"][way] is None else ms(entry["build"][way]["median_ms"])
                for way in ("attnmask", "torch_eager", "torch_compiled")
            ),
        ]
        for entry in result["cases"]
    ]
    build_head = ["mask", "tokens", "attnmask", "torch, eager", "torch, compiled"]
    bound = (
        "TFLOP/s count attended pairs only. The bound is the time of SDPA's flash kernel without a mask, scaled by "
        "the share of tiles that are live. Building the block mask on the device:"
    )
    return "\n\n".join([where(result), intro, table(head, rows), bound, table(build_head, built)])


_RENDER: dict[str, Callable[[Result], str]] = {
    "build": _build,
    "attention_cpu": _attention_cpu,
    "attention_gpu": _attention_gpu,
    "lifting": lifting_table.rendered,
    "algebra": algebra_table.rendered,
    "choices": choices_table.rendered,
}
_NOT_MEASURED = {
    "choices": "Not measured yet: `python -m benchmarks.choices`.",
    "algebra": "Not measured yet: `python -m benchmarks.algebra`.",
    "lifting": "Not measured yet: `python -m benchmarks.lifting`.",
    "build": "Not measured yet: `python -m benchmarks.build`.",
    "attention_cpu": "Not measured yet: `python -m benchmarks.attention_cpu`.",
    "attention_gpu": "GPU figures are not measured yet: `python -m benchmarks.attention_gpu` needs CUDA.",
}


def main(arguments: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.table")
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 when a table is old")
    asked = parser.parse_args(None if arguments is None else list(arguments))
    before = README.read_text(encoding="utf-8")
    after = updated(before)
    if asked.check and after != before:
        sys.exit("README.md and benchmarks/results differ; run python -m benchmarks.table")
    if not asked.check:
        README.write_text(after, encoding="utf-8")


if __name__ == "__main__":
    main()
