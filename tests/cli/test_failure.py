"""How the command fails: messages, carets, exit codes; never a traceback."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import typer

from attnmask.cli.failure import guarded
from attnmask.errors import MaskError
from tests.cli.running import run


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("show", "causal", "-n", "0"), "-n must be at least 1, not 0"),
        (("show", "causal", "-n", "-5"), "-n must be at least 1, not -5"),
        (("show", "causal", "-n", "many"), "-n takes a whole number, not 'many'"),
        (("show", "causal", "-n", "999999999999"), "below 2**31"),
        (("show", "causal", "--kv-len", "0"), "--kv-len must be at least 1"),
        (("show", "causal", "--offset", "-1"), "--offset must be at least 0"),
        (("show", "causal", "--head", "-1"), "--head must be at least 0"),
        (("show", "causal", "--heads", "2", "--head", "2"), "no head 2"),
        (("show", "causal", "--block", "64x"), "--block takes one or two sizes"),
        (("show", "causal", "--png", "mask.jpg"), "does not say which kind of picture"),
        (("show", "causal", "--png", "no/such/folder/mask.png"), "no folder"),
        (("show", "causal", "--table", "doc"), "--table takes NAME=VALUE"),
        (("show", "causal & same(doc)", "--table", "doc=missing.npy"), "cannot read"),
        (("show", "causal", "--set", "layer=x"), "--set layer takes a whole number"),
        (("show", "@missing.mask"), "cannot read 'missing.mask'"),
        (("report", "causal", "--head-dim", "0"), "--head-dim must be at least 1"),
        (("report", "causal", "--block", "0"), "--block must be at least 1"),
        (("emit", "causal", "-o", "no/such/folder/mask.py"), "cannot write"),
        (("prove", "causal"), "there is nothing to prove"),
        (("prove", "causal", "--banded", "-1"), "--banded must be at least 0"),
        (("prove", "causal", "--causal", "-n", "0"), "-n must be at least 1"),
        (("prove", "causal", "--causal", "--offset", "some"), "--offset takes a whole number"),
        (("prove", "causal", "--causal", "--square", "-n", "4", "--kv-len", "5"), "as many keys as queries"),
        (("prove", "causal", "--within-documents", "same("), "ends"),
        (("diff", "causal", "causl"), "unknown name 'causl'"),
        (("diff", "causal", "window(3)", "--head", "2", "--heads", "2"), "no head 2"),
        (("diff", "causal", "window(3)", "--png", "d.gif"), "does not say which kind of picture"),
        (("diff", "causal", "window(3)", "--table", "doc=missing.npy"), "cannot read"),
        (("reach", "causal", "--from", "3"), "--from and --to go together"),
        (("reach", "causal", "--from", "3", "--to", "2", "--layers", "1"), "--layers is what"),
        (("reach", "causal", "--from", "5000", "--to", "2"), "no position q = 5000"),
        (("reach", "causal & same(doc)"), "is not bound"),
        (("reach", "causal", "--layers", "-1"), "--layers must be at least 0"),
        (("zoo", "streaming-llm"), "there is no mask 'streaming-llm'"),
    ],
)
def test_what_is_wrong_is_said_in_one_sentence(args: tuple[str, ...], message: str) -> None:
    result = run(*args)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith("error: ")
    assert message in result.stderr.splitlines()[0]


@pytest.mark.parametrize("command", ["show", "report", "reach", "explain", "emit"])
@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("causal & windw(512)", "windw"),
        ("causal & (k < ", None),
        ("window(1, 2, 3)", None),
        ("q + k", None),
        ("", None),
    ],
)
def test_a_wrong_mask_is_pointed_at(command: str, text: str, at: str | None) -> None:
    result = run(command, text)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert "Traceback" not in result.stderr
    if at is not None:
        lines = result.stderr.splitlines()
        line = next(number for number, line in enumerate(lines) if line.strip() == text)
        assert lines[line + 1].rstrip() == " " * lines[line].index(at) + "^" * len(at)
        assert any(line.startswith("hint: ") for line in lines)


def test_carets_stay_below_their_line_however_long_it_is() -> None:
    text = "causal & " * 10 + "windw(512)" + " & causal" * 10
    lines = run("show", text).stderr.splitlines()
    carets = next(line for line in lines if "^" in line)
    above = lines[lines.index(carets) - 1]
    assert above[carets.index("^") : carets.rindex("^") + 1].startswith("windw")


def test_an_unbound_table_is_named() -> None:
    result = run("show", "causal & same(doc)")
    assert result.exit_code == 2
    assert "'doc'" in result.stderr


def test_a_short_table_is_named(tmp_path: Path) -> None:
    np.save(tmp_path / "doc.npy", np.zeros(10, np.int64))
    result = run("show", "causal & same(doc)", "-n", "64", "--table", f"doc={tmp_path / 'doc.npy'}")
    assert result.exit_code == 2
    assert "doc" in result.stderr


def test_any_name_can_be_given_to_a_table(tmp_path: Path) -> None:
    np.save(tmp_path / "t.npy", np.zeros(64, np.int64))
    for name in ("text", "self", "bindings"):
        result = run("show", f"causal & same({name})", "-n", "64", "--table", f"{name}={tmp_path / 't.npy'}")
        assert result.exit_code == 0, result.stderr


@pytest.mark.parametrize(
    "args", [("show",), ("show", "causal", "--nonsense"), ("shwo", "causal"), ("show", "a", "b")]
)
def test_usage_errors_exit_with_2(args: tuple[str, ...]) -> None:
    result = run(*args)
    assert result.exit_code == 2
    assert "Usage: attnmask" in result.stderr


def test_nothing_is_computed_for_a_picture_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("compiled before the picture's folder was looked at")

    monkeypatch.setattr("attnmask.compiling.compile", refuse)
    assert run("show", "causal", "--png", "no/such/folder/mask.png").exit_code == 2


@pytest.mark.parametrize(
    ("failure", "code", "message"),
    [
        (MaskError("too wide", hint="less"), 2, "error: too wide\nhint: less\n"),
        (MemoryError(), 2, "error: there is not enough memory"),
        (KeyboardInterrupt(), 130, "error: interrupted"),
        (BrokenPipeError(), 141, ""),
        (OSError(28, "No space left on device"), 1, "No space left on device"),
    ],
)
def test_exit_codes(
    failure: BaseException, code: int, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as caught, guarded():
        raise failure
    assert caught.value.exit_code == code
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err
    assert bool(message) == bool(printed.err)


def test_our_own_bugs_are_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError), guarded():
        _ = 1 // 0
