"""`attnmask prove`: claims about a mask, for all lengths; the exit code says how they came out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from attnmask.cli import inputs, options
from attnmask.errors import MaskError

if TYPE_CHECKING:
    from rich.text import Text

    from attnmask.algebra.verdict import Verdict
    from attnmask.mask import Mask

PROVED, REFUTED, UNKNOWN = 0, 1, 3
_COLOURS = {"proved": "green", "refuted": "red", "unknown": "yellow"}


def _flag(name: str, says: str) -> Any:
    return typer.Option(f"--{name}", help=says)


def prove(
    expr: options.Expr,
    causal: Annotated[bool, _flag("causal", "No query sees a later key.")] = False,
    strictly_causal: Annotated[
        bool, _flag("strictly-causal", "Every key is earlier than its query.")
    ] = False,
    no_empty_rows: Annotated[bool, _flag("no-empty-rows", "Every query sees a key.")] = False,
    no_empty_columns: Annotated[bool, _flag("no-empty-columns", "Every key is seen by a query.")] = False,
    symmetric: Annotated[bool, _flag("symmetric", "Two positions see each other, or neither does.")] = False,
    within_documents: Annotated[
        str | None,
        typer.Option(
            "--within-documents", metavar="OF", help="No query sees a key with another OF: doc, or i // 64."
        ),
    ] = None,
    banded: Annotated[
        str | None,
        typer.Option("--banded", metavar="N", help="No key is further than N positions from its query."),
    ] = None,
    n: Annotated[
        str | None,
        typer.Option(
            "--q-len", "-n", metavar="N", help="Queries, and keys unless --kv-len. [default: any number]"
        ),
    ] = None,
    kv_len: options.KvLen = None,
    square: options.Square = False,
    offset: Annotated[
        str, typer.Option("--offset", metavar="N|any", help="Position of the first query.")
    ] = "0",
    heads: options.Heads = None,
    batch: options.Batch = None,
    table: options.Tables = None,
    setting: options.Settings = None,
    as_json: options.Json = False,
) -> None:
    """Prove claims about a mask, or refute them.

    For all lengths, unless some are given. Leaves with exit code 0 where all is proved, 1 where a claim is refuted, 3
    where one is left unknown. Tables that are not given may hold anything.

    \b
      attnmask prove "causal & (window(512) | sink(4))" --causal --no-empty-rows
      attnmask prove "causal & same(doc)" --within-documents doc
      attnmask prove "window(512)" --no-empty-rows --square
      attnmask prove @model.mask --causal --set layer=3 --json
    """
    asked: list[tuple[str, dict[str, Any]]] = [
        (name, {})
        for name, wanted in (
            ("causal", causal),
            ("strictly_causal", strictly_causal),
            ("no_empty_rows", no_empty_rows),
            ("no_empty_columns", no_empty_columns),
            ("symmetric", symmetric),
        )
        if wanted
    ]
    if within_documents is not None:
        asked.append(("within_documents", {"of": within_documents}))
    if banded is not None:
        asked.append(("banded", {"within": inputs.number(banded, "--banded", least=0)}))
    if not asked:
        raise MaskError(
            "there is nothing to prove", hint="say what: --causal, --no-empty-rows, … (see --help)"
        )
    calls: dict[str, Any] = {
        "q_len": options.count(n, "-n"),
        "kv_len": options.count(kv_len if kv_len is not None else n, "--kv-len"),
        "heads": options.count(heads, "--heads"),
        "batch": options.count(batch, "--batch"),
        "q_offset": None if offset == "any" else inputs.number(offset, "--offset", least=0),
        "square": square,
    }
    mask = options.mask(inputs.program(expr), table, setting)

    from attnmask.cli.consoles import stdout_console, working

    with working("proving"):
        verdicts = [mask.prove(name, **more, **calls) for name, more in asked]  # type: ignore[arg-type]  # names as above
        notes = [
            _if_square(mask, *claim, verdict, calls) for claim, verdict in zip(asked, verdicts, strict=True)
        ]
    if as_json:
        typer.echo(json.dumps([verdict.to_dict() for verdict in verdicts], sort_keys=True, indent=2))
    else:
        console = stdout_console()
        for verdict, note in zip(verdicts, notes, strict=True):
            for line in _lines(verdict, note):
                console.print(line, soft_wrap=True)
    raise typer.Exit(exit_code(verdicts))


def exit_code(verdicts: list[Verdict]) -> int:
    """Of several verdicts, the worst."""
    if any(verdict.status == "refuted" for verdict in verdicts):
        return REFUTED
    return PROVED if all(verdicts) else UNKNOWN


def _if_square(
    mask: Mask, claim: str, more: dict[str, Any], verdict: Verdict, calls: dict[str, Any]
) -> Verdict | None:
    """The verdict for as many keys as queries, where it is another: what self-attention is about."""
    if (
        verdict.status != "refuted"
        or calls["square"]
        or calls["q_len"] is not None
        or calls["kv_len"] is not None
    ):
        return None
    square = mask.prove(claim, **more, **{**calls, "square": True})  # type: ignore[arg-type]  # a name as above
    return square if square else None


def _lines(verdict: Verdict, if_square: Verdict | None) -> Iterator[Text]:
    from rich.text import Text

    yield sentence(verdict)
    if if_square is not None:
        yield Text(f"          with as many keys as queries it is {if_square.status} (--square)")


def sentence(verdict: Verdict) -> Text:
    """The verdict on one line, its outcome first."""
    from rich.text import Text

    outcome = "proved" if verdict else verdict.status
    head = Text.assemble((f"{outcome:<9} ", _COLOURS[outcome]), verdict.claim)
    if verdict:
        return head.append(f", {verdict.status.removeprefix('proved ')}: {verdict.scope}")
    if verdict.counterexample is not None:
        head.append(f", by {verdict.counterexample}")
    return head.append(f" ({verdict.reason})" if verdict.reason else "")
