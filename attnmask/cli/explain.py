"""`attnmask explain`: what becomes of a mask, stage by stage."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from attnmask.cli import inputs, options
from attnmask.ir.index import bitop, const, table, var
from attnmask.ir.nodes import Choice, Predicate
from attnmask.ir.predicate import and_, bool_table, compare, or_
from attnmask.ir.rules import Clusters, Selected, Spans, Top

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
        names = {choice: f"chosen{number}" for number, choice in enumerate(chosen)}
        shown = resolved(shown, lambda choice: _gate(choice, names[choice]))
    yield "Generated source of mask_mod", mask_source(shown).text.splitlines()
    if mask.score is not None:
        yield "Generated source of score_mod", score_source(mask.score).text.splitlines()


def _gate(choice: Choice, name: str) -> Predicate:
    """What a choice becomes, over tables of what was chosen; where heads or rows share sets, indices are fewer."""
    b, h, q, k = (var(axis) for axis in ("b", "h", "q", "k"))
    match choice.rule:
        case Selected():
            return bool_table(name, (b, h, choice.q_unit, choice.k_unit))
        case Clusters(_, members):
            word = () if members is None else (const(0),)
            mine, theirs = table(f"{name}_q", (b, h, q, *word)), table(f"{name}_k", (b, h, k, *word))
            if members is None:
                return compare(mine, "==", theirs)
            return compare(bitop("&", mine, theirs), "!=", const(0))
        case Spans(Selected(Top(number))):
            assert isinstance(number, float), "spans are of a number"
            row = (
                q
                if isinstance(choice.rule.back, str) or isinstance(choice.rule.ahead, str)
                else choice.q_unit
            )
            inside = []
            for at in (const(n) for n in range(int(number))):
                low, high = (table(f"{name}_{end}", (b, h, row, at)) for end in ("low", "high"))
                inside.append(and_(compare(low, "<=", k), compare(k, "<=", high)))
            return or_(*inside)
        case _:
            raise AssertionError(choice.rule)


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
