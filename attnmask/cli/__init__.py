"""The command `attnmask`. To start quickly, commands import what only they need when they run."""

from __future__ import annotations

import io
import sys


def main() -> None:
    """Entry point of the console script; leaves by `SystemExit`."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a name that the terminal cannot show is no reason to fail
    try:
        from attnmask.cli.app import app

        app(prog_name="attnmask")
    except KeyboardInterrupt:  # while importing; later the app itself turns it into an exit code
        sys.exit(130)
