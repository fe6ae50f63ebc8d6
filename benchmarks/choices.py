"""Masks that choose from q and k: what choosing and its block mask take beside the attention that they make sparse.

    python -m benchmarks.choices              # some ten minutes; writes benchmarks/results/choices.json
    python -m benchmarks.choices --dry-run    # all of it at a toy length; writes nothing

Forward only, compiled FlexAttention; random queries and keys, all heads with sets of their own. Dense causal
FlexAttention is compiled and timed in the same process. Peaks are resident bytes above what was held before.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch

import attnmask as am
from benchmarks import table
from benchmarks.attention_inputs import Shape, Tensor
from benchmarks.environment import RESULTS, environment
from benchmarks.memory import peak_of
from benchmarks.timing import once, timed

Result = dict[str, Any]
_LENGTH = 32768
_SHAPE = Shape(heads=32, head_dim=128, dtype=torch.float32, device="cpu")
CASES = {
    "topk_blocks": "causal & (window(512) | sink(4) | topk_blocks(8, pool=mean))",
    "topp_blocks": "causal & (window(512) | sink(4) | topp_blocks(0.1))",
    "xattention": "zoo.xattention(0.3, stride=16)",
    "moba": "zoo.moba(3, 2048)",
}


@torch.no_grad()
def measured(length: int, shape: Shape, cases: Iterable[str]) -> Result:
    q, k, v = shape.inputs(length)
    result: Result = {
        "environment": environment(),
        "shape": shape.to_dict(),
        "length": length,
        "dense_ms": _dense(q, k, v),
        "cases": [],
    }
    for case in cases:
        print(f"· {CASES[case]} at {length}", flush=True)
        result["cases"].append(_entry(case, q, k, v))
    return result


def _dense(q: Tensor, k: Tensor, v: Tensor) -> float:
    """Milliseconds of causal attention by compiled FlexAttention, warm."""
    print("· causal, dense", flush=True)
    run = _attention(q, k, v, am.library.causal)
    run()
    return round(once(run)[1].median_ms, 1)


def _attention(q: Tensor, k: Tensor, v: Tensor, mask: am.Mask, choices: Any = None) -> Callable[[], Any]:
    return lambda: am.attention(q, k, v, mask, choices=choices, backend="flex")


def _entry(case: str, q: Tensor, k: Tensor, v: Tensor) -> Result:
    mask, length = am.compile(CASES[case]), q.shape[2]
    choose = partial(mask.choose, q, k)
    choices, peak = peak_of(choose)
    build = partial(mask.block_mask, length, choices=choices)
    block_mask, build_peak = peak_of(build)
    tiles = [block_mask.kv_num_blocks, block_mask.full_kv_num_blocks]
    live = sum(int(counts.sum()) for counts in tiles if counts is not None)
    rows, columns = -(-length // 128), -(-length // 128)
    planes = block_mask.kv_num_blocks.shape[0] * block_mask.kv_num_blocks.shape[1]
    start = time.perf_counter()
    out = _attention(q, k, v, mask, choices)()
    compile_s = time.perf_counter() - start
    _assert_right(out, q, k, v, mask)
    return {
        "case": case,
        "mask": CASES[case],
        "choose": timed(choose, warmups=1, least_runs=3, seconds=1).to_dict(),
        "block_mask": timed(build, warmups=1, least_runs=3, seconds=1).to_dict(),
        "attention": timed(
            _attention(q, k, v, mask, choices), warmups=0, least_runs=1, most_runs=3, seconds=10
        ).to_dict(),
        "both": timed(_attention(q, k, v, mask), warmups=0, least_runs=1, most_runs=3, seconds=10).to_dict(),
        "compile_s": round(compile_s, 2),
        "tile_density": round(live / (planes * rows * columns), 5),
        "peak_bytes": max(peak, build_peak),
        "pairs_bytes": q.shape[0] * q.shape[1] * length * length,
    }


def _assert_right(out: Tensor, q: Tensor, k: Tensor, v: Tensor, mask: am.Mask) -> None:
    """The first heads, by the tiled path, which shares neither kernel nor lists with the compiled one."""
    few = slice(0, 1)
    expected = am.attention(q[:, few], k[:, few], v[:, few], mask, backend="tiled")
    torch.testing.assert_close(out[:, few], expected, rtol=1e-3, atol=1e-4)


def main(arguments: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.choices")
    parser.add_argument("--dry-run", action="store_true", help="a toy length, nothing written")
    asked = parser.parse_args(None if arguments is None else list(arguments))
    if asked.dry_run:
        toy = Shape(heads=2, head_dim=16, dtype=torch.float32, device="cpu")
        measured(700, toy, ["topk_blocks"])
        print("dry run: the result was right, and nothing was written")
        return
    result = measured(_LENGTH, _SHAPE, CASES)
    print(f"\n{table.rendered('choices', result)}\n")
    output = RESULTS / "choices.json"
    output.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(f"wrote {output}")
    table.main([])


if __name__ == "__main__":
    main()
