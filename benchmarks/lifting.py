"""Functions as people write them (`mask_functions`): whether attnmask lifts them, and builds what torch builds.

    python -m benchmarks.lifting                   # half an hour; writes results/lifting.json and README.md
    python -m benchmarks.lifting --quick           # short lengths, two minutes; writes nothing
    python -m benchmarks.lifting --only causal     # all of it for one function; writes nothing

attnmask gets the very function that torch gets, and may not fall back on torch. Its time has everything in it:
tracing, tiles, BlockMask. The caches that would answer a repeated call are cleared before each run.
"""

from __future__ import annotations

import argparse
import gc
import json
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

from torch.nn.attention.flex_attention import BlockMask

import attnmask as am
from benchmarks import agreement, builders, lifting_table, memory, table
from benchmarks.builders import Call
from benchmarks.environment import RESULTS, environment
from benchmarks.mask_functions import ENTRIES
from benchmarks.mask_functions.entry import MaskFunction
from benchmarks.targets import lifting_targets
from benchmarks.timing import once, timed

Result = dict[str, Any]
T = TypeVar("T")
Block = int | tuple[int, int]


@dataclass(frozen=True, slots=True)
class Plan:
    """What is measured. Lengths in keys."""

    names: tuple[str, ...]
    checked: tuple[int, ...]  # compared with torch for each block size
    blocks: tuple[Block, ...]
    lifted: int  # the length at which lifting is timed
    eager: tuple[int, ...]
    compiled: tuple[int, ...]
    alone: tuple[int, ...]  # neighbourhoods only
    memory: tuple[int, ...]
    compiled_runs: int = 2
    seconds: float = 0.5  # that each timing of attnmask lasts, at least


FULL = Plan(
    names=tuple(name for name, entry in ENTRIES.items() if entry.has_integer_form),
    checked=(1000, 2048, 4096),
    blocks=(128, 64, (256, 128)),
    lifted=65536,
    eager=(4096, 16384),
    compiled=(65536,),
    alone=(100_000,),
    memory=(65536,),
)
QUICK = replace(FULL, checked=(1000,), eager=(4096,), compiled=(), alone=(), memory=(), seconds=0)
TINY = Plan(
    names=("causal", "head_windows", "image_natten"),
    checked=(300,),
    blocks=(64, (128, 32)),
    lifted=300,
    eager=(512,),
    compiled=(),
    alone=(1100,),
    memory=(),
    seconds=0,
)


def measured(plan: Plan) -> Result:
    """Everything in the plan, as it goes into the JSON; says on the way what it found."""
    started = time.perf_counter()
    result: Result = {"environment": environment(), "entries": []}
    for name in plan.names:
        entry = _entry(ENTRIES[name], plan)
        result["entries"].append(entry)
        print(f"· {time.perf_counter() - started:5.0f} s  {lifting_table.line(entry)}", flush=True)
    result["seconds"] = round(time.perf_counter() - started)
    result["targets"] = lifting_targets(result)
    return result


def _entry(entry: MaskFunction, plan: Plan) -> Result:
    found: Result = {
        "name": entry.name,
        "family": entry.family,
        "use": entry.use,
        "batch": entry.batch,
        "heads": entry.heads,
        **lifting(entry, plan.lifted, plan.seconds),
        "checks": [compared(entry, length, block) for length in plan.checked for block in plan.blocks],
        "builds": [],
        "alone": [],
        "memory": [],
    }
    if not found["lifted"]:
        return found
    found["builds"] += [against_eager(entry, length, plan.seconds) for length in plan.eager]
    found["builds"] += [
        against_compiled(entry, length, plan.compiled_runs, plan.seconds) for length in plan.compiled
    ]
    if entry.is_grid:
        found["alone"] += [alone(entry, length, plan.seconds) for length in plan.alone]
    for length in plan.memory:
        if (used := memory.measure(entry.name, length, "drop_in")) is not None:
            found["memory"].append({"length": length, **used})
    return found


def lifting(entry: MaskFunction, length: int, seconds: float) -> Result:
    """Whether the function is lifted for a call of this length, and the time of that alone; and whether
    `attnmask.lift` takes it, which knows of no length."""
    call = _call(entry, length)
    try:
        builders.lift(call)
    except am.LiftError as error:
        return {"lifted": False, "any_length": False, "why": str(error)}
    timing = timed(lambda: builders.lift(call), seconds=seconds)
    return {"lifted": True, "any_length": _any_length(call), "lift": timing.to_dict()}


def _any_length(call: Call) -> bool:
    try:
        am.lift(call.mask_mod, batch=call.batch, heads=call.heads)
    except am.LiftError:
        return False
    return True


def compared(entry: MaskFunction, length: int, block: Block) -> Result:
    """Lists and function of attnmask's block mask against torch's."""
    call = replace(_call(entry, length), block=block)
    try:
        found = _fresh(call)
        agreement.assert_equal_lists(found, builders.torch_eager(call))
        agreement.assert_equal_functions(found, call)
    except (AssertionError, am.MaskError) as error:
        return {"length": length, "block": block, "equal": False, "why": str(error)}
    return {"length": length, "block": block, "equal": True}


