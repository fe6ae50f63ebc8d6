"""`attnmask explain`: what becomes of a mask, stage by stage."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from attnmask.cli import inputs, options
from attnmask.ir.index import var
from attnmask.ir.nodes import Choice, Predicate
from attnmask.ir.predicate import bool_table

if TYPE_CHECKING:
    from attnmask.mask import Mask

_LONGEST_STEP = 160


def explain(expr: options.Expr, table: options.Tables = None, setting: options.Settings = None) -> None:
    """Print tree, IR, simplification, formulas of the tiles and generated Python.

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
    from attnmask.ir.choices import choices_of, closed, resolved
    from attnmask.ir.text import to_text
    from attnmask.lower.source import mask_source, score_source
    from attnmask.syntax.parse import parse

    yield "Syntax tree", outline(parse(Source(text)))
    yield "Intermediate representation, as text", to_text(mask.predicate).splitlines()
    yield "Intermediate representation", outline(mask.predicate)
    if mask.score is not None:
        yield "Intermediate representation of the score", outline(mask.score)
    yield "Simplification", _simplification(mask)
    yield "Tiles of 128 × 128 for every length: row I, column J, lengths Q and K", _formula(mask)
    shown = closed(mask.predicate)
    if chosen := choices_of(shown):
        yield "Chosen from q and k when a call runs", [to_text(choice) for choice in chosen]
        shown = resolved(shown, _as_table)
    yield "Generated source of mask_mod", mask_source(shown).text.splitlines()
    if mask.score is not None:
        yield "Generated source of score_mod", score_source(mask.score).text.splitlines()


def _as_table(choice: Choice) -> Predicate:
    """The choice as the table that it becomes; with sets shared by heads or rows, its indices are fewer."""
    return bool_table("chosen", (var("b"), var("h"), choice.q_unit, choice.k_unit))


def _simplification(mask: Mask) -> Iterator[str]:
    """What `simplify` does, step by step: the rule, the part before and after it."""
    from attnmask.algebra.cost import operations
    from attnmask.ir.text import one_line, to_text

    found = mask.simplification()
    for step in found.steps:
        before, after = (one_line(to_text(part), _LONGEST_STEP) for part in (step.before, step.after))
        yield f"{step.rule}: {before}  ->  {after}"
    if not found.steps:
        yield f"nothing to simplify: {operations(found.before)} operations per element"
        return
    yield from to_text(found.after).splitlines()
    yield f"operations per element: {operations(found.before)} before, {operations(found.after)} after"


def _formula(mask: Mask) -> list[str]:
    from attnmask.errors import MaskError

    try:
        return str(mask.tile_formula(128)).splitlines()
    except MaskError as error:
        return [error.message]
