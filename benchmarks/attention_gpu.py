"""Attention on a GPU: attnmask against the same mask_mod with torch's own builder, and against SDPA's flash kernel.

    python -m benchmarks.attention_gpu              # writes benchmarks/results/attention_gpu.json
    python -m benchmarks.attention_gpu --dry-run    # all of it on the CPU at a toy length; writes nothing

Times are medians of device time between CUDA events, warm, forward and backward apart. Every output is compared
with float64 before it is timed, gradients with a dense reference or with those of the other way. The bound that
tile density sets is the time that SDPA's flash kernel takes without a mask, scaled by the share of live tiles.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.flex_attention import BlockMask, flex_attention
from torch.nn.functional import scaled_dot_product_attention

import attnmask as am
from benchmarks import agreement, builders, table
from benchmarks.attention_inputs import MASKS, Shape, Tensor, Work, assert_close, assert_right, packed, work
from benchmarks.device_timing import timed_on
from benchmarks.environment import RESULTS, environment
from benchmarks.masks import CASES

Result = dict[str, Any]
Inputs = tuple[Tensor, Tensor, Tensor]
Attend = Callable[[Tensor, Tensor, Tensor], Tensor]
_GPU = Shape(heads=16, head_dim=128, dtype=torch.bfloat16, device="cuda")
_TOY = Shape(heads=2, head_dim=16, dtype=torch.float32, device="cpu")
_LENGTHS = (8192, 32768, 131072)
# Gradients have a dense reference up to here, over this many heads: its scores take 4 bytes a pair and head.
_DENSE_MOST, _DENSE_HEADS = 8192, 2


@dataclass(frozen=True, slots=True)
class Runner:
    """One shape on one device; `real` is False in a dry run, where nothing is compiled."""

    shape: Shape
    real: bool

    def timed(
        self,
        run: Callable[[Any], object],
        *,
        before: Callable[[], object] = lambda: None,
        wall: bool = False,
    ) -> Result:
        seconds = 2.0 if self.real else 0.0
        return dict(timed_on(self.shape.device, run, before=before, wall=wall, seconds=seconds).to_dict())

    def flash(self) -> AbstractContextManager[None]:
        return sdpa_kernel(SDPBackend.FLASH_ATTENTION) if self.real else nullcontext()

    def sdpa(self, *, causal: bool) -> Attend:
        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            with self.flash():
                return scaled_dot_product_attention(q, k, v, is_causal=causal)

        return attend

    def flex(self, block_mask: BlockMask) -> Attend:
        """FlexAttention as torch's users call it."""
        kernel: Any = torch.compile(flex_attention) if self.real else flex_attention

        def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            out: Tensor = kernel(q, k, v, block_mask=block_mask)
            return out

        return attend

    def times(self, attend: Attend, inputs: Inputs, backward: bool) -> Result:
        """Forward without a graph; backward alone, each time after a forward that is not timed."""
        gradient = torch.randn_like(inputs[0])
        plain = _detached(inputs)

        @torch.no_grad()
        def forward() -> Tensor:
            return attend(*plain)

        times: Result = {"forward": self.timed(lambda _: forward()), "backward": None}
        if backward:
            times["backward"] = self.timed(
                lambda out: torch.autograd.grad(out, inputs, gradient), before=lambda: attend(*inputs)
            )
        return times


def measured(
    runner: Runner, cases: Iterable[str], lengths: Iterable[int], save: Callable[[Result], None]
) -> Result:
    """All of it, as it goes into the JSON; `save` gets what there is after each case."""
    result: Result = {"environment": _environment(runner), "shape": runner.shape.to_dict(), "cases": []}
    cases = list(cases)
    for length in lengths:
        inputs = runner.shape.inputs(length, gradients=True)
        baseline = {
            name: runner.times(runner.sdpa(causal=name == "sdpa_causal"), inputs, backward=True)
            for name in ("sdpa_causal", "sdpa_all")
        }
        for case in cases:
            print(f"· {CASES[case].text} at {length}", flush=True)
            result["cases"].append(_entry(runner, case, length, inputs, baseline))
            save(result)
    return result


def _entry(runner: Runner, case: str, length: int, inputs: Inputs, baseline: Result) -> Result:
    mask = packed(case, length)
    if runner.real:
        # Each length compiled for itself, for both ways, as a model with one length would have it.
        torch._dynamo.reset()
    found, built = _built(runner, mask, length)
    ways: dict[str, Attend] = {
        "attnmask": lambda q, k, v: _attention(q, k, v, mask),
        "torch": runner.flex(found),
    }
    gradients: dict[str, tuple[Tensor, ...]] = {}
    grad_out = torch.randn_like(inputs[0])
    counted = work(mask, length)
    entry: Result = {
        "case": case,
        "mask": CASES[case].text,
        "length": length,
        "pairs": counted.pairs,
        "tile_density": round(counted.density, 5),
        "build": built,
    }
    for way, attend in ways.items():
        # torch's FlexAttention has no backward on the CPU; attnmask has its tiled path there.
        backward = runner.real or way == "attnmask"
        out = attend(*(inputs if backward else _detached(inputs)))
        assert_right(way, out, *inputs, mask)
        if backward:
            gradients[way] = torch.autograd.grad(out, inputs, grad_out)
        del out
        entry[way] = runner.times(attend, inputs, backward)
    _check_gradients(gradients, inputs, grad_out, mask)
    entry["sdpa_causal"] = {direction: dict(timing) for direction, timing in baseline["sdpa_causal"].items()}
    for way in ("attnmask", "torch", "sdpa_causal"):
        _rate(entry[way], counted, runner.shape, baseline["sdpa_all"])
    return entry


