"""The benchmark of lifting runs, finds what differs, and renders. Nothing here looks at a time."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask

import attnmask as am
from benchmarks import agreement, builders, lifting, lifting_table, memory, table
from benchmarks.builders import Call
from benchmarks.environment import environment
from benchmarks.mask_functions import ENTRIES
from benchmarks.targets import lifting_targets

TIME = {"median_ms": 2.0, "fastest_ms": 1.0, "runs": 3}
BUILD = {
    "length": 16384,
    "torch": "eager",
    "attnmask": TIME,
    "torch_time": TIME,
    "equal": True,
    "ratio": 90.0,
}
ENTRY = {
    "name": "causal",
    "family": "causal",
    "lifted": True,
    "any_length": True,
    "lift": TIME,
    "checks": [{"length": 1000, "block": 64, "equal": True}],
    "builds": [BUILD],
    "alone": [],
    "memory": [{"length": 65536, "peak": 70e6, "held": 0, "result": 2e6, "lists": 0}],
}


def _causal(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
    return q >= k


def test_a_small_plan_measures_and_renders() -> None:
    result = lifting.measured(lifting.TINY)
    names = [entry["name"] for entry in result["entries"]]
    assert names == ["causal", "head_windows", "image_natten"]
    for entry in result["entries"]:
        assert entry["lifted"]
        assert [(c["block"], c["equal"]) for c in entry["checks"]] == [(64, True), ((128, 32), True)]
        assert [(b["torch"], b["equal"]) for b in entry["builds"]] == [("eager", True)]
    assert [len(entry["alone"]) for entry in result["entries"]] == [0, 0, 1]
    text = table.rendered("lifting", json.loads(json.dumps(result)))
    assert "3 are lifted (3 for any length), and 9 of 9 block masks list the same tiles as torch's" in text
    assert "| per head | 1 | " in text
    assert "| `image_natten` | 1\u202f100 | " in text


def test_no_length_is_a_multiple_of_every_block() -> None:
    assert any(length % 64 for length in lifting.FULL.checked)
    assert any(length % 128 == 0 for length in lifting.FULL.checked)


def test_a_function_that_is_not_lifted_counts_as_neither_lifted_nor_equal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def stubborn(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return q >= k if q.item() >= 0 else k >= q

    entry = replace(ENTRIES["causal"], make=lambda length: stubborn)
    monkeypatch.setitem(ENTRIES, "causal", entry)
    result = lifting.measured(replace(lifting.TINY, names=("causal",)))
    (found,) = result["entries"]
    assert not found["lifted"] and found["builds"] == []
    assert lifting_table.compared([found]) == (0, 2)
    assert "is not lifted" in lifting_table.line(found)
    assert {goal["name"]: goal["reached"] for goal in result["targets"]} == {"lifted": False, "equal": False}


def test_a_wrong_block_mask_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def all_but_one(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return (q >= k) & ~((q == 5) & (k == 2))

    def wrong(call: Call) -> object:
        return replace(call, mask_mod=all_but_one).to(create_block_mask)

    monkeypatch.setattr(builders, "drop_in", wrong)
    check = lifting.compared(ENTRIES["causal"], 301, 1)
    assert not check["equal"] and "lists of the two block masks differ" in check["why"]
    # At this block size the lists are the same, and the functions are not.
    check = lifting.compared(ENTRIES["causal"], 301, 128)
    assert not check["equal"] and "mask_mod of the block mask differs" in check["why"]
    build = lifting.against_eager(ENTRIES["causal"], 301, seconds=0)
    assert build["equal"]
    assert "ratio" in build


def test_rows_that_differ_from_the_function_are_found() -> None:
    def and_one_more(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return (q >= k) | ((q == 130) & (k == 499))

    call = Call(_causal, 2, None, 300, 500, (64, 128))
    made = call.to(create_block_mask)
    agreement.assert_equal_rows(made, call, range(5))
    with pytest.raises(AssertionError, match="row 2 of the tiles differs"):
        agreement.assert_equal_rows(made, replace(call, mask_mod=and_one_more), [0, 2])


def test_what_torch_cannot_do_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def too_large(call: Call) -> object:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp] . DefaultCPUAllocator: can't allocate memory: …")

    monkeypatch.setattr(builders, "torch_eager", too_large)
    build = lifting.against_eager(ENTRIES["causal"], 300, seconds=0)
    assert build["why"] == "does not fit in memory"
    assert "ratio" not in build and "equal" not in build
    assert "eager does not fit in memory" in lifting_table.line({**ENTRY, "builds": [build]})


def test_failures_of_torchs_compiler_take_a_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def compiled() -> builders.Builder:
        def fails(call: Call) -> BlockMask:
            raise ValueError("C++ compile error\n\n  main.cpp:3:5: error: no such type\n  and more")

        return fails

    monkeypatch.setattr(builders, "torch_compiled", compiled)
    build = lifting.against_compiled(ENTRIES["causal"], 300, runs=1, seconds=0)
    assert build["why"] == "fails: no such type"
    result = {"environment": environment(), "entries": [{**ENTRY, "builds": [BUILD, build]}]}
    assert "where torch, compiled, fails on 1" in table.rendered("lifting", result)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux bounds memory this way")
def test_memory_is_bounded_for_a_while() -> None:
    with memory.bounded(share=1e-4), pytest.raises(RuntimeError, match="can't allocate memory"):
        torch.empty(1 << 33, dtype=torch.uint8)
    assert torch.empty(1 << 28, dtype=torch.uint8).numel() == 1 << 28


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells the peak")
def test_peak_memory_of_a_function() -> None:
    used = memory.measure("causal", 65536, "drop_in")
    assert used is not None
    assert used["lists"] >= 2 * 4 * (512 * 511 // 2 + 512)
    assert used["result"] >= used["lists"]


def test_goals_follow_the_numbers() -> None:
    slow = {**BUILD, "length": 65536, "torch": "compiled", "ratio": 150.0}
    fast = {**BUILD, "ratio": 300.0}
    result: lifting.Result = {
        "entries": [
            {**ENTRY, "builds": [BUILD, slow]},
            {**ENTRY, "builds": [fast, {**slow, "equal": False, "why": "…"}], "memory": []},
        ]
    }
    result["targets"] = lifting_targets(result)
    assert {goal["name"]: (goal["measured"], goal["reached"]) for goal in result["targets"]} == {
        "lifted": (100, True),
        "equal": (83.333, False),
        "lift_time": (2, True),
        "ratio_eager_16384": (195, True),
        "ratio_compiled_65536": (150, False),
        "memory": (100, True),  # 3 times the result and 64 MB, exactly
    }


def test_families_show_their_slowest_function() -> None:
    slower = {**BUILD, "attnmask": {**TIME, "median_ms": 7.0}, "ratio": 25.0}
    result = {"environment": environment(), "entries": [ENTRY, {**ENTRY, "builds": [slower]}]}
    text = table.rendered("lifting", result)
    assert "| causal | 2 | 2 ms | 7 ms | 25 × |" in text
    assert "57.5 times as fast as torch, eager, at 16\u202f384 tokens" in text
    assert "at 65\u202f536 tokens: 70 MB for the median function" in text


def test_the_drop_in_never_lets_torch_build() -> None:
    def stubborn(b: Tensor, h: Tensor, q: Tensor, k: Tensor) -> Tensor:
        return q >= k if bool(q >= 0) else k >= q

    with pytest.raises(am.LiftError):
        builders.drop_in(builders.square(stubborn, 300))
