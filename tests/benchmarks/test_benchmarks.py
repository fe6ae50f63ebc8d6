"""The benchmarks run, check what they measure, and render to the tables that stand in the README.

Nothing here looks at a time.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.attention.flex_attention import create_block_mask

import attnmask as am
from benchmarks import agreement, attention_cpu, attention_gpu, build, choices, memory, table
from benchmarks.environment import RESULTS, environment
from benchmarks.masks import DOCUMENTS, LONGEST, documents
from benchmarks.targets import targets
from benchmarks.timing import timed

TIME = {"median_ms": 1500.0, "fastest_ms": 1.0, "runs": 3}
ENTRY = {
    "case": "window_sink",
    "mask": "causal & (window(512) | sink(4))",
    "length": 32768,
    "partial_tiles": 759,
    "full_tiles": 762,
    "all_tiles": 65536,
    "tiles": TIME,
    "block_mask": TIME,
    "checked": "torch, all tiles",
}


# ---- building --------------------------------------------------------------------------------------------------


def test_a_small_plan_measures_and_renders() -> None:
    result = build.measured(build.TINY, compiled=False, command=False)
    assert result["environment"]["torch"] == torch.__version__
    (compared, alone) = result["cases"]
    assert compared["checked"] == "torch, all tiles"
    assert compared["torch_eager"]["runs"] == 1
    assert alone["checked"].startswith("definition")
    assert [entry["length"] for entry in result["growth"]] == [512, 1024]
    text = table.rendered("build", json.loads(json.dumps(result)))
    assert "| `causal & same(doc)` | 512 |" in text
    assert text.count("`causal & (window(512) \\| sink(4))`") == 2


def test_lists_that_differ_are_found() -> None:
    causal = am.compile("causal")
    found = causal.block_mask(512)
    agreement.assert_equal_lists(
        found, create_block_mask(causal.mask_mod, None, None, 512, 512, device="cpu")
    )
    wider = am.compile("q - k >= -1").mask_mod
    with pytest.raises(AssertionError, match="lists of the two block masks differ"):
        agreement.assert_equal_lists(found, create_block_mask(wider, None, None, 512, 512, device="cpu"))


def test_tiles_that_differ_from_the_definition_are_found() -> None:
    mask = am.compile("causal & window(200)")
    tiles = mask.tiles(1024)
    agreement.assert_equal_definition(mask, tiles, range(tiles.rows))
    with pytest.raises(AssertionError, match="row 2 of the tiles"):
        agreement.assert_equal_definition(am.compile("causal & window(100)"), tiles, [0, 2])


def test_documents_are_as_many_as_asked() -> None:
    doc = documents(LONGEST)
    assert (len(doc), len(np.unique(doc)), doc[0]) == (LONGEST, DOCUMENTS, 0)
    assert np.all(np.diff(doc) >= 0)
    assert len(np.unique(documents(700, 3))) == 3


def test_what_runs_before_is_not_counted_as_a_run() -> None:
    calls: list[str] = []
    timing = timed(
        lambda: calls.append("run"),
        before=lambda: calls.append("before"),
        warmups=1,
        least_runs=3,
        most_runs=3,
    )
    # Short runs are warmed up as often as they are timed at most.
    assert calls == ["before", "run"] * 6
    assert timing.runs == 3
    assert timing.fastest_ms <= timing.median_ms


@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="only Linux tells the peak of resident memory"
)
def test_peak_memory_covers_the_result() -> None:
    measured = memory.measure("causal", 131072, "tiles")
    assert measured is not None
    # 1024 rows of up to 1024 tiles, four bytes each, both ways.
    assert measured["result"] >= 2 * 4 * (1024 * 1023 // 2 + 1024)
    assert measured["peak"] >= measured["result"] // 2


def test_goals_follow_the_numbers() -> None:
    result: build.Result = {
        "cases": [{**ENTRY, "torch_eager_ratio": 2500.0, "torch_compiled_ratio": 150.0}],
        "growth": [{**ENTRY, "length": LONGEST}],
        "memory": [{"case": "causal", "length": LONGEST, "way": "tiles", "peak": 364e6, "result": 100e6}],
        "counts": [],
        "command": {**TIME, "median_ms": 300.0, "imports_torch": True},
    }
    result["targets"] = targets(result)
    reached = {goal["name"]: goal["reached"] for goal in result["targets"]}
    assert reached == {
        "ratio_eager": True,
        "ratio_compiled": False,
        "time_window_sink": False,
        "memory_causal_tiles": True,  # 3 times the result and 64 MB, exactly
        "cold_shell": False,  # fast enough, and torch was imported
    }
    text = table.goals(result)
    assert "against eager `create_block_mask` | ≥ 2\u202f000 times | 2\u202f500 times | yes |" in text
    assert "| ≤ 100 ms | 1\u202f500 ms | **no** |" in text


# ---- attention -------------------------------------------------------------------------------------------------


def test_attention_on_the_cpu_runs_dry(capsys: pytest.CaptureFixture[str]) -> None:
    attention_cpu.main(["--dry-run"])
    assert "every result was right" in capsys.readouterr().out


def test_choices_run_dry(capsys: pytest.CaptureFixture[str]) -> None:
    choices.main(["--dry-run"])
    assert "dry run: the result was right" in capsys.readouterr().out


def test_attention_on_a_gpu_runs_dry(capsys: pytest.CaptureFixture[str]) -> None:
    attention_gpu.main(["--dry-run", "--masks", "causal_documents"])
    assert "every result was right" in capsys.readouterr().out


def test_without_a_gpu_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    attention_gpu.main(["--output", str(tmp_path / "gpu.json")])
    assert "nothing was measured" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())


def test_a_wrong_result_is_not_timed() -> None:
    from benchmarks.attention_inputs import Shape, assert_right

    shape = Shape(heads=2, head_dim=16, dtype=torch.float32, device="cpu")
    q, k, v = shape.inputs(256)
    causal = am.compile("causal")
    out = am.attention(q, k, v, causal)
    assert isinstance(out, torch.Tensor)
    assert_right("attnmask", out, q, k, v, causal)
    with pytest.raises(AssertionError, match="relative error"):
        assert_right("attnmask", out, q, k, v, am.compile("causal & window(100)"))
    with pytest.raises(AssertionError, match="relative error nan"):
        assert_right("attnmask", out * torch.nan, q, k, v, causal)


# ---- tables ----------------------------------------------------------------------------------------------------


def test_the_tables_of_the_readme_are_those_of_the_results() -> None:
    readme = table.README.read_text(encoding="utf-8")
    for file in RESULTS.glob("*.json"):
        assert f"<!-- benchmarks:{file.stem} -->\n" in readme
    assert table.updated(readme) == readme


def test_sections_are_replaced_and_the_rest_stays(tmp_path: Path) -> None:
    result = {
        "environment": dict(environment()),
        "cases": [{**ENTRY, "torch_eager": TIME, "torch_eager_ratio": 2345.6}],
        "growth": [],
        "memory": [{"case": "causal", "length": LONGEST, "way": "tiles", "peak": 364e6, "result": 100e6}],
    }
    (tmp_path / "build.json").write_text(json.dumps(result))
    before = (
        "# Title\n<!-- benchmarks:build -->\nold\n<!-- /benchmarks:build -->\nbetween\n"
        "<!-- benchmarks:attention_gpu -->\n<!-- /benchmarks:attention_gpu -->\nend\n"
    )
    after = table.updated(before, tmp_path)
    assert after.startswith("# Title\n<!-- benchmarks:build -->\nMeasured ")
    assert (
        "| `causal & (window(512) \\| sink(4))` | 32\u202f768 | 1.5 s | 1.5 s | – | 2\u202f346 × | – |"
        in after
    )
    assert "| `causal` | 1\u202f048\u202f576 | attnmask, tiles | 364 MB | 100 MB |" in after
    assert "old" not in after
    assert "\nbetween\n" in after
    assert "GPU figures are not measured yet" in after
    assert after.endswith("\nend\n")
    assert table.updated(after, tmp_path) == after


def test_attention_tables_render() -> None:
    shape = replace(attention_gpu._TOY).to_dict()
    timing = {**TIME, "tflops": 321.0, "share_of_bound": 0.87}
    ways = {way: {"forward": timing, "backward": None} for way in ("attnmask", "torch", "sdpa_causal")}
    gpu = {
        "environment": {**environment(), "gpu": "Some GPU"},
        "shape": shape,
        "cases": [
            {**ENTRY, **ways, "build": {"attnmask": TIME, "torch_eager": None, "torch_compiled": TIME}}
        ],
    }
    text = table.rendered("attention_gpu", gpu)
    assert "on Some GPU; " in text
    assert "| attnmask | forward | 1.5 s | 321 | 87 % |" in text
    assert "| 1.5 s | does not fit | 1.5 s |" in text
    cpu = {
        "environment": environment(),
        "shape": shape,
        "cases": [
            {
                **ENTRY,
                "flex": TIME,
                "tiled": TIME,
                "sdpa_dense": TIME,
                "tile_density": 0.023,
                "compile_s": 7.2,
            }
        ],
    }
    assert "| 1.5 s | 1.5 s | 1.5 s | 1 × | 2.3 % |" in table.rendered("attention_cpu", cpu)
