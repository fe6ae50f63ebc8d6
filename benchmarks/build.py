"""How long attnmask takes to build tiles and block masks, against torch in the same process.

    python -m benchmarks.build            # minutes; writes results/build.json and README.md
    python -m benchmarks.build --quick    # short lengths, one minute or less; writes nothing

torch's builder gets the function that its users write by hand. Every build is compared with torch's, tile by
tile, before it is timed; where torch cannot build one, some of its rows are compared with the definition. Times
are medians, warm; the cache that would answer a repeated call is cleared before each run.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import agreement, builders, table
from benchmarks.command import cold_start
from benchmarks.environment import RESULTS, environment
from benchmarks.masks import CASES, LONGEST
from benchmarks.memory import measure
from benchmarks.targets import targets
from benchmarks.timing import timed

Result = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured. Lengths in tokens."""

    against_torch: tuple[tuple[str, int], ...]
    eager_most: int
    growth: tuple[int, ...]
    alone: tuple[tuple[str, int], ...]
    memory: tuple[tuple[str, int, str], ...]
    counts: tuple[tuple[str, int], ...]
    eager_runs: int = 3
    seconds: float = 2.0  # that each timing lasts, at least


FULL = Plan(
    against_torch=(
        *(("window_sink", length) for length in (4096, 16384, 32768, 65536)),
        *(("causal", length) for length in (4096, 16384, 32768)),
        *(("causal_documents", length) for length in (4096, 16384, 32768)),
    ),
    eager_most=32768,
    growth=tuple(4096 << step for step in range(9)),
    alone=(("causal", LONGEST), ("documents", LONGEST), ("causal_documents", LONGEST)),
    memory=(
        *((case, LONGEST, way) for case in CASES for way in ("tiles", "block_mask")),
        ("window_sink", 32768, "block_mask"),
        ("window_sink", 32768, "torch_eager"),
    ),
    counts=tuple((case, LONGEST) for case in CASES),
)
QUICK = Plan(
    against_torch=(("window_sink", 4096), ("causal_documents", 4096)),
    eager_most=4096,
    growth=(4096, 16384, 65536, 262144),
    alone=(("causal_documents", 65536),),
    memory=(("window_sink", 65536, "tiles"), ("window_sink", 8192, "torch_eager")),
    counts=(("window_sink", 65536),),
)
TINY = Plan(
    against_torch=(("causal_documents", 512),),
    eager_most=512,
    growth=(512, 1024),
    alone=(("causal", 1024),),
    memory=(),
    counts=(),
    eager_runs=1,
    seconds=0,
)


def measured(plan: Plan, *, compiled: bool = True, command: bool = True) -> Result:
    """Everything in the plan, as it goes into the JSON; says on the way what it is at."""
    result: Result = {"environment": environment(), "cases": [], "growth": [], "memory": [], "counts": []}
    for case, length in plan.against_torch:
        _say(f"{CASES[case].text} at {length}: attnmask and torch")
        eager = length <= plan.eager_most and builders.eager_fits(length)
        eager_runs = plan.eager_runs if eager else 0
        result["cases"].append(against_torch(case, length, eager_runs, compiled, plan.seconds))
    for case, length in plan.alone:
        _say(f"{CASES[case].text} at {length}")
        result["cases"].append(alone(case, length, plan.seconds))
    for length in plan.growth:
        _say(f"{CASES['window_sink'].text} at {length}: growth")
        result["growth"].append(alone("window_sink", length, plan.seconds))
    for case, length, way in plan.memory:
        if way == "torch_eager" and not builders.eager_fits(length):
            continue
        _say(f"{CASES[case].text} at {length}: memory of {way}")
        if (memory := measure(case, length, way)) is not None:
            result["memory"].append({"case": case, "length": length, "way": way, **memory})
    for case, length in plan.counts:
        _say(f"{CASES[case].text} at {length}: report")
        result["counts"].append(pair_count(case, length, plan.seconds))
    if command:
        _say("the command line")
        cold = cold_start("show", "causal & window(512)")
        result["command"] = {**cold.timing.to_dict(), "imports_torch": cold.imports_torch}
    result["targets"] = targets(result)
    return result


