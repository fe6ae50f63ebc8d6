"""`attnmask emit`: a mask as Python that needs no attnmask."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from attnmask.cli import inputs, options
from attnmask.errors import MaskError


def emit(
    expr: options.Expr,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write there, not to standard output."),
    ] = None,
    table: options.Tables = None,
    setting: options.Settings = None,
) -> None:
    """Print a mask as Python of its own.

    The result needs torch but not attnmask.

    \b
      attnmask emit "causal & (window(512) | sink(4))" -o my_mask.py
      attnmask emit "causal & same(doc)" --table doc=doc.npy
      attnmask emit @model.mask --set layer=3 | less
    """
    text = inputs.program(expr)
    mask = options.mask(text, table, setting)

    from attnmask.lower.standalone import standalone

    source = standalone(mask, text)
    if output is None:
        sys.stdout.write(source)
        return
    try:
        output.write_text(source, encoding="utf-8")
    except OSError as error:
        raise MaskError(f"cannot write '{output}': {error.strerror or error}") from error
