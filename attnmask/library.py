"""The standard library of the language as Python values and functions.

    from attnmask import library as am
    am.causal & (am.window(512, of="doc") | am.sink(4))

The names are those of `grammar/prelude.mask`, and so are their definitions; a name that Python reserves ends in
an underscore here (`global_`). Arguments are integers, texts of the language ("doc", "i // 64", "n[h]"), slices,
masks, and arrays (numpy, torch, lists) where a value for each position is wanted.
"""

from __future__ import annotations

import keyword
from collections.abc import Callable
from functools import lru_cache
from typing import Any

from attnmask.errors import did_you_mean
from attnmask.functions import documentation, make_function
from attnmask.functions.kinds import Kind, result_kind
from attnmask.ir.kinds import to_mask
from attnmask.ir.prelude import prelude, prelude_source
from attnmask.ir.values import Function
from attnmask.mask import Mask
from attnmask.syntax.parse import parse


@lru_cache(maxsize=1)
def _members() -> dict[str, Mask | Callable[..., Any]]:
    """Every mask and every function that makes a mask or a score modification, by its name in Python."""
    source = prelude_source()
    members: dict[str, Mask | Callable[..., Any]] = {}
    for statement in parse(source).statements:
        name = f"{statement.name}_" if keyword.iskeyword(statement.name) else statement.name
        value = prelude()[statement.name].value
        if isinstance(value, Function):
            if result_kind(value) in (Kind.MASK, Kind.SCORE):
                document = documentation(source, statement)
                members[name] = make_function(value, document, name=name, module=__name__)
        elif (predicate := to_mask(value)) is not None:
            members[name] = Mask(predicate)
    return members


def __getattr__(name: str) -> Any:
    # Names with underscores before and after are Python's own questions, as of copy and pickle.
    if name.startswith("__") or name not in _members():
        hint = did_you_mean(name, _members()) if not name.startswith("__") else None
        raise AttributeError(f"the library has no '{name}'" + (f"; {hint}" if hint else ""))
    return _members()[name]


def __dir__() -> list[str]:
    return sorted(_members())
