"""Where the commands print: rich consoles set up alike, and a sign of life during long work."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console

_PIPE_WIDTH = 80
_PATIENCE = 0.5  # seconds without an answer after which a person wants to know why


class _PipeConsole(Console):
    """Lets `failure` decide what a reader that goes away means, where rich would leave with code 1."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def stdout_console() -> Console:
    """As wide as the terminal, or 80 columns in a pipe unless COLUMNS says otherwise; colour where wanted."""
    piped = not sys.stdout.isatty() and "COLUMNS" not in os.environ
    return _PipeConsole(highlight=False, markup=False, emoji=False, width=_PIPE_WIDTH if piped else None)


def stderr_console() -> Console:
    return _PipeConsole(stderr=True, highlight=False, markup=False, emoji=False)


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
