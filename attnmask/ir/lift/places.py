"""Where in the user's function an operation stands: the frame that called it, and its columns."""

from __future__ import annotations

import linecache
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import CodeType, FrameType, TracebackType
from typing import Any

from attnmask.errors import Place, Source, Span
from attnmask.ir.nodes import Expr


@dataclass(frozen=True, slots=True)
class Spot:
    """An instruction of a function; its line and text are looked up when they are asked for."""

    code: CodeType
    instruction: int
    line: int

    @property
    def name(self) -> str:
        """The function, the file and the line."""
        return f"{self.code.co_qualname}, {Path(self.code.co_filename).name} line {self.line}"

    @property
    def place(self) -> Place | None:
        """The expression in its file; None where the source cannot be had."""
        lines = linecache.getlines(self.code.co_filename)
        position = next(islice(self.code.co_positions(), self.instruction // 2, None), None)
        if position is None or not lines:
            return None
        line, end_line, column, end_column = position
        if line is None or end_line is None or column is None or end_column is None or end_line > len(lines):
            return None
        start, end = (
            sum(map(len, lines[: row - 1])) + len(lines[row - 1].encode()[:at].decode(errors="ignore"))
            for row, at in ((line, column), (end_line, end_column))
        )
        return Place(Source("".join(lines), self.code.co_filename), Span(start, end))


def calling_frame() -> FrameType | None:
    """The innermost frame that belongs neither to attnmask nor to torch."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and _is_machinery(frame):
        frame = frame.f_back
    return frame


def _is_machinery(frame: FrameType) -> bool:
    module = frame.f_globals.get("__name__") or ""
    return module.split(".")[0] in ("attnmask", "torch")


def spot(frame: FrameType | None) -> Spot | None:
    return None if frame is None else Spot(frame.f_code, frame.f_lasti, frame.f_lineno)


def raised_at(traceback: TracebackType | None) -> Spot | None:
    """The innermost spot of a traceback that belongs neither to attnmask nor to torch."""
    found = None
    while traceback is not None:
        if not _is_machinery(traceback.tb_frame):
            found = Spot(traceback.tb_frame.f_code, traceback.tb_lasti, traceback.tb_lineno)
        traceback = traceback.tb_next
    return found


def name_in(frame: FrameType | None, value: object) -> str | None:
    """The variable, or the attribute of a variable, that holds exactly this object."""
    if frame is None:
        return None
    attributes = [getattr(held, "__dict__", {}) for held in frame.f_locals.values()]
    for scope in (frame.f_locals, *attributes, frame.f_globals):
        for name, held in scope.items():
            if held is value:
                return str(name)
    return None


class Places(Mapping[Expr, Place]):
    """Where expressions were made, worked out when a message needs it."""

    def __init__(self, spots: Mapping[Expr, Spot]) -> None:
        self.spots = dict(spots)

    def __getitem__(self, node: Expr) -> Place:
        place = self.spots[node].place
        if place is None:
            raise KeyError(node)
        return place

    def __iter__(self) -> Iterator[Expr]:
        # A function without source, as from eval, has no places.
        return (node for node in self.spots if node in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __contains__(self, node: Any) -> bool:
        return node in self.spots and self.spots[node].place is not None
