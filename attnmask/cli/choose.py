"""`attnmask choose`: what a mask chooses from queries and keys in files, and how good the choice is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attnmask.cli import inputs, options
from attnmask.cli.show import fitting_block
from attnmask.errors import MaskError

if TYPE_CHECKING:
    from attnmask.mask import Mask


def choose(
    expr: options.Expr,
    q: Annotated[
        Path, typer.Argument(metavar="Q.npy", show_default=False, help="Queries [batch, heads, length, D].")
    ],
    k: Annotated[
        Path, typer.Argument(metavar="K.npy", show_default=False, help="Keys [batch, key heads, length, D].")
    ],
    block: options.FittingBlock = None,
    offset: options.Offset = "0",
    head: options.Head = "0",
    batch_row: options.BatchRow = "0",
    table: options.Tables = None,
    setting: options.Settings = None,
    png: options.Picture = None,
    as_json: options.Json = False,
) -> None:
    """Choose blocks from queries and keys, and tell what the choice costs and keeps.

    Shows the heatmap of one head. What the mask names (thresholds, gates, tables) comes by --table.

    \b
      attnmask choose "causal & (window(512) | topk_blocks(8))" q.npy k.npy
      attnmask choose "zoo.xattention(0.9)" q.npy k.npy --head 3 --png chosen.png
      attnmask choose "zoo.moba(3, 512)" q.npy k.npy --json
    """
    q_offset = inputs.number(offset, "--offset", least=0)
    h, b = inputs.number(head, "--head", least=0), inputs.number(batch_row, "--batch-row", least=0)
    if png is not None:
        from attnmask.view.picture import check_target

        check_target(png)
    text = inputs.program(expr)
    queries, keys = inputs.table(q, "Q.npy"), inputs.table(k, "K.npy")
    mask, given = _mask(text, inputs.bindings(table or (), setting or ()))

    from attnmask.cli.consoles import stderr_console, stdout_console, working
    from attnmask.tiles.count import partial_counts
    from attnmask.view.terminal import Heatmap

    with working("choosing"):
        choices = mask.choose(queries, keys, q_offset=q_offset, check=None, **given)
        call = choices.call
        size = options.Lengths(call.q_len, call.kv_len, call.q_offset)
        for what, index, count in (("head", h, call.heads), ("batch row", b, call.batch)):
            if index >= count:
                raise MaskError(f"there is no {what} {index}", hint=f"of {count}, the last is {count - 1}")
        tile = fitting_block(size) if block is None else inputs.block(block)
        quality = mask.quality(queries, keys, choices, block=tile)
    if as_json:
        typer.echo(json.dumps(quality.to_dict(), sort_keys=True, indent=2))
        if png is None:
            return
    with working("sorting out the tiles"):
        tiles = mask.freeze(choices).tiles(
            call.q_len, call.kv_len, block=tile, batch=call.batch, heads=call.heads, q_offset=q_offset
        )
        counts = partial_counts(tiles)
    if not as_json:
        stdout_console().print(Heatmap(tiles, counts, text, b=b, h=h))
        stdout_console().print(quality)
    if png is not None:
        from attnmask.view.picture import picture

        with working("drawing"):
            picture(png, tiles, counts, text=text, b=b, h=h)
        stderr_console().print(f"drew {png}", soft_wrap=True)


def _mask(text: str, bindings: dict[str, Any]) -> tuple[Mask, dict[str, Any]]:
    """The mask with the tables that it has, and what is left for its choices."""
    from attnmask.compiling import compile

    mask = compile(text)
    if not mask.chooses:
        raise MaskError(
            "the mask chooses nothing from q and k", hint="show and report tell all of a static mask"
        )
    tables = {name: value for name, value in bindings.items() if name in mask.unbound}
    return mask.bind(**tables), {name: value for name, value in bindings.items() if name not in tables}
