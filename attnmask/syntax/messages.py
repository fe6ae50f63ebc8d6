"""What to say where a text stops being of the language, and what may help."""

from __future__ import annotations

import re

from attnmask.errors import MaskError, Place, Source, Span

_LONGEST = 20


def ends_early(source: Source) -> MaskError:
    """The text is over and something is missing."""
    end = max(0, _without_tail(source.text))
    return MaskError(
        "the text ends too early", hint=_unclosed(source.text), place=Place(source, Span(end, end + 1))
    )


def unexpected(source: Source, start: int, token: str, line_end: bool) -> MaskError:
    """A word or a sign that cannot stand where it stands."""
    shown = "the end of the line" if line_end else f"'{_shown(token)}'"
    span = Span(start, start + max(1, len(token)))
    return MaskError(
        f"{shown} is not expected here", hint=_hint(token, source.text, start), place=Place(source, span)
    )


def _without_tail(text: str) -> int:
    """Where the last word ends: comments and space after it do not count."""
    lines = text.split("\n")
    while lines and not lines[-1].split("#", 1)[0].strip():
        lines.pop()
    if not lines:
        return 0
    return len("\n".join([*lines[:-1], lines[-1].split("#", 1)[0].rstrip()]))


def _shown(token: str) -> str:
    token = token if token.isprintable() else repr(token)[1:-1]
    return token if len(token) <= _LONGEST else token[: _LONGEST - 1] + "…"


def _unclosed(text: str) -> str | None:
    for left, right in ("()", "[]"):
        missing = text.count(left) - text.count(right)
        if missing > 0:
            return f"{missing} '{left}' {'is' if missing == 1 else 'are'} not closed"
    return None


def _hint(token: str, text: str, start: int) -> str | None:
    around = text[max(0, start - 1) : start + 2]
    if "&&" in around or "||" in around:
        return "write a single '&' or '|'"
    if "**" in around:
        return "there is no power; write the product"
    match token:
        case "=":
            return "write '==' to compare"
        case "!":
            return "write '~' for not"
        case ")" if text.count(")") > text.count("("):
            return "there is no '(' for it"
        case "&" | "|" | "^" | "and" | "or" if not text[:start].rpartition("\n")[2].strip() and start:
            return "end the line above with the operator, or put brackets around the whole"
    if token[:1] in "'\"":
        return "names are written without quotes"
    before = text[:start].rstrip(" \t")
    if re.match(r"[A-Za-z0-9_(~]", token) and re.search(r"[A-Za-z0-9_)\]]\Z", before):
        return "an operator is missing, such as & or |"
    return None
