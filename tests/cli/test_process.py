"""What only a process of its own shows: streams, encodings, signals, what gets imported."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.cli.running import PROGRAM, start

SHOW = ("show", "causal & window(512)")


def test_a_pipe_gets_plain_text_of_80_columns() -> None:
    result = start(*SHOW)
    assert result.returncode == 0
    assert result.stderr == b""
    assert b"\x1b" not in result.stdout
    lines = result.stdout.decode().splitlines()
    assert max(map(len, lines)) <= 80
    assert sum("█" in line for line in lines) > 20


def test_columns_are_respected() -> None:
    lines = start(*SHOW, env={"COLUMNS": "40"}).stdout.decode().splitlines()
    assert max(map(len, lines)) <= 40


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_stream_that_cannot_encode_blocks(encoding: str) -> None:
    result = start(*SHOW, env={"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"})
    assert result.returncode == 0
    assert b"Traceback" not in result.stderr
    assert b"####" in result.stdout
    assert b"?" not in result.stdout


def test_a_mask_that_the_stream_cannot_encode() -> None:
    result = start(
        "show", "let \N{GREEK SMALL LETTER OMEGA} = 4; causal", "-n", "8", env={"PYTHONIOENCODING": "ascii"}
    )
    assert b"Traceback" not in result.stderr


def in_terminal(*args: str, env: dict[str, str]) -> str:
    """What a terminal receives on stdout and stderr."""
    ours, theirs = pty.openpty()
    settings = {
        name: value
        for name, value in os.environ.items()
        if name not in ("NO_COLOR", "FORCE_COLOR", "COLUMNS")
    }
    with subprocess.Popen(
        [*PROGRAM, *args],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=settings | {"TERM": "xterm-256color"} | env,
    ) as process:
        os.close(theirs)
        received = b""
        try:
            while block := os.read(ours, 1 << 16):
                received += block
        except OSError:  # how Linux reports that the other side is closed
            pass
        assert process.wait() == 0
    os.close(ours)
    return received.decode()


def test_a_terminal_gets_colour_unless_it_is_unwanted() -> None:
    assert re.search(r"\x1b\[38;[25];", in_terminal(*SHOW, env={}))
    assert not re.search(r"\x1b\[(38|3\d)", in_terminal(*SHOW, env={"NO_COLOR": "1"}))


LISTING = """
import sys
import time
from attnmask.cli import main
try:
    main()
finally:
    print(*sys.modules, file=sys.stderr)
"""


def test_torch_stays_out_and_so_does_all_else_that_is_slow() -> None:
    result = subprocess.run(
        [sys.executable, "-c", LISTING, *SHOW], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr
    loaded = set(result.stderr.split())
    assert "attnmask.view.terminal" in loaded
    assert not {"torch", "matplotlib", "networkx", "islpy", "asyncio", "pygments"} & loaded


@pytest.mark.parametrize(
    "args",
    [
        ("report", "causal"),
        ("prove", "causal", "--causal"),
        ("diff", "causal", "k <= q"),
        ("reach", "causal & window(9)"),
        ("explain", "causal"),
        ("emit", "causal"),
        ("zoo",),
        ("--help",),
    ],
)
def test_no_command_needs_torch(args: tuple[str, ...]) -> None:
    blocked = "import sys; sys.modules['torch'] = None; from attnmask.cli import main; main()"
    result = subprocess.run(
        [sys.executable, "-c", blocked, *args], capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr


def test_a_reader_that_leaves_is_no_failure() -> None:
    with subprocess.Popen([*PROGRAM, *SHOW], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 141


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_said() -> None:
    with Path("/dev/full").open("wb") as full:
        result = subprocess.run(
            [*PROGRAM, *SHOW], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert result.returncode == 1
    assert "No space left" in result.stderr
    assert "Traceback" not in result.stderr


def wait_until_idle(pid: int) -> None:
    """Until the process has used the processor and then, for a while, has not: it waits for input."""
    before, since = 0, time.monotonic()
    while time.monotonic() - since < 0.7 or before < 5:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        now = int(fields[11]) + int(fields[12])
        if now != before or fields[0] == "R":
            before, since = now, time.monotonic()
        time.sleep(0.02)


def test_ctrl_c_exits_with_130() -> None:
    # EXPR from standard input: the command waits there until it is interrupted.
    # Whoever runs the tests in the background of a shell has it ignored, and so would the command.
    with subprocess.Popen(
        [*PROGRAM, "explain", "-"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    ) as process:
        wait_until_idle(process.pid)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert out == b""
    assert b"Traceback" not in err
