"""How the command line fails: a message on stderr and an exit code, no traceback for what a user typed."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from attnmask.errors import MaskError

WRONG_INPUT, NOT_WRITTEN, INTERRUPTED, BROKEN_PIPE = (
    2,
    1,
    130,
    141,
)  # the last two as shells report the signals


@contextmanager
def guarded() -> Iterator[None]:
    """Turn the failures that input or surroundings cause into `typer.Exit`; bugs of ours pass through."""
    try:
        yield
    except MaskError as error:
        raise _exit(WRONG_INPUT, str(error)) from None
    except MemoryError:
        hint = "a larger --block or a smaller -n needs less"
        raise _exit(WRONG_INPUT, f"there is not enough memory for this many tiles\nhint: {hint}") from None
    except KeyboardInterrupt:
        raise _exit(INTERRUPTED, "interrupted") from None
    except BrokenPipeError:
        _drop_output()
        raise typer.Exit(BROKEN_PIPE) from None
    except OSError as error:
        raise _exit(NOT_WRITTEN, f"cannot read or write: {error.strerror or error}") from None


def _exit(code: int, message: str) -> typer.Exit:
    from rich.text import Text

    from attnmask.cli.consoles import stderr_console

    # soft_wrap: the line of carets must stay below the line that it points at.
    stderr_console().print(Text.assemble(("error: ", "bold red"), message), soft_wrap=True)
    return typer.Exit(code)


def _drop_output() -> None:
    """Let what is still buffered go nowhere: flushing it at exit would find the pipe closed again."""
    try:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (OSError, ValueError):  # stdout is no file but a buffer: nothing will be flushed to a pipe
        return
