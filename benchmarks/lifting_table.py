"""The results of `benchmarks.lifting` as text: a line a function for the terminal, a row a family for the README."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from statistics import median
from typing import Any

from benchmarks.markdown import megabytes, ms, number, table, thousands, times, where

Result = dict[str, Any]


def line(entry: Result) -> str:
    """One function: lifted, equal, times."""
    if not entry["lifted"]:
        return f"{entry['name']:26} is not lifted: {entry['why']}"
    parts = [f"{entry['name']:26} lifted in {ms(entry['lift']['median_ms'])}"]
    parts += [f"differs at {c['length']}, blocks {c['block']}: {c['why']}" for c in _unequal(entry)]
    for build in entry["builds"]:
        against = times(build.get("ratio")) if "ratio" in build else build.get("why", "–")
        own = ms(build["attnmask"]["median_ms"])
        parts.append(f"{build['length']}: {own}, {build['torch']} {against}")
    for alone in entry["alone"]:
        fresh = "" if alone["fresh_ms"] is None else f", new process {ms(alone['fresh_ms'])}"
        parts.append(f"{alone['length']}: {ms(alone['attnmask']['median_ms'])}{fresh}")
    parts += [f"peak {megabytes(m['peak'])} for {megabytes(m['result'])}" for m in entry["memory"]]
    return " · ".join(parts)


def _unequal(entry: Result) -> Iterator[Result]:
    """Comparisons with torch that found a difference."""
    yield from (check for check in entry["checks"] if not check["equal"])
    for build in entry["builds"]:
        if not build.get("equal", True):
            yield {**build, "block": 128}


def compared(entries: Iterable[Result]) -> tuple[int, int]:
    """How many block masks were equal to torch's, and how many were compared."""
    counts = [
        (len(entry["checks"]) + sum("equal" in b for b in entry["builds"]), len(list(_unequal(entry))))
        for entry in entries
    ]
    total = sum(all_ for all_, _ in counts)
    return total - sum(unequal for _, unequal in counts), total


def rendered(result: Result) -> str:
    """The section of the README."""
    entries = result["entries"]
    lifted = sum(entry["lifted"] for entry in entries)
    equal, total = compared(entries)
    any_length = sum(entry["any_length"] for entry in entries)
    summary = (
        f"{len(entries)} functions as people write them for FlexAttention, given to `attnmask.create_block_mask` as "
        f"they are: {lifted} are lifted ({any_length} for any length), and {equal} of {total} block masks list the "
        f"same tiles as torch's. One more function, which subtracts floats of q and k, is left to torch. "
        f"{_medians(entries)}Of each family the slowest function, and the least ratio:"
    )
    parts = [where(result), summary, _families(entries)]
    if rows := list(_alone(entries)):
        head = [
            "function",
            "tokens",
            "tiles and `BlockMask`",
            "in a new process",
            "partial tiles",
            "full tiles",
        ]
        parts += ["Images and videos at lengths where torch has no memory:", table(head, rows)]
    parts += _memory(entries)
    return "\n\n".join(parts)


def builds(entries: Iterable[Result], torch: str, length: int | None = None) -> list[Result]:
    """The builds against one way of torch's, at one length or at all."""
    return [
        build
        for entry in entries
        for build in entry["builds"]
        if build["torch"] == torch and length in (None, build["length"])
    ]


def _columns(entries: list[Result]) -> list[tuple[str, int]]:
    """The ways and lengths that were measured against torch, in order."""
    return sorted({(b["torch"], b["length"]) for e in entries for b in e["builds"]}, key=lambda at: at[1])


def _medians(entries: list[Result]) -> str:
    said = []
    for way, length in _columns(entries):
        if ratios := [b["ratio"] for b in builds(entries, way, length) if "ratio" in b]:
            said.append(
                f"{number(median(ratios))} times as fast as torch, {way}, at {thousands(length)} tokens"
            )
        if failed := len(builds(entries, way, length)) - len(ratios):
            said.append(f"where torch, {way}, fails on {failed}")
    return f"The median function is built {', '.join(said)}. " if said else ""


def _families(entries: list[Result]) -> str:
    columns = _columns(entries)
    head = ["family", "functions", "lifting"]
    for way, length in columns:
        head += [f"{thousands(length)} tokens", f"{way} / ours"]
    rows = []
    for family, group in groupby(sorted(entries, key=_order(entries)), key=lambda e: str(e["family"])):
        members = list(group)
        lifts = [entry["lift"]["median_ms"] for entry in members if entry["lifted"]]
        row = [family, str(len(members)), ms(max(lifts)) if lifts else "–"]
        for way, length in columns:
            found = builds(members, way, length)
            row.append(ms(max(b["attnmask"]["median_ms"] for b in found)) if found else "–")
            row.append(times(min((b["ratio"] for b in found if "ratio" in b), default=None)))
        rows.append(row)
    return table(head, rows)


def _order(entries: list[Result]) -> Any:
    """Families in the order in which they are met first."""
    families = list(dict.fromkeys(entry["family"] for entry in entries))
    return lambda entry: families.index(entry["family"])


def _alone(entries: Iterable[Result]) -> Iterator[list[str]]:
    for entry in entries:
        for alone in entry["alone"]:
            yield [
                f"`{entry['name']}`",
                thousands(alone["length"]),
                ms(alone["attnmask"]["median_ms"]),
                "–" if alone["fresh_ms"] is None else ms(alone["fresh_ms"]),
                thousands(alone["partial_tiles"]),
                thousands(alone["full_tiles"]),
            ]


def _memory(entries: Iterable[Result]) -> list[str]:
    """Peak memory in a sentence for each length."""
    by_length: dict[int, list[tuple[str, Result]]] = {}
    for entry in entries:
        for used in entry["memory"]:
            by_length.setdefault(used["length"], []).append((entry["name"], used))
    sentences = []
    for length, all_used in by_length.items():
        name, most = max(all_used, key=lambda named: int(named[1]["peak"]))
        typical = median(used["peak"] for _, used in all_used)
        sentences.append(
            f"Peak memory of one build at {thousands(length)} tokens: {megabytes(typical)} for the median function, "
            f"{megabytes(most['peak'])} at most (`{name}`, whose result has {megabytes(most['result'])})."
        )
    return sentences
