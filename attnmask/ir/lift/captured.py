"""The tensors that a traced function reads from outside: each gets a name, and may not change until it is read."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from attnmask.ir.builtins import BUILTINS
from attnmask.ir.interval import Bounds
from attnmask.ir.lift.places import calling_frame, name_in
from attnmask.ir.lift.shapes import complete, dtype_name
from attnmask.ir.lift.values import INTEGERS, Cells, Operand, Refused
from attnmask.ir.prelude import prelude_source

_WORDS = ("and", "or", "not", "in", "let", "def", "with")


class Captured:
    """Tensors by the names that they go by in the mask."""

    def __init__(self) -> None:
        self.tensors: dict[str, Any] = {}  # keeps them alive, and their ids their own
        self.cells: dict[int, Operand] = {}
        self.versions: dict[int, int | None] = {}
        self.known_bounds: dict[str, Bounds] = {}

    def operand(self, tensor: Any) -> Operand:
        """The tensor as a table without indices yet; as a number where it has no dimensions."""
        if id(tensor) in self.cells:
            self._require_unchanged(tensor)
        else:
            name = self.named(tensor, name_in(calling_frame(), tensor))
            self.versions[id(tensor)] = _version(tensor)
            cells = Cells(name, tuple(tensor.shape), (None,) * len(tensor.shape))
            self.cells[id(tensor)] = complete(cells, dtype_name(tensor.dtype))
        return self.cells[id(tensor)]

    def named(self, tensor: Any, found: str | None) -> str:
        """A name of its own for a tensor, which is kept: the one it has in the function, where that will do."""
        stem = found if found is not None and found.isidentifier() and found not in _reserved() else "table"
        name, number = stem, 2
        while name in self.tensors:
            name, number = f"{stem}_{number}", number + 1
        self.tensors[name] = tensor
        return name

    def bounds(self, name: str) -> Bounds:
        """Bounds of the entries; of their dtype where looking would have to wait for a device."""
        if name not in self.known_bounds:
            self.known_bounds[name] = _bounds(self.tensors[name])
        return self.known_bounds[name]

    def require_unchanged(self) -> None:
        """Refused where a tensor was written to after it was read: it was not the same for all of the function."""
        for tensor in self.tensors.values():
            if id(tensor) in self.versions:
                self._require_unchanged(tensor)

    def _require_unchanged(self, tensor: Any) -> None:
        if _version(tensor) != self.versions[id(tensor)]:
            raise Refused("a tensor is changed after it was read", "make a new tensor of it", final=True)


def _bounds(tensor: Any) -> Bounds:
    if hasattr(tensor, "detach"):
        if tensor.device.type != "cpu":
            allowed = INTEGERS[dtype_name(tensor.dtype)]
            return allowed.start, allowed.stop - 1
        tensor = tensor.detach().numpy()  # whose minimum wakes no threads
    return (int(tensor.min()), int(tensor.max())) if tensor.size else (0, 0)


@lru_cache(maxsize=1)
def _reserved() -> frozenset[str]:
    """Names that the language reads as something else than a table."""
    defined = re.findall(r"^(?:def|let)?\s*(\w+)", prelude_source().text, re.MULTILINE)
    return frozenset([*"qkbhisQKBH", *_WORDS, *BUILTINS, *defined])


def _version(tensor: Any) -> int | None:
    """How often a tensor was written to; tensors of inference mode do not count that."""
    try:
        return int(tensor._version)
    except (AttributeError, RuntimeError):
        return None
