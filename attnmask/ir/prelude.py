"""The standard library's names, elaborated once from the text that ships with the package."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from attnmask.errors import Source
from attnmask.ir.elaborate import elaborate
from attnmask.ir.values import Bound
from attnmask.resources import read_grammar
from attnmask.syntax.parse import parse


@lru_cache(maxsize=1)
def prelude_source() -> Source:
    return Source(read_grammar("prelude.mask"), "prelude")


@lru_cache(maxsize=1)
def prelude() -> Mapping[str, Bound]:
    """The scope that every text is elaborated in."""
    source = prelude_source()
    return elaborate(parse(source), source, {}).bindings
