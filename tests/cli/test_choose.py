"""`attnmask choose`: figures, heatmap, picture, and sentences for files that do not fit."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

import attnmask as am
from tests.cli.running import run

TEXT = "causal & (window(20) | topk_blocks(2, block=16, q_block=16))"


@pytest.fixture
def files(tmp_path: Path) -> tuple[str, str]:
    n = np.random.default_rng(0)
    for name, heads in (("q", 4), ("k", 2)):
        np.save(tmp_path / f"{name}.npy", n.standard_normal((1, heads, 300, 8)).astype(np.float32))
    return str(tmp_path / "q.npy"), str(tmp_path / "k.npy")


def test_choose_prints_heatmap_and_figures(files: tuple[str, str]) -> None:
    result = run("choose", TEXT, *files, "--head", "3")
    assert result.exit_code == 0
    assert "head 3" in result.stdout
    assert "recall of attention" in result.stdout
    assert result.stderr == ""


def test_choose_prints_json(files: tuple[str, str]) -> None:
    found = json.loads(run("choose", TEXT, *files, "--json", "--block", "32").stdout)
    q, k = (torch.from_numpy(np.load(file)) for file in files)
    expected = am.compile(TEXT).quality(q, k, block=32).to_dict()
    assert found == json.loads(json.dumps(expected))


def test_choose_draws(files: tuple[str, str], tmp_path: Path) -> None:
    result = run("choose", TEXT, *files, "--png", str(tmp_path / "chosen.svg"))
    assert result.exit_code == 0
    assert "<svg" in (tmp_path / "chosen.svg").read_text()


def test_choose_takes_what_the_mask_names(files: tuple[str, str], tmp_path: Path) -> None:
    np.save(tmp_path / "g.npy", np.eye(5, dtype=np.float32)[None, None])
    args = ("choose", "causal & gate(g, block=64, q_block=64)", *files)
    assert "'g' is not given" in run(*args).stderr
    assert run(*args, "--table", f"g={tmp_path / 'g.npy'}").exit_code == 0


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("causal", "Q", "K"), "chooses nothing"),
        ((TEXT, "Q", "missing.npy"), "cannot read"),
        ((TEXT, "K", "Q"), "2 query heads are not a multiple of 4"),
        ((TEXT, "Q", "K", "--head", "4"), "there is no head 4"),
        ((TEXT, "Q", "K", "--png", "x.bmp"), "picture"),
        (("causal & topk_blocks(0)", "Q", "K"), "whole number from 1"),
    ],
)
def test_choose_says_what_does_not_fit(args: tuple[str, ...], says: str, files: tuple[str, str]) -> None:
    named = [{"Q": files[0], "K": files[1]}.get(arg, arg) for arg in args]
    result = run("choose", *named)
    assert result.exit_code == 2
    assert says in result.stderr


@pytest.mark.parametrize(
    ("text", "source"),
    [
        (
            "topk_blocks(2) | topk_blocks(3)",
            "chosen0[b, h, q // 128, k // 128] | chosen1[b, h, q // 128, k // 128]",
        ),
        ("clusters(c)", "chosen0_q[b, h, q] == chosen0_k[b, h, k]"),
        ("clusters(c, members=4)", "chosen0_q[b, h, q, 0] & chosen0_k[b, h, k, 0] != 0"),
        (
            "spans(top(1, blocks(4)), back=r)",
            "(chosen0_low[b, h, q, 0] <= k) & (k <= chosen0_high[b, h, q, 0])",
        ),
        ("top(1, probe(4, along=diagonals))", "(k <= q) & chosen0[b, h, 0, (q - k).clamp(min=0)]"),
    ],
)
def test_explain_shows_what_every_choice_becomes(text: str, source: str) -> None:
    assert f"return {source}" in run("explain", text).stdout


def test_explain_names_the_parts_of_a_rule() -> None:
    lines = [line.strip() for line in run("explain", "topk_blocks(2, pool=max)").stdout.splitlines()]
    assert "selector=Top amount=2 of=number over=row" in lines
    assert "q_unit=FloorDiv q 128" in lines
