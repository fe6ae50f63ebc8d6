"""Published masks, one file each: `zoo.mistral(window=128)` in Python and inside texts of the language.

    from attnmask import zoo
    mask = zoo.mistral(window=128) & ~library.sink(1)
    zoo.entries()                     # all of them, with paper, source and parameters

Arguments are those of `attnmask.library`. Each file names its paper and its source, and what is known of it.
"""

from __future__ import annotations

from typing import Any

from attnmask.errors import MaskError
from attnmask.zoo.catalog import Entry, entries, function, names

__all__ = ["Entry", "entries"]


def __getattr__(name: str) -> Any:
    if name.startswith("_"):
        raise AttributeError(name)
    try:
        return function(name)
    except MaskError as error:
        raise AttributeError(f"{error.message} ({error.hint})") from None


def __dir__() -> list[str]:
    return sorted((*names(), "Entry", "entries"))
