from __future__ import annotations

import io
import sys
import threading
import time

import pytest

from attnmask.cli import consoles
from tests.cli.running import run


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consoles, "_PATIENCE", 0.05)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("TTY_INTERACTIVE", raising=False)


@pytest.mark.usefixtures("impatient")
def test_long_work_is_announced_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with consoles.working("counting"):
        deadline = time.monotonic() + 10
        while "counting" not in terminal.getvalue() and time.monotonic() < deadline:
            time.sleep(0.01)
    assert "counting" in terminal.getvalue()
    assert not any(thread.name == "announcement" for thread in threading.enumerate())


@pytest.mark.usefixtures("impatient")
def test_short_work_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consoles, "_PATIENCE", 60)
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    with consoles.working("counting"):
        pass
    assert terminal.getvalue() == ""


@pytest.mark.usefixtures("impatient")
def test_nothing_is_announced_where_nobody_watches(capfd: pytest.CaptureFixture[str]) -> None:
    with consoles.working("counting"):
        time.sleep(0.2)
    assert capfd.readouterr().err == ""


@pytest.mark.usefixtures("impatient")
def test_a_failure_ends_the_announcement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", Terminal())
    with pytest.raises(KeyError), consoles.working("counting"):
        time.sleep(0.2)
        raise KeyError
    assert not any(thread.name == "announcement" for thread in threading.enumerate())


@pytest.mark.parametrize("columns", [None, "0", "-3", "wide"])
@pytest.mark.parametrize(
    "args", [("report", "causal", "-n", "4k"), ("zoo",), ("zoo", "moba"), ("report", "caus")]
)
def test_lines_in_a_pipe_end_where_their_text_ends(
    args: tuple[str, ...], columns: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And a width that is none does not hide them."""
    monkeypatch.delenv("COLUMNS", raising=False)
    usual = run(*args)
    if columns is not None:
        monkeypatch.setenv("COLUMNS", columns)
    result = run(*args)
    assert (result.stdout, result.stderr) == (usual.stdout, usual.stderr)
    lines = (result.stdout + result.stderr).splitlines()
    assert any(lines)
    assert all(line == line.rstrip() for line in lines)
