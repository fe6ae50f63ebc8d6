"""`prove`, `diff` and `reach`: exit codes, sentences, JSON."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.cli.running import run


@pytest.mark.parametrize(
    ("args", "code", "says"),
    [
        (("causal & (window(512) | sink(4))", "--causal", "--no-empty-rows"), 0, "proved    causal, for all"),
        (
            ("causal", "--causal", "--strictly-causal"),
            1,
            "refuted   strictly causal, by q_len = 1, kv_len = 1",
        ),
        (("window(512)", "--no-empty-rows", "--square"), 0, "kv_len = q_len"),
        (("causal & same(doc)", "--within-documents", "doc"), 0, "proved    within documents doc"),
        (("causal & same(doc)", "--no-empty-rows"), 1, "with doc = [0, 0, 0, 1]"),
        (("recent(9)", "--banded", "8"), 0, "banded within 8"),
        (("causal & window(9)", "--symmetric"), 1, "the mask attends the pair"),
        (("window(9)", "--symmetric", "-n", "1k"), 0, "for these lengths: q_len = 1024, kv_len = 1024"),
        (("zoo.longlora_roll()", "--no-empty-rows"), 3, "unknown   no empty rows"),
        (("causal", "--causal", "--offset", "any"), 0, "any q_offset"),
        (("layer % 2 == 0 & causal", "--no-empty-rows", "--set", "layer=2"), 0, "proved"),
    ],
)
def test_prove(args: tuple[str, ...], code: int, says: str) -> None:
    result = run("prove", *args)
    assert result.exit_code == code
    assert says in result.stdout
    assert result.stderr == ""


def test_what_holds_for_square_calls_is_said() -> None:
    lines = run("prove", "window(512)", "--no-empty-rows").stdout.splitlines()
    assert lines[0].startswith("refuted   no empty rows, by q_len = 513, kv_len = 1: q = 512")
    assert lines[1].strip() == "with as many keys as queries it is proved for all lengths (--square)"
    assert len(run("prove", "sink(4) & k > q", "--no-empty-rows").stdout.splitlines()) == 1


def test_prove_prints_json() -> None:
    result = run("prove", "causal", "--causal", "--no-empty-columns", "--json")
    assert result.exit_code == 1
    proved, refuted = json.loads(result.stdout)
    assert proved == {
        "claim": "causal",
        "counterexample": None,
        "reason": "",
        "scope": "every q_len and kv_len",
        "status": "proved for all lengths",
    }
    assert refuted["counterexample"]["k"] == 1
    assert refuted["counterexample"]["q"] is None


def test_diff_of_equal_masks() -> None:
    result = run("diff", "causal & window(9)", "0 <= q - k < 9")
    assert result.exit_code == 0
    assert result.stdout.splitlines()[2:] == ["proved    A equals B, for all lengths: every q_len and kv_len"]


def test_diff_shows_where() -> None:
    result = run("diff", "causal & window(4)", "causal & (window(2) | sink(1))", "-n", "8")
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert "refuted   A is contained in B, by q_len = 4, kv_len = 2: q = 3, k = 1" in result.stdout
    assert "at 8 queries and 8 keys: 17 pairs in both" in lines
    assert "  9 only in A, first at (q, k) = (3, 1), (4, 1), (4, 2), (5, 2), (5, 3)" in lines
    assert "  4 only in B, first at (q, k) = (4, 0), (5, 0), (6, 0), (7, 0)" in lines
    picture = [line[5:21] for line in lines if "┤" in line or line.startswith("    │")]
    assert picture[3] == "··AA····        "
    assert picture[7] == "BB      AAAA····"


def test_diff_without_tables_says_what_the_counts_need(tmp_path: Path) -> None:
    texts = ("causal & same(doc)", "causal")
    result = run("diff", *texts)
    assert result.exit_code == 1
    assert "proved    A is contained in B" in result.stdout
    assert "counts need a value for doc (--table, --set)" in result.stdout
    np.save(tmp_path / "doc.npy", np.arange(64) // 16)
    bound = run("diff", *texts, "-n", "64", "--table", f"doc={tmp_path / 'doc.npy'}")
    assert "at 64 queries and 64 keys: 544 pairs in both" in bound.stdout
    wrong = run("diff", "causal", "window(3)", "--table", f"doc={tmp_path / 'doc.npy'}")
    assert wrong.exit_code == 2
    assert "none of the masks has a table 'doc'" in wrong.stderr


def test_diff_prints_json() -> None:
    result = run("diff", "causal", "causal & k != 2", "-n", "6", "--json")
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert found["B in A"]["status"] == "proved for all lengths"
    assert found["difference"]["pairs"] == {"both": 17, "only_first": 4, "only_second": 0}
    assert found["difference"]["first_positions"]["only_first"] == [[2, 2], [3, 2], [4, 2], [5, 2]]
    assert json.loads(run("diff", "causal", "causal", "--json").stdout)["difference"] is None


def test_diff_compares_the_head_that_is_asked_for() -> None:
    texts = ("heads(:2) & causal | heads(2:) & window(3)", "causal")
    assert "0 only in A" in run("diff", *texts, "-n", "8", "--heads", "4", "--head", "0").stdout
    assert "13 only in A" not in run("diff", *texts, "-n", "8", "--heads", "4", "--head", "0").stdout
    assert "13 only in A" in run("diff", *texts, "-n", "8", "--heads", "4", "--head", "3").stdout


@pytest.mark.parametrize("name", ["difference.png", "difference.svg"])
def test_diff_draws(name: str, tmp_path: Path) -> None:
    result = run("diff", "causal & window(9)", "window(5)", "-n", "64", "--png", str(tmp_path / name))
    assert result.exit_code == 1
    assert result.stderr == f"drew {tmp_path / name}\n"
    assert (tmp_path / name).stat().st_size > 1000


def test_reach() -> None:
    result = run("reach", "causal & (window(512) | sink(4))", "-n", "32k", "--layers", "4")
    assert result.exit_code == 0
    assert "position 32,767 has seen  2,049 of 32,768: 0–3, 30,723–32,767" in result.stdout
    ever = run("reach", "causal & (window(512) | sink(4))", "-n", "8k").stdout
    assert "and nothing new after 17 layers" in ever


def test_layers_needed() -> None:
    asked = ("reach", "causal & window(512)", "-n", "32k", "--from", "30k", "--to", "0")
    assert run(*asked).stdout == "position 30,720 has seen position 0 after 61 layers\n"
    assert json.loads(run(*asked, "--json").stdout) == {
        "exact": True,
        "from": 30720,
        "layers": 61,
        "q_len": 32768,
        "to": 0,
    }
    never = run("reach", "causal", "--from", "3", "--to", "9")
    assert never.stdout == "position 3 never sees position 9\n"


def test_reach_through_layers_that_take_turns() -> None:
    masks = ("causal & window(9)", "causal")
    result = run("reach", *masks, "-n", "64", "--layers", "2", "--json")
    assert json.loads(result.stdout)["last"]["count"] == 64
    assert json.loads(result.stdout)["masks"] == ["k <= q & abs(q - k) < 9", "k <= q"]


def test_diff_of_masks_that_depend_on_heads_proves_without_their_number() -> None:
    result = run("diff", "h % 2 == 0 & causal", "causal")
    assert result.exit_code == 1
    assert "proved    A is contained in B" in result.stdout
    assert "no counts: the mask depends on the heads" in result.stdout
    assert "pairs in both" in run("diff", "h % 2 == 0 & causal", "causal", "--heads", "2", "-n", "64").stdout


def test_diff_is_about_the_calls_that_are_asked_for() -> None:
    bottom_right = "k <= q + K - Q"
    assert run("diff", "causal", bottom_right, "-n", "64").exit_code == 1
    assert run("diff", "causal", bottom_right, "-n", "64", "--square").exit_code == 0
    offset = run("diff", "causal", "k <= q & q < 500", "-n", "4", "--kv-len", "600", "--offset", "500")
    assert "A attends this pair, B does not" in offset.stdout
    assert (
        run("diff", "causal", "k <= q & q >= 5", "-n", "4", "--kv-len", "600", "--offset", "5").exit_code == 0
    )


def test_diff_says_why_it_drew_nothing(tmp_path: Path) -> None:
    result = run("diff", "causal", "causal", "--png", str(tmp_path / "none.png"))
    assert "drew nothing: the masks are equal" in result.stderr
    result = run("diff", "-", "-", stdin="causal")
    assert result.exit_code == 2
    assert "not both" in result.stderr


def test_diff_is_about_as_many_heads_as_are_given() -> None:
    assert run("diff", "heads(:2) & causal", "causal", "--heads", "2", "-n", "64").exit_code == 0
    result = run("diff", "causal", "heads(:2) & causal", "--heads", "4", "-n", "64", "--head", "3")
    assert "head 3 of 4: 0 pairs in both" in result.stdout
