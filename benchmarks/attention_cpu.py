"""Attention on the CPU: compiled FlexAttention and the tiled path under attnmask's mask, against dense SDPA.

    python -m benchmarks.attention_cpu              # two minutes; writes benchmarks/results/attention_cpu.json
    python -m benchmarks.attention_cpu --dry-run    # all of it at a toy length; writes nothing

Forward only. Every output is compared with float64 before it is timed; times are medians, warm.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention

import attnmask as am
from benchmarks import table
from benchmarks.attention_inputs import Shape, Tensor, assert_right, packed, work
from benchmarks.environment import RESULTS, environment
from benchmarks.masks import CASES
from benchmarks.timing import timed

Result = dict[str, Any]
_SHAPE = Shape(heads=4, head_dim=64, dtype=torch.float32, device="cpu")
_LENGTHS = (8192, 16384)
_CASES = ("window_sink", "causal_documents")


def measured(lengths: Iterable[int], shape: Shape, *, compiled: bool, seconds: float) -> Result:
    result: Result = {"environment": environment(), "shape": shape.to_dict(), "cases": []}
    for length in lengths:
        for case in _CASES:
            print(f"· {CASES[case].text} at {length}", flush=True)
            result["cases"].append(_entry(case, length, shape, compiled, seconds))
    return result


@torch.no_grad()
def _entry(case: str, length: int, shape: Shape, compiled: bool, seconds: float) -> Result:
    mask = packed(case, length)
    q, k, v = shape.inputs(length)
    dense = torch.from_numpy(np.array(mask.dense(length)))
    ways: dict[str, Callable[[], Any]] = {
        "tiled": lambda: am.attention(q, k, v, mask, backend="tiled"),
        "sdpa_dense": lambda: scaled_dot_product_attention(q, k, v, attn_mask=dense),
    }
    if compiled:
        # Each length compiled for itself, as a model with one length would have it.
        torch._dynamo.reset()
        ways["flex"] = lambda: am.attention(q, k, v, mask, backend="flex")
    entry: Result = {"case": case, "mask": CASES[case].text, "length": length}
    for way, run in ways.items():
        start = time.perf_counter()
        out: Tensor = run()
        if way == "flex":
            entry["compile_s"] = round(time.perf_counter() - start, 2)
        assert_right(way, out, q, k, v, mask)
        entry[way] = timed(run, warmups=1, least_runs=3, seconds=seconds).to_dict()
    counted = work(mask, length)
    return {**entry, "pairs": counted.pairs, "tile_density": round(counted.density, 5)}


def main(arguments: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.attention_cpu")
    parser.add_argument(
        "--dry-run", action="store_true", help="a toy length, nothing compiled, nothing written"
    )
    asked = parser.parse_args(None if arguments is None else list(arguments))
    if asked.dry_run:
        toy = Shape(heads=2, head_dim=16, dtype=torch.float32, device="cpu")
        measured((700,), toy, compiled=False, seconds=0)
        print("dry run: every result was right; nothing was compiled, and nothing written")
        return
    result = measured(_LENGTHS, _SHAPE, compiled=True, seconds=3)
    print(f"\n{table.rendered('attention_cpu', result)}\n")
    output = RESULTS / "attention_cpu.json"
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"wrote {output}")
    table.main([])


if __name__ == "__main__":
    main()
