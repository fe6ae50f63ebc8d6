"""`attnmask diff`: whether two masks are equal, and where they are not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from attnmask.cli import inputs, options
from attnmask.cli.prove import PROVED, REFUTED, UNKNOWN, sentence
from attnmask.cli.show import enough, fitting_block
from attnmask.errors import MaskError

if TYPE_CHECKING:
    from rich.text import Text

    from attnmask.algebra.verdict import Verdict
    from attnmask.mask import Mask
    from attnmask.plan.difference import Difference


def diff(
    first: Annotated[
        str, typer.Argument(metavar="A", show_default=False, help="A mask; @FILE reads it from a file.")
    ],
    second: Annotated[str, typer.Argument(metavar="B", show_default=False, help="Another mask.")],
    n: options.Length = "4096",
    kv_len: options.KvLen = None,
    square: options.Square = False,
    block: options.FittingBlock = None,
    offset: options.Offset = "0",
    heads: options.Heads = None,
    head: options.Head = "0",
    batch: options.Batch = None,
    batch_row: options.BatchRow = "0",
    table: options.Tables = None,
    setting: options.Settings = None,
    png: options.Picture = None,
    as_json: options.Json = False,
) -> None:
    """Compare two masks.

    Equal, or one contained in the other, for all lengths; and where they differ at the lengths of a call. Leaves with
    exit code 0 where they are proved equal, 1 where they differ, 3 where neither is known.

    \b
      attnmask diff "causal & window(512)" "causal & (window(512) | sink(4))"
      attnmask diff "same(i // 64)" "same(i // 128)" -n 1k --png difference.png
      attnmask diff "causal" "k <= q + K - Q" --square
      attnmask diff @old.mask @new.mask --json
    """
    size = options.lengths(n, kv_len, offset)
    blocks = fitting_block(size) if block is None else inputs.block(block)
    h, b = inputs.number(head, "--head", least=0), inputs.number(batch_row, "--batch-row", least=0)
    n_batch, n_heads = enough(batch, b, "batch row"), enough(heads, h, "head")
    if square and size.q_len != size.kv_len:
        raise MaskError(f"--square means as many keys as queries, not {size.q_len} and {size.kv_len}")
    if png is not None:
        from attnmask.view.picture import check_target

        check_target(png)
    if first == second == "-":
        raise MaskError("standard input can be one of the masks, not both")
    texts = [inputs.program(text) for text in (first, second)]
    one, other = options.masks(texts, table, setting)
    calls: dict[str, Any] = {
        "square": square,
        "q_offset": size.q_offset,
        "heads": options.count(heads, "--heads"),
        "batch": options.count(batch, "--batch"),
    }

    from attnmask.cli.consoles import stderr_console, working

    with working("comparing"):
        verdicts = {
            "equal": one.compare("equal", other, **calls),
            "A in B": one.compare("contained", other, **calls),
            "B in A": other.compare("contained", one, **calls),
            "disjoint": one.compare("disjoint", other, **calls),
        }
        lack = None if verdicts["equal"] else _lack(one, other, n_batch, n_heads)
        found = None
        if not verdicts["equal"] and lack is None:
            found = one.difference(
                other,
                size.q_len,
                size.kv_len,
                block=blocks,
                batch=n_batch,
                heads=n_heads,
                b=b,
                h=h,
                q_offset=size.q_offset,
            )
    if as_json:
        plain: dict[str, Any] = {name: verdict.to_dict() for name, verdict in verdicts.items()}
        plain["difference"] = None if found is None else found.to_dict()
        typer.echo(json.dumps(plain, sort_keys=True, indent=2))
    else:
        _print(one, other, verdicts, found, lack)
    if png is not None and found is not None:
        from attnmask.view.picture import difference_picture

        with working("drawing"):
            difference_picture(png, found, texts)
        stderr_console().print(f"drew {png}", soft_wrap=True)
    elif png is not None:
        stderr_console().print(f"drew nothing: {lack or 'the masks are equal'}", soft_wrap=True)
    raise typer.Exit(_exit_code(verdicts["equal"], found))


def _lack(one: Mask, other: Mask, batch: int | None, heads: int | None) -> str | None:
    """What is missing for counts, which proofs can do without."""
    if names := {*one.unbound, *other.unbound}:
        return f"counts need a value for {', '.join(sorted(names))} (--table, --set)"
    try:
        for mask in (one, other):
            mask.domain(1, batch=batch, heads=heads)
    except MaskError as error:
        options_ = "" if one.chooses or other.chooses else " (--heads, --batch)"
        return f"no counts: {error.message}{options_}"
    return None


def _print(
    one: Mask, other: Mask, verdicts: dict[str, Verdict], found: Difference | None, lack: str | None
) -> None:
    from rich.text import Text

    from attnmask.cli.consoles import stdout_console
    from attnmask.ir.text import one_line
    from attnmask.view.difference import DifferenceMap

    console = stdout_console()
    for name, mask in (("A", one), ("B", other)):
        console.print(Text(f"{name}  {one_line(str(mask), 240)}", style="bold"), soft_wrap=True)
    for line in _verdict_lines(verdicts):
        console.print(line, soft_wrap=True)
    if lack is not None:
        console.print(lack, soft_wrap=True)
    if found is None:
        return
    for text in _difference_lines(found):
        console.print(text, soft_wrap=True)
    if not found.equal:
        console.print(DifferenceMap(found))


def _verdict_lines(verdicts: dict[str, Verdict]) -> Iterator[Text]:
    """Equality, and where that is not proved the relations that say more."""
    titles = {"equal": "A equals B", "A in B": "A is contained in B", "B in A": "B is contained in A"}
    titles["disjoint"] = "A and B have no pair in common"
    for name, verdict in verdicts.items():
        wanted = name == "equal" or (not verdicts["equal"] and (name != "disjoint" or verdict))
        if wanted:
            first, second = "BA" if name == "B in A" else "AB"
            reason = verdict.reason.replace("the first mask", first).replace("the second mask", second)
            reason = reason.replace("the other", second if reason.startswith(first) else first)
            yield sentence(replace(verdict, claim=titles[name], reason=reason))


def _difference_lines(found: Difference) -> Iterator[str]:
    tiles, pairs = found.both.tiles, found.pairs
    where = [f"{tiles.q_len:,} queries and {tiles.kv_len:,} keys"]
    planes = np.maximum(*(side.tiles.plane_of.shape for side in (found.only_first, found.only_second)))
    for name, number, count in (("batch row", found.b, planes[0]), ("head", found.h, planes[1])):
        where += [f"{name} {number} of {count}"] if count > 1 else []
    yield f"at {', '.join(where)}: {pairs['both']:,} pairs in both"
    for kind, name in (("only_first", "A"), ("only_second", "B")):
        first = found.only_first if kind == "only_first" else found.only_second
        places = ", ".join(f"({q}, {k})" for q, k in first.positions(found.b, found.h))
        yield f"  {pairs[kind]:,} only in {name}" + (f", first at (q, k) = {places}" if places else "")


def _exit_code(equal: Verdict, found: Difference | None) -> int:
    if equal:
        return PROVED
    return REFUTED if equal.status == "refuted" or (found is not None and not found.equal) else UNKNOWN
