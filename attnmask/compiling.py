"""compile: text → tree → IR → Mask."""

from __future__ import annotations

from attnmask.errors import MaskError, Source
from attnmask.ir.choosing import choosers
from attnmask.ir.elaborate import elaborate
from attnmask.ir.prelude import prelude
from attnmask.ir.values import Bound
from attnmask.mask import Mask
from attnmask.syntax.parse import parse


def compile(text: str, /, **bindings: object) -> Mask:
    """The mask that `text` describes.

    Args:
        text: an expression of the language, or statements followed by one.
        bindings: tables (numpy or torch arrays, sequences) and settings (integers) that the text names.

    Raises:
        MaskError: with the place in the text, when it does not describe a mask.
    """
    if not isinstance(text, str):
        raise MaskError(f"a mask is compiled from a text, not from {type(text).__name__}")
    source = Source(text.removeprefix("\ufeff"))
    meaning = elaborate(parse(source), source, prelude(), _lookup)
    if meaning.predicate is None:
        if not text.strip(" \t\r\n;"):
            raise MaskError("the text is empty", hint="try 'causal & window(512)'")
        raise MaskError("the text has no mask", hint="end it with an expression, such as 'causal'")
    mask = Mask(meaning.predicate, meaning.score, origins=meaning.origins)
    return mask.bind(**bindings) if bindings else mask


def _lookup(name: str) -> Bound | None:
    # The zoo is read when a text names it, and not before: it is some dozens of files.
    from attnmask.zoo.catalog import lookup

    return lookup(name)


# Reading the grammar takes longer than compiling a mask: it is done on import, so that no mask waits for it.
prelude()
choosers()
