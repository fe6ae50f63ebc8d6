"""From generated source to functions: one code object a text, tables as tensors on the device they are needed."""

from __future__ import annotations

import hashlib
import linecache
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, TypeVar, cast

import torch

from attnmask.ir.domain import Domain
from attnmask.ir.tables import TableData
from attnmask.lower.source import Source

MaskMod = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]
ScoreMod = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


F = TypeVar("F", bound=Callable[..., Any])


def untraced(function: F) -> F:
    """Keeps a function out of graphs: a compiled caller breaks its graph there."""
    return cast(F, torch.compiler.disable(function))  # type: ignore[no-untyped-call]  # torch's has no types


def build(
    source: Source,
    tables: Mapping[str, TableData],
    domain: Domain | None,
    device: torch.device,
    tensors: Mapping[str, torch.Tensor] | None = None,
) -> Any:
    """The function that `source` describes, with its tables and sizes as tensors on `device`.

    `tensors`: tables that lie there already, which are taken as they are.
    """
    ready = tensors or {}
    given: dict[str, torch.Tensor] = {
        parameter: ready[name] if name in ready else _table(tables[name], device, source.wide)
        for parameter, name in source.tables
    }
    if domain is not None:
        # Sizes are tensors too: as Python integers each new length would be a new graph.
        given |= {size: _number(domain.bounds(size)[0], device, source.wide) for size in source.sizes}
        if source.offset:
            given["q_offset"] = _number(domain.q_offset, device, source.wide)
    return factory(source)(**given)


def factory(source: Source) -> Callable[..., Any]:
    """The factory that `source` describes, for whoever holds the tensors of its parameters."""
    return _factory(source.text)


def text_id(text: str) -> str:
    """A short name for a generated text, the same in every process."""
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


@lru_cache(maxsize=512)
def _factory(text: str) -> Callable[..., Any]:
    """Runs a text that attnmask wrote from IR nodes; nothing that a user typed gets here."""
    name = f"<attnmask {text_id(text)}>"
    linecache.cache[name] = (len(text), None, text.splitlines(keepends=True), name)
    namespace: dict[str, Any] = {"torch": torch}
    exec(compile(text, name, "exec"), namespace)
    factory: Callable[..., Any] = namespace["build"]
    return factory


@lru_cache(maxsize=64)
def _table(data: TableData, device: torch.device, wide: bool) -> torch.Tensor:
    kind = data.array.dtype.kind
    if kind == "b":
        dtype = torch.bool
    elif kind == "f":
        dtype = torch.float32
    else:
        # A table of scores may hold integers that are wide where positions are not.
        fits = data.array.size == 0 or max(abs(int(data.array.min())), int(data.array.max())) < 2**31
        dtype = torch.int32 if fits and not wide else torch.int64
    return torch.tensor(data.array, dtype=dtype, device=device)


def _number(value: int, device: torch.device, wide: bool) -> torch.Tensor:
    # Filled there: a number that is copied over makes the host wait.
    return torch.full((), value, dtype=torch.int64 if wide else torch.int32, device=device)
