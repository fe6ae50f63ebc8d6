"""`attnmask reach`: how far information travels through layers of a mask."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attnmask.cli import inputs, options
from attnmask.errors import MaskError

if TYPE_CHECKING:
    from attnmask.plan.reach.result import LayersNeeded, Reach


def reach(
    expr: Annotated[
        list[str],
        typer.Argument(
            metavar="EXPR...",
            show_default=False,
            help="The mask, or one a layer, the first nearest the input; @FILE reads from a file.",
        ),
    ],
    n: options.Length = "4096",
    layers: Annotated[
        str | None,
        typer.Option("--layers", metavar="N", help="Layers. [default: any number, all that is ever seen]"),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option("--from", metavar="Q", help="With --to: after how many layers Q has seen K."),
    ] = None,
    end: Annotated[str | None, typer.Option("--to", metavar="K", help="See --from.")] = None,
    block: Annotated[
        str, typer.Option("--block", metavar="N", help="Positions in a block, where blocks have to do.")
    ] = "128",
    heads: options.Heads = None,
    head: Annotated[
        str | None, typer.Option("--head", metavar="N", help="Stay in this head. [default: all heads]")
    ] = None,
    batch: options.Batch = None,
    table: options.Tables = None,
    setting: options.Settings = None,
    as_json: options.Json = False,
) -> None:
    """Tell what positions can have seen after layers of a mask.

    A layer reaches what its mask attends, and what that had seen before. Masks of several layers take turns.

    \b
      attnmask reach "causal & (window(512) | sink(4))" -n 32k --layers 4
      attnmask reach "causal & window(512)" -n 32k --from 30k --to 0
      attnmask reach "causal & window(1k)" "causal & window(1k)" causal -n 32k --layers 2
    """
    if (start is None) != (end is None):
        raise MaskError("--from and --to go together", hint="for example --from 30k --to 0")
    if start is not None and layers is not None:
        raise MaskError("--layers is what --from and --to ask for", hint="leave it out")
    masks = options.masks([inputs.program(text) for text in expr], table, setting)
    call: dict[str, Any] = {
        "block": inputs.number(block, "--block", least=1),
        "batch": options.count(batch, "--batch"),
        "heads": options.count(heads, "--heads"),
        "h": None if head is None else inputs.number(head, "--head", least=0),
    }
    length = inputs.number(n, "-n", least=1)

    from attnmask.cli.consoles import stdout_console, working
    from attnmask.reaching import layers_needed
    from attnmask.reaching import reach as reached

    found: LayersNeeded | Reach
    with working("following the layers"):
        if start is not None and end is not None:
            q, k = (inputs.number(*each, least=0) for each in ((start, "--from"), (end, "--to")))
            found = layers_needed(masks, q, k, q_len=length, **call)
        else:
            depth = None if layers is None else inputs.number(layers, "--layers", least=0)
            found = reached(masks, length, layers=depth, **call)
    if as_json:
        typer.echo(json.dumps(found.to_dict(), sort_keys=True, indent=2))
    elif start is not None:
        stdout_console().print(str(found), soft_wrap=True)
    else:
        stdout_console().print(found)
