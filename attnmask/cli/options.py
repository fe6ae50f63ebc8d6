"""The options that commands share, each declared once. Numbers arrive as text, so that 4k can be one."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer

from attnmask.cli import inputs
from attnmask.errors import MaskError, did_you_mean

if TYPE_CHECKING:
    from attnmask.mask import Mask

Expr: TypeAlias = Annotated[
    str,
    typer.Argument(
        metavar="EXPR",
        show_default=False,
        help="The mask; @FILE reads it from a file, - from standard input.",
    ),
]
Length: TypeAlias = Annotated[
    str, typer.Option("--q-len", "-n", metavar="N", help="Queries, and keys too unless --kv-len is given.")
]
KvLen: TypeAlias = Annotated[
    str | None, typer.Option("--kv-len", metavar="N", help="Keys, when not as many as queries.")
]
Offset: TypeAlias = Annotated[
    str, typer.Option("--offset", metavar="N", help="Position of the first query, as when decoding.")
]
Heads: TypeAlias = Annotated[str | None, typer.Option("--heads", metavar="N", help="Query heads.")]
Head: TypeAlias = Annotated[str, typer.Option("--head", metavar="N", help="Which head to look at.")]
BatchRow: TypeAlias = Annotated[
    str, typer.Option("--batch-row", metavar="N", help="Which batch row to look at.")
]
Square: TypeAlias = Annotated[bool, typer.Option("--square", help="Only calls with as many keys as queries.")]
FittingBlock: TypeAlias = Annotated[
    str | None,
    typer.Option(
        "--block", metavar="N|QxK", help="Tile size, 128 or 64x128. [default: 128; less below 4096 tokens]"
    ),
]
Picture: TypeAlias = Annotated[
    Path | None, typer.Option("--png", metavar="FILE", help="Draw a picture too: FILE.png or FILE.svg.")
]
Json: TypeAlias = Annotated[bool, typer.Option("--json", help="Print JSON, keys sorted.")]
Batch: TypeAlias = Annotated[str | None, typer.Option("--batch", metavar="N", help="Batch rows.")]
Tables: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--table", metavar="NAME=FILE", help="A table that the mask names, from an .npy file; repeatable."
    ),
]
Settings: TypeAlias = Annotated[
    list[str] | None,
    typer.Option(
        "--set", metavar="NAME=N", help="A number that the mask names, such as layer=3; repeatable."
    ),
]


@dataclass(frozen=True, slots=True)
class Lengths:
    """Lengths in tokens and the position of the first query."""

    q_len: int
    kv_len: int
    q_offset: int


def lengths(n: str, kv_len: str | None, offset: str) -> Lengths:
    q_len = inputs.number(n, "-n", least=1)
    keys = q_len if kv_len is None else inputs.number(kv_len, "--kv-len", least=1)
    return Lengths(q_len, keys, inputs.number(offset, "--offset", least=0))


def count(text: str | None, option: str) -> int | None:
    """A number of heads or batch rows, when one is given."""
    return None if text is None else inputs.number(text, option, least=1)


def mask(text: str, tables: list[str] | None, settings: list[str] | None) -> Mask:
    """The compiled mask with its tables and settings bound."""
    from attnmask.compiling import compile

    return compile(text, **inputs.bindings(tables or (), settings or ()))


def masks(texts: list[str], tables: list[str] | None, settings: list[str] | None) -> list[Mask]:
    """Several masks; a table or a setting may belong to some of them only."""
    from attnmask.compiling import compile

    given = inputs.bindings(tables or (), settings or ())
    compiled = [compile(text) for text in texts]
    named = {name for mask in compiled for name in mask.unbound}
    for name, value in given.items():
        if name not in named and not isinstance(value, int):
            raise MaskError(f"none of the masks has a table '{name}'", hint=did_you_mean(name, named))
    return [mask.bind(**{name: given[name] for name in given if name in mask.unbound}) for mask in compiled]