def against_torch(case: str, length: int, eager_runs: int, compiled: bool, seconds: float) -> Result:
    """attnmask and torch at one length, after their lists were found equal."""
    mask = CASES[case].mask(length)
    call = builders.square(builders.handwritten(case, length), length)
    found = builders.ours(mask, length)
    torch_times: Result = {}
    if compiled:
        build = builders.torch_compiled()
        start = time.perf_counter()
        expected = build(call)
        torch_times["torch_compile_s"] = round(time.perf_counter() - start, 2)
        agreement.assert_equal_lists(found, expected)
        timing = timed(lambda: build(call), least_runs=3, seconds=seconds)
        torch_times["torch_compiled"] = timing.to_dict()
    if eager_runs:
        agreement.assert_equal_lists(found, builders.torch_eager(call))
        # The comparison was the warm-up: at 32 768 tokens every run takes 10 s and as many gigabytes.
        eager = timed(lambda: builders.torch_eager(call), warmups=0, least_runs=eager_runs, seconds=0)
        torch_times["torch_eager"] = eager.to_dict()
    own = _own_times(case, length, seconds)
    for name in ("torch_eager", "torch_compiled"):
        if name in torch_times:
            ratio = torch_times[name]["median_ms"] / own["block_mask"]["median_ms"]
            torch_times[f"{name}_ratio"] = round(ratio, 1)
    return {**own, "checked": "torch, all tiles", **torch_times}


def alone(case: str, length: int, seconds: float) -> Result:
    """attnmask at one length, after some rows were compared with the definition."""
    mask = CASES[case].mask(length)
    tiles = mask.tiles(length)
    rows = sorted({0, tiles.rows // 3, tiles.rows - 1})
    agreement.assert_equal_definition(mask, tiles, rows)
    return {**_own_times(case, length, seconds), "checked": f"definition, {len(rows)} rows of tiles"}


def _own_times(case: str, length: int, seconds: float) -> Result:
    mask = CASES[case].mask(length)
    tiles = mask.tiles(length)
    partial, full = len(tiles.partial.indices), len(tiles.full.indices)
    tiles_time = timed(lambda: mask.tiles(length), seconds=seconds)
    block_mask_time = timed(lambda: builders.ours(mask, length), before=builders.forget, seconds=seconds)
    builders.forget()
    return {
        "case": case,
        "mask": CASES[case].text,
        "length": length,
        "partial_tiles": partial,
        "full_tiles": full,
        "all_tiles": tiles.rows * tiles.cols,
        "tiles": tiles_time.to_dict(),
        "block_mask": block_mask_time.to_dict(),
    }


def pair_count(case: str, length: int, seconds: float) -> Result:
    """The time of a whole report, which counts the attended pairs exactly."""
    mask = CASES[case].mask(length)
    timing = timed(lambda: mask.report(length), warmups=1, least_runs=3, seconds=seconds)
    return {"case": case, "length": length, "report": timing.to_dict()}


def _say(what: str) -> None:
    print(f"· {what}", flush=True)


def main(arguments: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.build", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument(
        "--quick", action="store_true", help="short lengths; writes nothing unless told where"
    )
    parser.add_argument("--output", type=Path, metavar="FILE", help="where the JSON goes")
    asked = parser.parse_args(None if arguments is None else list(arguments))
    result = measured(QUICK if asked.quick else FULL)
    print()
    print(f"{table.rendered('build', result)}\n\n{table.goals(result)}")
    output = asked.output or (None if asked.quick else RESULTS / "build.json")
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        print(f"\nwrote {output}")
    if output == RESULTS / "build.json":
        table.main([])


if __name__ == "__main__":
    main()
