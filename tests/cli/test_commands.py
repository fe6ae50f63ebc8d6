"""What each command prints, in this process."""

from __future__ import annotations

import json
import re
import textwrap
from pathlib import Path

import numpy as np
import pytest

import attnmask as am
from attnmask.lower.source import mask_source
from tests.cli.running import run

COMMANDS = ("show", "report", "prove", "diff", "reach", "explain", "emit", "choose", "zoo")


def test_no_arguments_is_help() -> None:
    assert "Usage: attnmask" in run().stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_help_has_examples_that_can_be_copied(command: str) -> None:
    result = run(command, "--help")
    assert result.exit_code == 0
    examples = [line for line in result.stdout.splitlines() if "attnmask " in line and "Usage" not in line]
    assert 2 <= len(examples) <= 5
    assert all(line.startswith("    ") and not line.endswith("\\") for line in examples), "one line each"


def test_version() -> None:
    assert run("--version").stdout.startswith("attnmask ")


def test_show() -> None:
    result = run("show", "causal & window(3)", "-n", "4")
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == "causal & window(3)"
    assert lines[1].startswith("4 × 4 tokens")
    assert lines[2] == "tiles of 1 × 1: 9 full, 0 partial, 7 empty"
    assert [line[5:13] for line in lines[5:9]] == ["██      ", "████    ", "██████  ", "  ██████"]


@pytest.mark.parametrize(
    ("args", "tiles"),
    [
        (("-n", "4k"), "128 × 128"),
        (("-n", "1000"), "16 × 16"),
        (("-n", "1"), "1 × 1"),
        (("-n", "16", "--kv-len", "8k"), "128 × 128"),
        (("-n", "2m"), "256 × 256"),
        (("-n", "4k", "--block", "64x256"), "64 × 256"),
    ],
)
def test_show_picks_a_block_that_can_be_seen(args: tuple[str, ...], tiles: str) -> None:
    assert f"tiles of {tiles}:" in run("show", "causal & window(512)", *args).stdout


def test_show_one_head_of_several() -> None:
    text = "heads(:2) & causal | heads(2:) & window(1)"
    first = run("show", text, "-n", "4", "--heads", "4").stdout
    assert "head 0" in first
    assert "tiles of 1 × 1: 10 full" in first
    for heads in ((), ("--heads", "4")):
        third = run("show", text, "-n", "4", "--head", "2", *heads).stdout
        assert "head 2" in third
        assert "tiles of 1 × 1: 4 full" in third


def test_show_one_batch_row_of_several(tmp_path: Path) -> None:
    np.save(tmp_path / "doc.npy", np.array([[0, 0, 0, 0], [0, 0, 1, 1]]))
    table = f"doc={tmp_path / 'doc.npy'}"
    counts = [
        run("show", "same(doc)", "-n", "4", "--table", table, "--batch-row", row).stdout.splitlines()[2]
        for row in ("0", "1")
    ]
    assert counts == [f"tiles of 1 × 1: {n} full, 0 partial, {16 - n} empty" for n in (16, 8)]


def test_show_with_offset_and_more_keys() -> None:
    out = run("show", "causal", "-n", "2", "--kv-len", "8", "--offset", "6").stdout
    assert out.splitlines()[1] == "2 × 8 tokens · queries from 6 · density 93.8 %"
    assert "\n  6 ┤" in out


def test_show_reads_programs(tmp_path: Path) -> None:
    text = "let w = 2  # short\ncausal & window(w)\n"
    (tmp_path / "a.mask").write_text(text)
    from_file, from_stdin = (
        run("show", f"@{tmp_path / 'a.mask'}", "-n", "4"),
        run("show", "-", "-n", "4", stdin=text),
    )
    assert from_file.stdout == from_stdin.stdout
    assert from_file.stdout.startswith("let w = 2; causal & window(w)\n")
    assert "tiles of 1 × 1: 7 full" in from_file.stdout


def test_show_with_settings() -> None:
    shown = [
        run("show", "causal & (q - k) % step == 0", "-n", "4", "--set", f"step={step}").stdout
        for step in (1, 2)
    ]
    assert ["10 full" in out or "6 full" in out for out in shown] == [True, True]
    assert shown[0] != shown[1]


@pytest.mark.parametrize("name", ["mask.png", "mask.svg"])
def test_show_draws_a_picture_too(tmp_path: Path, name: str) -> None:
    result = run("show", "causal & window(512)", "--png", str(tmp_path / name))
    assert result.exit_code == 0
    assert "█" in result.stdout
    assert (tmp_path / name).stat().st_size > 1000
    assert name in result.stderr


def test_report_is_a_table_or_the_same_as_json() -> None:
    args = ("report", "causal & window(512)", "-n", "8k", "--heads", "4", "--head-dim", "64")
    table, printed = run(*args), run(*args, "--json")
    assert table.exit_code == printed.exit_code == 0
    numbers = json.loads(printed.stdout)
    assert printed.stdout == json.dumps(numbers, sort_keys=True, indent=2) + "\n"
    expected = am.compile("causal & window(512)").report(8192, heads=4, head_dim=64).to_dict()
    assert numbers == json.loads(json.dumps(expected))
    lines = table.stdout.splitlines()
    assert lines[0].rstrip() == "causal & window(512)"
    assert max(map(len, lines)) <= 80
    assert f"{numbers['pairs']:,}" in table.stdout


