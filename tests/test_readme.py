"""What the README says of the language is what the language has."""

from __future__ import annotations

from pathlib import Path

from attnmask import zoo
from attnmask.ir.choosing import choosers
from attnmask.syntax import tree

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def _default(value: tree.Expr | None) -> str:
    match value:
        case None:
            return ""
        case tree.Name(name):
            return f"={name}"
        case tree.Truth(truth):
            return f"={str(truth).lower()}"
        case tree.Number(number):
            return f"={number}"
    raise AssertionError(value)


def test_every_function_that_chooses_stands_there_with_its_defaults() -> None:
    for name, operator in choosers().items():
        parameters = (f"{p.name}{_default(p.default)}" for p in operator.definition.parameters)
        signature = f"    {name}({', '.join(parameters)})"
        if name == "top":  # its number may be left out where a share is given
            signature = signature.replace("n=none, score=none", "n, score")
        assert signature in README


def test_how_many_masks_there_are() -> None:
    words = {26: "Twenty-six", 27: "Twenty-seven", 28: "Twenty-eight"}
    chosen = sum(bool(entry.needs) for entry in zoo.entries())
    assert f"{words[chosen]} of" in README
