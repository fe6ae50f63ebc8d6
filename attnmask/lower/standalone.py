"""A mask as a Python file of its own, which needs torch and nothing of attnmask; written without torch."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from attnmask.errors import MaskError
from attnmask.ir.check import fits_int32
from attnmask.ir.domain import Domain
from attnmask.ir.text import one_line
from attnmask.ir.walk import variables
from attnmask.lower.source import Source, mask_source, score_source

if TYPE_CHECKING:
    from attnmask.ir.tables import TableData
    from attnmask.lower.prepare import Lowerable

_LONGEST = 1 << 20  # tokens up to which 32-bit integers are to suffice
_MOST_HEADS = 1 << 10
_LARGEST_TABLE = 1 << 16  # entries; a longer list has no business in a source file

_IMPORTS = """\
import torch
from torch.nn.attention.flex_attention import create_block_mask
"""
_BLOCK_MASK = '''\
def block_mask(q_len, kv_len, *, {batch}, {heads}, device="cpu"{asked}):
    """The BlockMask, built by torch: it evaluates every pair of positions."""
{build}    return create_block_mask(mask_mod, batch, heads, q_len, kv_len, device=device)
'''
_SIZES = {"Q": "q_len", "K": "kv_len", "B": "batch", "H": "heads"}


def standalone(mask: Lowerable, text: str) -> str:
    """A file with `mask_mod` (and `score_mod`) and `block_mask(q_len, kv_len, ...)`; `text` heads it.

    Bound tables are written out. A function that needs more, unbound tables or a length, comes from a
    `build_...` function that takes it. Raises `MaskError` when a table is too large to be written out.
    """
    wide = not _fits(mask)
    sources = {"mask": mask_source(mask.predicate, wide=wide)}
    if mask.score is not None:
        sources["score"] = score_source(mask.score, wide=wide)
    parts = [_heading(text, wide), _IMPORTS]
    named = {name: parameter for source in sources.values() for parameter, name in source.tables}
    written = [_written(named[name], data, wide) for name, data in mask.tables if name in named]
    if written:
        parts.append("".join(written))
    for kind, source in sources.items():
        parts.append("\n" + _function(source, kind))
        if source.parameters and not source.sizes and not _asked(mask, source):
            parts.append(f"\n{kind}_mod = build_{kind}({', '.join(source.parameters)})\n")
    parts.append("\n" + _block_mask(mask, sources["mask"]))
    return "\n".join(parts)


def _fits(mask: Lowerable) -> bool:
    """Whether 32-bit integers suffice for long sequences; what unbound tables hold nobody knows."""
    domain = Domain(_LONGEST, _LONGEST, 0, _MOST_HEADS, _MOST_HEADS)
    roots = [mask.predicate] if mask.score is None else [mask.predicate, mask.score]
    return not mask.unbound and all(fits_int32(root, domain, dict(mask.tables)) for root in roots)


def _heading(text: str, wide: bool) -> str:
    # A docstring that is raw text for Python as well: neither escapes nor quotes survive in it.
    shown = one_line(text, 1000).replace("\\", "/").replace('"', "'")
    lines = [
        *textwrap.wrap(shown, 90),
        "",
        "A mask for FlexAttention, written by attnmask; it needs torch only.",
    ]
    if not wide:
        lines.append(f"Integers have 32 bits, which is enough up to {_LONGEST} tokens.")
    return '"""' + "\n".join(lines) + '\n"""\n'


def _written(name: str, data: TableData, wide: bool) -> str:
    if data.array.size > _LARGEST_TABLE:
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


def _asked(mask: Lowerable, source: Source) -> list[str]:
    """The parameters that stand for unbound tables."""
    return [parameter for parameter, name in source.tables if name in mask.unbound]


def _block_mask(mask: Lowerable, source: Source) -> str:
    asked = _asked(mask, source)
    given = [f"{parameter}.to(device)" for parameter, _ in source.tables]
    given += [f"{size}=torch.tensor({_SIZES[size]}, device=device)" for size in source.sizes]
    used = variables(mask.predicate)
    return _BLOCK_MASK.format(
        # Where the mask depends on them, a default would stand for the first row or head alone.
        batch="batch" if used & {"b", "B"} else "batch=None",
        heads="heads" if used & {"h", "H"} else "heads=None",
        asked="".join(f", {parameter}" for parameter in asked),
        build=f"    mask_mod = build_mask({', '.join(given)})\n" if source.parameters else "",
    )
