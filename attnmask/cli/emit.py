"""`attnmask emit`: a mask as Python that needs no attnmask."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from attnmask.cli import inputs, options
from attnmask.errors import MaskError

if TYPE_CHECKING:
    from attnmask.mask import Mask


def emit(
    expr: options.Expr,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="Write there, not to standard output."),
    ] = None,
    intervals: Annotated[
        bool,
        typer.Option(
            "--intervals",
            help="Write it as bounds on k, start[q] <= k < end[q], for the lengths of -n. "
            "Bounds of over 64k queries are parameters; Mask.interval_form has them.",
        ),
    ] = False,
    n: Annotated[
        str | None,
        typer.Option(
            "--q-len", "-n", metavar="N", help="With --intervals: queries, and keys unless --kv-len."
        ),
    ] = None,
    kv_len: options.KvLen = None,
    heads: options.Heads = None,
    batch: options.Batch = None,
    table: options.Tables = None,
    setting: options.Settings = None,
) -> None:
    """Print a mask as Python of its own.

    The result needs torch but not attnmask.

    \b
      attnmask emit "causal & (window(512) | sink(4))" -o my_mask.py
      attnmask emit "causal & same(doc)" --table doc=doc.npy
      attnmask emit "causal & same(doc)" --table doc=doc.npy --intervals -n 4k
      attnmask emit @model.mask --set layer=3 | less
    """
    text = inputs.program(expr)
    mask = options.mask(text, table, setting)
    left_out: list[str] = []
    if intervals:
        form = _interval_form(mask, n, kv_len, heads, batch)
        left_out = _long_tables(form, mask)
        mask = form
    elif not (n is kv_len is heads is batch is None):
        raise MaskError(
            "lengths, heads and batch rows are for --intervals",
            hint="without it the file holds for any, and takes them when it builds a BlockMask",
        )

    from attnmask.lower.standalone import standalone

    source = standalone(mask, text, left_out)
    if output is None:
        sys.stdout.write(source)
        return
    try:
        output.write_text(source, encoding="utf-8")
    except OSError as error:
        raise MaskError(f"cannot write '{output}': {error.strerror or error}") from error


def _interval_form(
    mask: Mask, n: str | None, kv_len: str | None, heads: str | None, batch: str | None
) -> Mask:
    if n is None:
        raise MaskError("--intervals needs the number of queries", hint="give it with -n 4k")
    size = options.lengths(n, kv_len, "0")
    return mask.interval_form(
        size.q_len,
        size.kv_len,
        heads=options.count(heads, "--heads"),
        batch=options.count(batch, "--batch"),
    )


def _long_tables(form: Mask, mask: Mask) -> list[str]:
    """The tables of bounds that are too long for a file, which takes them as parameters then."""
    from attnmask.lower.standalone import LARGEST_TABLE

    given = dict(mask.tables)
    return [name for name, data in form.tables if name not in given and data.array.size > LARGEST_TABLE]