def _detached(inputs: Inputs) -> Inputs:
    q, k, v = inputs
    return q.detach(), k.detach(), v.detach()


def _attention(q: Tensor, k: Tensor, v: Tensor, mask: am.Mask) -> Tensor:
    out = am.attention(q, k, v, mask)
    assert isinstance(out, Tensor)
    return out


def _built(runner: Runner, mask: am.Mask, length: int) -> tuple[BlockMask, Result]:
    """torch's block mask, found equal to attnmask's, and the time that each way of building takes.

    An eager build that does not fit in memory has the time None; the compiled one always fits.
    """
    device = runner.shape.device
    builders.forget()
    ours = builders.ours(mask, length, device)
    call = builders.square(ours.mask_mod, length, device)  # whose tables are on the device
    times: Result = {}
    times["attnmask"] = runner.timed(
        lambda _: builders.ours(mask, length, device), before=builders.forget, wall=True
    )
    times["torch_eager"] = times["torch_compiled"] = None
    made: BlockMask | None = None
    try:
        made = builders.torch_eager(call)
        agreement.assert_equal_lists(ours, made)
        times["torch_eager"] = runner.timed(lambda _: builders.torch_eager(call), wall=True)
    except torch.OutOfMemoryError:
        torch.cuda.empty_cache()
    if runner.real:
        build = builders.torch_compiled()
        made = build(call)
        agreement.assert_equal_lists(ours, made)
        times["torch_compiled"] = runner.timed(lambda _: build(call), wall=True)
    assert made is not None
    return made, times


def _check_gradients(
    gradients: dict[str, tuple[Tensor, ...]], inputs: Inputs, grad_out: Tensor, mask: am.Mask
) -> None:
    """Against a dense reference in float32 where that fits; the two ways against each other always."""
    if "torch" in gradients:
        assert_close("attnmask and torch", gradients["attnmask"], gradients["torch"])
    length = inputs[0].shape[2]
    if length > _DENSE_MOST:
        return
    heads = slice(0, min(_DENSE_HEADS, inputs[0].shape[1]))
    q, k, v = (tensor.detach()[:, heads].float().requires_grad_() for tensor in inputs)
    allowed = torch.from_numpy(np.array(mask.dense(length))).to(q.device)
    out = scaled_dot_product_attention(q, k, v, attn_mask=allowed)
    expected = torch.autograd.grad(out, (q, k, v), grad_out[:, heads].float())
    assert_close("attnmask and dense SDPA", [grad[:, heads] for grad in gradients["attnmask"]], expected)


def _rate(times: Result, counted: Work, shape: Shape, all_pairs: Result) -> None:
    """Adds to each direction the rate over attended pairs, and the share of the bound."""
    for direction, timing in times.items():
        if timing is not None:
            timing["tflops"] = round(counted.flops(shape, direction) / timing["median_ms"] / 1e9, 2)
            bound = all_pairs[direction]["median_ms"] * counted.density
            timing["share_of_bound"] = round(bound / timing["median_ms"], 4)


def _environment(runner: Runner) -> Result:
    found: Result = dict(environment())
    if runner.real:
        found["gpu"] = torch.cuda.get_device_name()
        found["gpu_memory_gib"] = round(torch.cuda.get_device_properties(0).total_memory / 2**30, 1)
        found["compute_capability"] = ".".join(map(str, torch.cuda.get_device_capability()))
        found["cuda"] = torch.version.cuda
    return found


def main(arguments: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.attention_gpu")
    parser.add_argument("--dry-run", action="store_true", help="a toy length on the CPU, nothing written")
    parser.add_argument("--lengths", type=int, nargs="+", default=_LENGTHS, metavar="N", help="tokens")
    parser.add_argument("--masks", nargs="+", default=MASKS, choices=MASKS, help="which masks")
    output = RESULTS / "attention_gpu.json"
    parser.add_argument("--output", type=Path, default=output, metavar="FILE", help="where the JSON goes")
    asked = parser.parse_args(None if arguments is None else list(arguments))
    if asked.dry_run:
        measured(Runner(_TOY, real=False), asked.masks, (700,), lambda _: None)
        print("dry run: every result was right; the times mean nothing, and nothing was written")
        return
    if not torch.cuda.is_available():
        print("attention_gpu needs a CUDA device, and torch finds none here: nothing was measured.")
        return

    def save(result: Result) -> None:
        asked.output.parent.mkdir(parents=True, exist_ok=True)
        asked.output.write_text(json.dumps(result, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")

    result = measured(Runner(_GPU, real=True), asked.masks, asked.lengths, save)
    print(f"\n{table.rendered('attention_gpu', result)}\n\nwrote {asked.output}")
    if asked.output == output:
        table.main([])


if __name__ == "__main__":
    main()