def against_eager(entry: MaskFunction, length: int, seconds: float) -> Result:
    """Times of attnmask and of one run of torch's builder, which takes seconds and gigabytes."""
    call = _call(entry, length)
    found, own = _own(call, seconds)
    build: Result = {"length": length, "torch": "eager", "attnmask": own}
    made = _attempted(build, lambda: once(lambda: builders.torch_eager(call)))
    if made is not None:
        expected, timing = made
        build |= {"torch_time": timing.to_dict(), **_verdict(found, expected)}
    return _with_ratio(build)


def against_compiled(entry: MaskFunction, length: int, runs: int, seconds: float) -> Result:
    """The same for torch's builder compiled; the time of compilation stands apart."""
    call = _call(entry, length)
    found, own = _own(call, seconds)
    build: Result = {"length": length, "torch": "compiled", "attnmask": own}
    compiled = builders.torch_compiled()
    made = _attempted(build, lambda: once(lambda: compiled(call)))
    if made is not None:
        expected, first = made
        build |= {"compile_s": round(first.median_ms / 1e3, 2), **_verdict(found, expected)}
        del expected
        warm = timed(lambda: compiled(call), warmups=0, least_runs=runs, seconds=0)
        build["torch_time"] = warm.to_dict()
    return _with_ratio(build)


def alone(entry: MaskFunction, length: int, seconds: float) -> Result:
    """attnmask at a length that torch has no memory for; some rows are compared with the function."""
    call = _call(entry, length)
    found, own = _own(call, seconds)
    assert found.full_kv_num_blocks is not None
    n_rows = found.kv_num_blocks.shape[-1]
    rows = sorted({0, n_rows // 3, n_rows - 1})
    agreement.assert_equal_rows(found, call, rows)
    fresh = memory.measure(entry.name, length, "drop_in")
    return {
        "length": length,
        "attnmask": own,
        "fresh_ms": None if fresh is None else fresh["us"] / 1e3,
        "partial_tiles": int(found.kv_num_blocks.sum()),
        "full_tiles": int(found.full_kv_num_blocks.sum()),
        "checked": f"the function, {len(rows)} rows of tiles",
    }


def _call(entry: MaskFunction, length: int) -> Call:
    return Call(*entry.arguments(length))


def _fresh(call: Call) -> BlockMask:
    builders.forget()
    return builders.drop_in(call)


def _own(call: Call, seconds: float) -> tuple[BlockMask, Result]:
    timing = timed(
        lambda: builders.drop_in(call), before=builders.forget, warmups=1, least_runs=3, seconds=seconds
    )
    return _fresh(call), timing.to_dict()


def _attempted(build: Result, run: Callable[[], T]) -> T | None:
    """None where torch cannot do it, which `build` then tells the reason of."""
    gc.collect()
    try:
        with memory.bounded():
            return run()
    except Exception as error:
        # Whatever torch's compiler stumbles over, as much as memory that is not there.
        build["why"] = "does not fit in memory" if _NO_MEMORY in str(error) else f"fails: {_in_a_line(error)}"
        return None


_NO_MEMORY = "can't allocate memory"  # as torch puts it


def _in_a_line(error: Exception) -> str:
    """The first line of the C++ compiler's that names an error, if it was that; else the first of all."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    named = next((line.split(" error: ")[1] for line in lines if " error: " in line), None)
    return (named or lines[0])[:160]


def _verdict(found: BlockMask, expected: BlockMask) -> Result:
    try:
        agreement.assert_equal_lists(found, expected)
    except AssertionError as error:
        return {"equal": False, "why": str(error)}
    return {"equal": True}


def _with_ratio(build: Result) -> Result:
    if "torch_time" in build:
        build["ratio"] = round(build["torch_time"]["median_ms"] / build["attnmask"]["median_ms"], 1)
    return build


def main(arguments: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.lifting", description=(__doc__ or "").split("\n")[0]
    )
    parser.add_argument(
        "--quick", action="store_true", help="short lengths; writes nothing unless told where"
    )
    parser.add_argument("--only", nargs="+", choices=tuple(ENTRIES), metavar="NAME", help="these functions")
    parser.add_argument("--output", type=Path, metavar="FILE", help="where the JSON goes")
    asked = parser.parse_args(None if arguments is None else list(arguments))
    plan = QUICK if asked.quick else FULL
    result = measured(replace(plan, names=tuple(asked.only)) if asked.only else plan)
    print(f"\n{table.rendered('lifting', result)}\n\n{table.goals(result)}")
    output = asked.output or (None if asked.quick or asked.only else RESULTS / "lifting.json")
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        print(f"\nwrote {output}")
    if output == RESULTS / "lifting.json":
        table.main([])


if __name__ == "__main__":
    main()
