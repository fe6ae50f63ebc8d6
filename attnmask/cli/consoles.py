"""Where the commands print: rich consoles set up alike, and a sign of life during long work."""

from __future__ import annotations

import os
import shutil
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

from rich.console import Console

_PIPE_WIDTH = 80
_PATIENCE = 0.5  # seconds without an answer after which a person wants to know why


class _PipeConsole(Console):
    """Lets `failure` decide what a reader that goes away means, where rich would leave with code 1."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


class _Unpadded:
    """A stream whose lines end where their text ends: rich pads the rows of tables."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        self.stream.write("\n".join(line.rstrip(" ") for line in text.split("\n")))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def stdout_console() -> Console:
    """As wide as the terminal, or 80 columns in a pipe unless COLUMNS says otherwise; colour where wanted."""
    return _console(sys.stdout)


def stderr_console() -> Console:
    return _console(sys.stderr)


def _console(stream: TextIO) -> Console:
    to = stream if stream.isatty() else cast(TextIO, _Unpadded(stream))
    return _PipeConsole(file=to, width=_width(stream), highlight=False, markup=False, emoji=False)


def _width(stream: TextIO) -> int | None:
    """None where rich finds it itself. A width of 0 in COLUMNS is none."""
    columns = os.environ.get("COLUMNS", "")
    if columns.isdigit() and int(columns) > 0:
        return None
    return shutil.get_terminal_size().columns if stream.isatty() else _PIPE_WIDTH


@contextmanager
def working(what: str) -> Iterator[None]:
    """Show `what` with a spinner on stderr once it lasts, if a person is watching."""
    if not sys.stderr.isatty():
        yield
        return
    done = threading.Event()
    watcher = threading.Thread(target=_watch, args=(what, done), name="announcement", daemon=True)
    watcher.start()
    try:
        yield
    finally:
        done.set()
        watcher.join()


def _watch(what: str, done: threading.Event) -> None:
    if done.wait(_PATIENCE):
        return
    with stderr_console().status(what):
        done.wait()
