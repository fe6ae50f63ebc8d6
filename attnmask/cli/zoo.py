"""`attnmask zoo`: the published masks that come along."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from attnmask.errors import MaskError, did_you_mean

if TYPE_CHECKING:
    from attnmask.zoo import Entry


def zoo(
    name: Annotated[
        str | None,
        typer.Argument(metavar="[NAME]", show_default=False, help="The mask to describe; without it, all."),
    ] = None,
) -> None:
    """List the published masks, or show one.

    \b
      attnmask zoo
      attnmask zoo streaming_llm
      attnmask show "zoo.streaming_llm(recent=512)" -n 8k
    """
    from attnmask.zoo import entries

    found = entries()
    if name is None:
        _list(found)
        return
    entry = next((entry for entry in found if entry.name == name.removeprefix("zoo.")), None)
    if entry is None:
        hint = did_you_mean(name, [entry.name for entry in found]) or "'attnmask zoo' lists them all"
        raise MaskError(f"there is no mask '{name}' in the zoo", hint=hint)
    _describe(entry)


def _list(found: Sequence[Entry]) -> None:
    from rich import box
    from rich.table import Table

    from attnmask.cli.consoles import stdout_console

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("name", no_wrap=True, style="bold")
    table.add_column("title")
    table.add_column("year")
    table.add_column("causal")
    for entry in found:
        table.add_row(entry.name, entry.title, str(entry.year), entry.causal)
    console = stdout_console()
    console.print(table)
    console.print(f"chosen at run time: {', '.join(entry.name for entry in found if entry.needs)}")


def _describe(entry: Entry) -> None:
    from rich.table import Table
    from rich.text import Text

    from attnmask.cli.consoles import stdout_console

    console = stdout_console()
    needed = ", ".join(parameter.name for parameter in entry.parameters if parameter.default is None)
    console.print(Text.assemble((f"zoo.{entry.name}({needed})", "bold"), f"  {entry.title}"))
    facts = Table.grid(padding=(0, 2))
    for label in ("paper", "year", "source", "causal", "status", "notes"):
        if value := getattr(entry, label):
            facts.add_row(label, Text(str(value)))
    if entry.needs:
        facts.add_row("needs", Text(", ".join(entry.needs)))
    console.print(facts)
    console.print()
    console.print(Text(_definition(entry.text)), soft_wrap=True)


def _definition(text: str) -> str:
    """The file without its head of `# key: value` lines, which the facts above repeat."""
    lines = text.splitlines()
    end = next((number for number, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return "\n".join(lines[end:]).strip()
