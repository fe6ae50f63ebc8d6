"""The commands put together, and the one place where failures turn into a message and an exit code."""

from __future__ import annotations

import sys
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from attnmask.cli import choose, diff, emit, explain, failure, prove, reach, report, show, zoo

HELP = """\
Compile masks for attention: see one, learn what it costs, get its code.

\b
  attnmask show "causal & window(512)"
  attnmask show "causal & (window(512) | sink(4))" -n 32k --png mask.png
  attnmask report "causal & same(i // 4k)" -n 128k --heads 32
  attnmask prove "causal & (window(512) | sink(4))" --causal --no-empty-rows

A command's own --help has more examples.
"""


class Commands(TyperGroup):
    """The group of commands, guarded: nothing that a user can type ends in a traceback."""

    def invoke(self, ctx: Any) -> Any:
        with failure.guarded():
            result = super().invoke(ctx)
            sys.stdout.flush()  # a closed pipe shows here, not while the interpreter shuts down
            return result


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"attnmask {_version()}")
        raise typer.Exit


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("attnmask")
    except PackageNotFoundError:
        return "(a checkout that is not installed)"


def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", callback=_print_version, is_eager=True, help="Print the version and leave."
        ),
    ] = False,
) -> None:
    pass


# Plain help without rich: examples stay copyable, and showing them loads nothing more.
app = typer.Typer(
    cls=Commands,
    help=HELP,
    callback=_options,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for _command in (
    show.show,
    report.report,
    prove.prove,
    diff.diff,
    reach.reach,
    explain.explain,
    emit.emit,
    choose.choose,
    zoo.zoo,
):
    app.command()(_command)
