"""`attnmask report`: what a mask costs, as a table or as JSON."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import Annotated, Any

import typer

from attnmask.cli import inputs, options

_LONGEST_TITLE = 240


def report(
    expr: options.Expr,
    n: options.Length = "4096",
    kv_len: options.KvLen = None,
    block: Annotated[str, typer.Option("--block", metavar="N|QxK", help="Tile size, 128 or 64x128.")] = "128",
    offset: options.Offset = "0",
    heads: options.Heads = None,
    head_dim: Annotated[str, typer.Option("--head-dim", metavar="N", help="Width of a head.")] = "128",
    batch: options.Batch = None,
    table: options.Tables = None,
    setting: options.Settings = None,
    as_json: options.Json = False,
) -> None:
    """Count pairs, tiles, FLOPs and bytes.

    What a mask attends, what a kernel computes for it, and what that costs.

    \b
      attnmask report "causal & (window(512) | sink(4))" -n 128k --heads 32 --head-dim 128
      attnmask report "causal & same(doc)" -n 32k --table doc=doc.npy
      attnmask report "causal" -n 1m --json
    """
    size = options.lengths(n, kv_len, offset)
    blocks, width = inputs.block(block), inputs.number(head_dim, "--head-dim", least=1)
    n_heads, n_batch = options.count(heads, "--heads"), options.count(batch, "--batch")
    text = inputs.program(expr)
    mask = options.mask(text, table, setting)

    from attnmask.cli.consoles import stdout_console, working
    from attnmask.ir.text import one_line

    with working("counting"):
        result = mask.report(
            size.q_len,
            size.kv_len,
            batch=n_batch,
            heads=n_heads,
            head_dim=width,
            block=blocks,
            q_offset=size.q_offset,
        )
    if as_json:
        typer.echo(json.dumps(plain(result.to_dict()), sort_keys=True, indent=2, allow_nan=False))
    else:
        # Headed by what was typed: the text of the IR can be far longer.
        stdout_console().print(replace(result, mask=one_line(text, _LONGEST_TITLE)))


def plain(value: Any) -> Any:
    """The value in terms of JSON: numpy's numbers as Python's, and null for what is not finite."""
    if isinstance(value, dict):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    return None if isinstance(value, float) and not math.isfinite(value) else value
