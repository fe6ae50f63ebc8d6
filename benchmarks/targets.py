"""What building and lifting have to reach, and whether they do."""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median
from typing import Any

from benchmarks.lifting_table import builds, compared
from benchmarks.masks import CASES, LONGEST

Result = dict[str, Any]
_MB = 1_000_000


def targets(result: Result) -> list[Result]:
    """One entry for each goal that the result has a number for."""
    return [*_ratios(result), *_times(result), *_memory(result), *_command(result)]


def _goal(
    name: str, what: str, measured: float, limit: float, unit: str, *, at_least: bool = False
) -> Result:
    reached = measured >= limit if at_least else measured <= limit
    return {
        "name": name,
        "what": what,
        "measured": round(measured, 3),
        "limit": round(limit, 3),
        "unit": unit,
        "at_least": at_least,
        "reached": reached,
    }


def _ratios(result: Result) -> Iterator[Result]:
    for entry in result["cases"]:
        if (entry["case"], entry["length"]) != ("window_sink", 32768):
            continue
        for name, limit, title in (("torch_eager", 2000, "eager"), ("torch_compiled", 200, "compiled")):
            if f"{name}_ratio" in entry:
                what = f"`{entry['mask']}` at 32 768 tokens, against {title} `create_block_mask`"
                yield _goal(f"ratio_{title}", what, entry[f"{name}_ratio"], limit, "times", at_least=True)


def _times(result: Result) -> Iterator[Result]:
    for entry in result["growth"]:
        if entry["length"] == LONGEST:
            what = f"`{entry['mask']}` at 1 048 576 tokens"
            yield _goal("time_window_sink", what, entry["block_mask"]["median_ms"], 100, "ms")
    for entry in result["cases"]:
        if (entry["case"], entry["length"]) == ("documents", LONGEST):
            what = "`same(doc)`, 1000 documents, 1 048 576 tokens"
            yield _goal("time_documents", what, entry["block_mask"]["median_ms"], 1000, "ms")
    for entry in result["counts"]:
        if entry["length"] == LONGEST:
            what = f"`report` of `{CASES[entry['case']].text}` at 1 048 576 tokens"
            yield _goal(f"count_{entry['case']}", what, entry["report"]["median_ms"], 1000, "ms")


def _memory(result: Result) -> Iterator[Result]:
    for entry in result["memory"]:
        if entry["way"] in ("tiles", "block_mask") and entry["length"] == LONGEST:
            kind = "tiles" if entry["way"] == "tiles" else "block mask"
            what = f"peak memory, {kind} of `{CASES[entry['case']].text}` at 1 048 576 tokens"
            limit = (3 * entry["result"] + 64 * _MB) / _MB
            yield _goal(f"memory_{entry['case']}_{entry['way']}", what, entry["peak"] / _MB, limit, "MB")


def _command(result: Result) -> Iterator[Result]:
    if "command" in result:
        what = '`attnmask show "causal & window(512)"` from a cold shell, torch not imported'
        goal = _goal("cold_shell", what, result["command"]["median_ms"] / 1e3, 0.6, "s")
        yield {**goal, "reached": goal["reached"] and not result["command"]["imports_torch"]}


def lifting_targets(result: Result) -> list[Result]:
    """Likewise for the functions of the suite."""
    return list(_lifting(result["entries"]))


def _lifting(entries: list[Result]) -> Iterator[Result]:
    lifted = [entry for entry in entries if entry["lifted"]]
    share = 100 * len(lifted) / len(entries)
    yield _goal("lifted", "functions that are lifted", share, 100, "%", at_least=True)
    equal, total = compared(entries)
    share = 100 * equal / total
    yield _goal("equal", "block masks that list what torch lists", share, 100, "%", at_least=True)
    if lifted:
        slowest = max(entry["lift"]["median_ms"] for entry in lifted)
        yield _goal("lift_time", "lifting, the slowest function", slowest, 5, "ms")
    yield from _lifting_ratios(entries)
    # A new process pays for every page that it touches, as a user's first builds do.
    if alone := [
        max(alone["attnmask"]["median_ms"], alone["fresh_ms"] or 0)
        for entry in entries
        for alone in entry["alone"]
        if alone["length"] == 100_000
    ]:
        what = "neighbourhoods at 100 000 tokens, the slowest function"
        yield _goal("time_neighbourhoods", what, max(alone), 1000, "ms")
    if memory := [used for entry in entries for used in entry["memory"]]:
        within = sum(used["peak"] <= 3 * used["result"] + 64 * _MB for used in memory)
        what = "functions with a peak memory of at most 3 times the result and 64 MB"
        yield _goal("memory", what, 100 * within / len(memory), 100, "%", at_least=True)


def _lifting_ratios(entries: list[Result]) -> Iterator[Result]:
    for way, length, of, which, limit in (
        ("eager", 4096, min, "the least", 1),
        ("eager", 16384, median, "the median", 100),
        ("compiled", 65536, median, "the median", 200),
    ):
        if ratios := [build["ratio"] for build in builds(entries, way, length) if "ratio" in build]:
            what = f"{way} `create_block_mask` against attnmask at {length} tokens, {which}"
            yield _goal(f"ratio_{way}_{length}", what, of(ratios), limit, "times", at_least=True)


def algebra_targets(result: Result) -> list[Result]:
    """Likewise for proofs, simplification and compilation."""
    return list(_algebra(result))


def _algebra(result: Result) -> Iterator[Result]:
    spent = [entry["ms"] for entry in result["proofs"]]
    yield _goal("prove_median", f"{len(spent)} questions, the median", median(spent), 50, "ms")
    yield _goal("prove_most", f"{len(spent)} questions, the slowest", max(spent) / 1e3, 2, "s")
    before = sum(entry["before"] for entry in result["simplified"])
    after = sum(entry["after"] for entry in result["simplified"])
    what = f"operations that `simplify` saves over {len(result['simplified'])} redundant masks"
    yield _goal("simplify_share", what, 100 * (1 - after / before), 25, "%", at_least=True)
    costlier = sum(entry["after"] > entry["before"] for entry in result["simplified"])
    yield _goal("simplify_costlier", "masks that `simplify` makes costlier", costlier, 0, "masks")
    yield _goal("compile", "`compile`, the slowest mask", max(e["ms"] for e in result["compiled"]), 20, "ms")
    first = max(entry["ms"] for entry in result["first_compile"])
    yield _goal("first_compile", "`compile`, first of a process, the slowest mask", first, 20, "ms")
