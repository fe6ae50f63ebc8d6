"""What went wrong, where it stands in the text, and what to do about it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

_WIDEST_LINE = 100
_LONGEST_MESSAGE = 240


@dataclass(frozen=True, slots=True)
class Source:
    """A text that a user wrote, with the name it goes by in messages."""

    text: str
    name: str = "<mask>"


@dataclass(frozen=True, slots=True)
class Span:
    """Half-open range of characters in a `Source`."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Place:
    """A span together with the text that it indexes."""

    source: Source
    span: Span


class MaskError(ValueError):
    """Something the user gave cannot be compiled or evaluated.

    `message` is one sentence, `hint` says what to do, `place` is where the text is at fault.
    """

    def __init__(self, message: str, *, hint: str | None = None, place: Place | None = None) -> None:
        # Names and texts in a message come from the user and may be of any length.
        message = message if len(message) <= _LONGEST_MESSAGE else message[: _LONGEST_MESSAGE - 1] + "…"
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.place = place

    @property
    def source(self) -> Source | None:
        return None if self.place is None else self.place.source

    @property
    def span(self) -> Span | None:
        return None if self.place is None else self.place.span

    def __str__(self) -> str:
        parts = [self.message]
        if self.place is not None:
            parts.append(excerpt(self.place))
        if self.hint is not None:
            parts.append(f"hint: {self.hint}")
        return "\n".join(parts)


class UndecidedError(MaskError):
    """Bounds cannot tell whether evaluating a mask would go wrong; where it may, it is not evaluated."""


class LiftError(MaskError):
    """A Python function is not a mask that attnmask can lift; the message names the operation and its line."""


def excerpt(place: Place) -> str:
    """The line of the source that `place` starts on, and a second line of carets below it."""
    text, span = place.source.text, place.span
    start = min(span.start, len(text))
    line_start = text.rfind("\n", 0, start) + 1
    line_end = text.find("\n", start)
    line_end = len(text) if line_end < 0 else line_end
    line_end -= text[line_start:line_end].endswith("\r")
    end = max(start + 1, min(span.end, line_end))
    first, last = _window(line_start, line_end, start, end)
    shown = "".join(char if char.isprintable() else "·" for char in text[first:last].replace("\t", " "))
    left = "…" if first > line_start else ""
    right = "…" if last < line_end else ""
    carets = " " * (start - first + len(left)) + "^" * (min(end, last + 1) - start)
    number = text.count("\n", 0, line_start) + 1
    head = f"  line {number}: " if "\n" in text.strip("\n") else "  "
    return f"{head}{left}{shown}{right}\n{' ' * len(head)}{carets}"


def _window(line_start: int, line_end: int, start: int, end: int) -> tuple[int, int]:
    """The part of a long line to show: all of it, or a stretch around the fault."""
    if line_end - line_start <= _WIDEST_LINE:
        return line_start, line_end
    first = max(line_start, min(start - 20, line_end - _WIDEST_LINE))
    return first, min(line_end, max(first + _WIDEST_LINE, min(end, first + _WIDEST_LINE)))


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name closest in spelling to `name`, or None when none is close."""
    found = difflib.get_close_matches(name, list(known), n=1, cutoff=0.6)
    return found[0] if found else None


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    """A hint that names the closest known name, or None."""
    found = nearest(name, known)
    return None if found is None else f"did you mean '{found}'?"
