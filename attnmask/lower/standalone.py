"""A mask as a Python file of its own, which needs torch and nothing of attnmask; written without torch."""

from __future__ import annotations

import textwrap
from collections.abc import Collection
from typing import TYPE_CHECKING

from attnmask.errors import MaskError
from attnmask.ir.check import fits_int32
from attnmask.ir.domain import ANYWHERE, Domain
from attnmask.ir.tables import require_chosen
from attnmask.ir.text import one_line
from attnmask.ir.walk import variables
from attnmask.lower.source import Source, mask_source, score_source

if TYPE_CHECKING:
    from attnmask.ir.tables import TableData
    from attnmask.lower.prepare import Lowerable

_LONG = Domain(1 << 20, 1 << 20)  # for which 32-bit integers are to suffice
_MOST_HEADS = 1 << 10
LARGEST_TABLE = 1 << 16  # entries; a longer list has no business in a source file

_IMPORTS = """\
import torch
from torch.nn.attention.flex_attention import create_block_mask
"""
_BLOCK_MASK = '''\
def block_mask(q_len, kv_len, *, {batch}, {heads}, device="cpu"{asked}):
    """The BlockMask, built by torch: it evaluates every pair of positions."""
{limit}{build}    return create_block_mask(mask_mod, batch, heads, q_len, kv_len, device=device)
'''
_LIMIT = """\
    if q_len > {q_len} or kv_len > {kv_len}:
        raise ValueError("the mask is made for {q_len} queries and {kv_len} keys")
"""
_SIZES = {"Q": "q_len", "K": "kv_len", "B": "batch", "H": "heads"}


def standalone(mask: Lowerable, text: str, left_out: Collection[str] = ()) -> str:
    """A file with `mask_mod` (and `score_mod`) and `block_mask(q_len, kv_len, ...)`; `text` heads it.

    Bound tables are written out, but for those in `left_out`. A function that needs more, other tables or a
    length, comes from a `build_...` function that takes it. Raises `MaskError` when a table is too large to be
    written out, and for a mask that is made for queries from another position than 0.
    """
    if mask.made_for.q_offset:
        raise MaskError(
            f"the mask is made for queries from {mask.made_for.q_offset}, and the file's queries count from 0",
            hint="its mask_mod takes such positions",
        )
    require_chosen(mask.predicate, mask.origins)
    asked = {*mask.unbound, *left_out}
    wide = not _fits(mask)
    sources = {"mask": mask_source(mask.predicate, wide=wide)}
    if mask.score is not None:
        sources["score"] = score_source(mask.score, wide=wide)
    parts = [_heading(text, mask.made_for, wide), _IMPORTS]
    named = {name: parameter for source in sources.values() for parameter, name in source.tables}
    written = [
        _written(named[name], data, wide) for name, data in mask.tables if name in named and name not in asked
    ]
    if written:
        parts.append("".join(written))
    for kind, source in sources.items():
        parts.append("\n" + _function(source, kind))
        if source.parameters and not source.sizes and not _asked(source, asked):
            parts.append(f"\n{kind}_mod = build_{kind}({', '.join(source.parameters)})\n")
    parts.append("\n" + _block_mask(mask, sources["mask"], asked))
    return "\n".join(parts)


def _fits(mask: Lowerable) -> bool:
    """Whether 32-bit integers suffice for long sequences; what unbound tables hold nobody knows."""
    limits = mask.made_for if _is_limited(mask.made_for) else _LONG
    domain = Domain(limits.q_len, limits.kv_len, 0, _MOST_HEADS, _MOST_HEADS)
    roots = [mask.predicate] if mask.score is None else [mask.predicate, mask.score]
    return not mask.unbound and all(fits_int32(root, domain, dict(mask.tables)) for root in roots)


def _heading(text: str, made_for: Domain, wide: bool) -> str:
    # A docstring that is raw text for Python as well: neither escapes nor quotes survive in it.
    shown = one_line(text, 1000).replace("\\", "/").replace('"', "'")
    lines = [
        *textwrap.wrap(shown, 90),
        "",
        "A mask for FlexAttention, written by attnmask; it needs torch only.",
    ]
    if _is_limited(made_for):
        lines.append(f"It is made for at most {made_for.q_len} queries and {made_for.kv_len} keys.")
    elif not wide:
        lines.append(f"Integers have 32 bits, which is enough up to {_LONG.q_len} tokens.")
    return '"""' + "\n".join(lines) + '\n"""\n'


def _written(name: str, data: TableData, wide: bool) -> str:
    if data.array.size > LARGEST_TABLE:
        raise MaskError(
            f"the table '{name}' has {data.array.size} entries, too many to write out",
            hint=f"leave out --table {name}=...; the file then has a function that takes it",
        )
    kind = {"b": "bool", "i": "int64" if wide else "int32", "f": "float32"}[data.array.dtype.kind]
    values = "\n".join(textwrap.wrap(str(data.array.tolist()), 100))
    return f"{name} = torch.tensor(\n{textwrap.indent(values, '    ')},\n    dtype=torch.{kind},\n)\n"


def _function(source: Source, kind: str) -> str:
    """The factory under a name of its own; where it takes nothing, the function that it would return."""
    if source.parameters:
        return source.text.replace("def build(", f"def build_{kind}(", 1)
    lines = source.text.splitlines()
    return textwrap.dedent("\n".join(lines[1 : lines.index(f"    return {kind}_mod")])).rstrip() + "\n"


def _is_limited(made_for: Domain) -> bool:
    return (made_for.q_len, made_for.kv_len) != (ANYWHERE.q_len, ANYWHERE.kv_len)


def _asked(source: Source, asked: Collection[str]) -> list[str]:
    """The parameters that stand for tables which are not written out."""
    return [parameter for parameter, name in source.tables if name in asked]


def _block_mask(mask: Lowerable, source: Source, asked: Collection[str]) -> str:
    limits = mask.made_for
    given = [f"{parameter}.to(device)" for parameter, _ in source.tables]
    given += [f"{size}=torch.tensor({_SIZES[size]}, device=device)" for size in source.sizes]
    used = variables(mask.predicate)
    return _BLOCK_MASK.format(
        # Where the mask depends on them, a default would stand for the first row or head alone.
        batch="batch" if used & {"b", "B"} else "batch=None",
        heads="heads" if used & {"h", "H"} else "heads=None",
        asked="".join(f", {parameter}" for parameter in _asked(source, asked)),
        limit=_LIMIT.format(q_len=limits.q_len, kv_len=limits.kv_len) if _is_limited(limits) else "",
        build=f"    mask_mod = build_mask({', '.join(given)})\n" if source.parameters else "",
    )