EXPLAINED = """\
Syntax tree
    Program …
      Logic &
        Name causal
        Call window
          Name doc
          of=Product i
            // Number 2

Intermediate representation, as text
    k <= q & abs(q // 2 - k // 2) < 3

Intermediate representation
    And
      Compare k <= q
      Compare … < 3
        Abs …
          Add
            FloorDiv q 2
            Mul
              Const -1
              FloorDiv k 2

Simplification
    simpler here: abs(q // 2 - k // 2) < 3  ->  q // 2 - k // 2 < 3
    k <= q & q // 2 - k // 2 < 3
    operations per element: 7 before, 6 after

Tiles of 128 × 128 for every length: row I, column J, lengths Q and K
    live: J <= I & I - J < 2 & 128 * I - K < 4
    full: none

Generated source of mask_mod
"""


def test_explain_shows_every_stage() -> None:
    result = run("explain", "causal & window(doc, of=i // 2)", "--set", "doc=3")
    assert result.exit_code == 0
    source = mask_source(am.compile("causal & window(doc, of=i // 2)", doc=3).predicate).text
    assert "def mask_mod(b, h, q, k):" in source
    assert result.stdout == EXPLAINED + textwrap.indent(source, "    ") + "\n"


def test_explain_says_why_there_is_no_formula() -> None:
    out = run("explain", "causal & same(doc)").stdout
    assert "tiles have no formula in lengths where a mask depends on doc[q]" in out
    assert "nothing to simplify: 5 operations per element" in out


def test_explain_shows_scores_and_unbound_tables() -> None:
    out = run("explain", "causal & same(doc) with softcap(30)").stdout
    assert "def build(doc):" in out
    assert "def score_mod(s, b, h, q, k):" in out


def test_emit_prints_or_writes(tmp_path: Path) -> None:
    printed = run("emit", "causal & (window(5) | sink(2))")
    assert printed.exit_code == 0
    written = run("emit", "causal & (window(5) | sink(2))", "-o", str(tmp_path / "my_mask.py"))
    assert written.stdout == ""
    assert (tmp_path / "my_mask.py").read_text() == printed.stdout


def test_emit_writes_bounds_of_intervals(tmp_path: Path) -> None:
    np.save(tmp_path / "doc.npy", np.repeat([3, 1, 2], [20, 30, 14]))
    table = ("--table", f"doc={tmp_path / 'doc.npy'}")
    short = run("emit", "same(doc)", *table, "--intervals", "-n", "64").stdout
    assert "return (start[q] <= k) & (k < end[q])" in short
    assert "[0, 0, 0" in short and "doc =" not in short
    assert "def build_mask" not in run("emit", "causal & window(9)", "--intervals", "-n", "64").stdout
    heads = run("emit", "causal & window(h + 1)", "--intervals", "-n", "64", "--kv-len", "9", "--heads", "4")
    assert "return (q + start[h] <= k) & (k <= q)" in heads.stdout
    assert "at most 64 queries and 9 keys" in heads.stdout


def test_emit_leaves_out_long_tables_of_bounds(tmp_path: Path) -> None:
    np.save(tmp_path / "doc.npy", np.arange(1 << 17) // 1000)
    table = ("--table", f"doc={tmp_path / 'doc.npy'}")
    long = run("emit", "same(doc)", *table, "--intervals", "-n", "128k").stdout
    assert "def build_mask(start, end):" in long
    assert len(long) < 2000
    assert "131072 entries, too many to write out" in run("emit", "same(doc)", *table).stderr


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--intervals",), "--intervals needs the number of queries"),
        (("-n", "64"), "are for --intervals"),
        (("--heads", "2"), "are for --intervals"),
        (("--intervals", "-n", "0"), "-n must be at least 1"),
    ],
)
def test_lengths_go_with_intervals(args: tuple[str, ...], message: str) -> None:
    result = run("emit", "causal", *args)
    assert result.exit_code == 2
    assert message in result.stderr


def test_emit_names_a_query_of_too_many_intervals() -> None:
    result = run("emit", "strided(2)", "--intervals", "-n", "64")
    assert result.exit_code == 2
    assert "query 0 attends 32 intervals of keys, and at most 8" in result.stderr


def test_zoo_lists_every_entry() -> None:
    from attnmask.zoo import entries

    listed = run("zoo")
    assert listed.exit_code == 0
    assert len(entries()) > 10
    for entry in entries():
        assert re.search(rf"^ *{entry.name} .* {entry.causal} *$", listed.stdout, re.MULTILINE)


def test_zoo_describes_one() -> None:
    out = run("zoo", "streaming_llm").stdout
    assert out.startswith("zoo.streaming_llm()  StreamingLLM\n")
    assert "\npaper   Xiao et al." in out
    assert "arXiv:2309.17453" in out
    assert "\ncausal  yes" in out
    assert "\ndef streaming_llm(" in out
    assert run("zoo", "zoo.streaming_llm").stdout == out
