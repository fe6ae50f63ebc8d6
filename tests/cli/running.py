"""Two ways to run the command: inside this process, and as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys

from typer.testing import CliRunner, Result

from attnmask.cli.app import app

PROGRAM = (sys.executable, "-c", "from attnmask.cli import main; main()")


def run(*args: str, stdin: str | None = None) -> Result:
    """Inside this process: quick, with `stdout`, `stderr` and `exit_code`; what escapes is raised."""
    return CliRunner().invoke(app, list(args), input=stdin, catch_exceptions=False, prog_name="attnmask")


def start(
    *args: str, env: dict[str, str] | None = None, stdin: bytes | None = None
) -> subprocess.CompletedProcess[bytes]:
    """As a process of its own, with pipes for all streams and no terminal settings but those of `env`."""
    settings = {name: value for name, value in os.environ.items() if name not in TERMINAL_SETTINGS}
    settings["PYTHONUTF8"] = "1"
    return subprocess.run(
        [*PROGRAM, *args],
        input=stdin or b"",
        capture_output=True,
        env=settings | (env or {}),
        timeout=120,
        check=False,
    )


TERMINAL_SETTINGS = (
    "COLUMNS",
    "LINES",
    "NO_COLOR",
    "FORCE_COLOR",
    "TTY_COMPATIBLE",
    "TERM",
    "PYTHONIOENCODING",
)
