"""Fixture files: pairs of lines, what is given and what is expected, under headings that start with `#`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FIXTURES = Path(__file__).parent / "fixtures"


@dataclass(frozen=True, slots=True)
class Pair:
    heading: str
    given: str
    expected: str

    def __str__(self) -> str:
        return self.given


def pairs(name: str) -> list[Pair]:
    """The pairs of a file; its headings tell what they are about."""
    found, heading, given = list[Pair](), "", None
    for line in (FIXTURES / name).read_text(encoding="utf-8").splitlines():
        if line.startswith("# "):
            heading = line.removeprefix("# ")
        elif line and given is None:
            given = line
        elif line:
            found.append(Pair(heading, str(given), line))
            given = None
    assert given is None, f"{name}: '{given}' has no line below it"
    return found


def files() -> list[str]:
    return sorted(path.name for path in FIXTURES.glob("*.txt"))
