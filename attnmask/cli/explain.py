"""`attnmask explain`: what becomes of a mask, stage by stage."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from attnmask.cli import inputs, options

if TYPE_CHECKING:
    from attnmask.mask import Mask


def explain(expr: options.Expr, table: options.Tables = None, setting: options.Settings = None) -> None:
    """Print tree, IR and generated Python.

    \b
      attnmask explain "causal & (window(512) | sink(4))"
      attnmask explain "layer % 4 == 3 & causal | window(128)" --set layer=2
      echo "causal & ~sink(4)" | attnmask explain -
    """
    text = inputs.program(expr)
    mask = options.mask(text, table, setting)

    from rich.text import Text

    from attnmask.cli.consoles import stdout_console

    console = stdout_console()
    for title, lines in _stages(text, mask):
        console.print(Text(title, style="bold"))
        for line in lines:
            console.print(Text(f"    {line}".rstrip()), soft_wrap=True)
        console.print()


def _stages(text: str, mask: Mask) -> Iterator[tuple[str, Iterable[str]]]:
    from attnmask.cli.outline import outline
    from attnmask.errors import Source
    from attnmask.ir.text import to_text
    from attnmask.lower.source import mask_source, score_source
    from attnmask.syntax.parse import parse

    yield "Syntax tree", outline(parse(Source(text)))
    yield "Intermediate representation, as text", to_text(mask.predicate).splitlines()
    yield "Intermediate representation", outline(mask.predicate)
    if mask.score is not None:
        yield "Intermediate representation of the score", outline(mask.score)
    yield "Generated source of mask_mod", mask_source(mask.predicate).text.splitlines()
    if mask.score is not None:
        yield "Generated source of score_mod", score_source(mask.score).text.splitlines()
