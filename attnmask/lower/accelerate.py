"""accelerate: attnmask's builder in the place of torch's, wherever modules hold it, for a while."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import wraps
from threading import Lock
from typing import Any

from attnmask.lower.builder import TORCH_BUILDER, create_block_mask

_changing = Lock()
_depth = 0


@contextmanager
def accelerate() -> Iterator[None]:
    """Inside `with accelerate():` existing code builds its block masks with attnmask.

    Replaces `create_block_mask` in `torch.nn.attention.flex_attention` and in every module that has imported
    it, under whatever name, and puts torch's back at the end, also into modules that were imported meanwhile.
    What holds the function otherwise (a compiled version, a class, a default argument) keeps torch's. Holds for
    all threads; blocks may be nested.
    """
    _enter()
    try:
        yield
    finally:
        _leave()


def _enter() -> None:
    global _depth
    with _changing:
        if _depth == 0:
            _replace(TORCH_BUILDER, _accelerated)
        _depth += 1


def _leave() -> None:
    global _depth
    with _changing:
        _depth -= 1
        if _depth == 0:
            _replace(_accelerated, TORCH_BUILDER)


@wraps(create_block_mask)
def _accelerated(*args: Any, **options: Any) -> Any:
    """An object of its own: who imports attnmask's builder on purpose keeps it when the block ends."""
    return create_block_mask(*args, **options)


def _replace(old: Callable[..., Any], new: Callable[..., Any]) -> None:
    """Every module's name for `old` becomes one for `new`; attnmask's own are left alone."""
    for name, module in list(sys.modules.items()):
        if module is None or name.split(".")[0] == "attnmask":
            continue
        # Some entries are no modules, and some modules refuse to be changed: they keep what they have.
        with suppress(Exception):
            for key, value in list(vars(module).items()):
                if value is old:
                    setattr(module, key, new)
