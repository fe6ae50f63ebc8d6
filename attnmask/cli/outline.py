"""Syntax trees and IR as indented lines, one a node: generic over their dataclasses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from typing import Any

from attnmask.ir import nodes as ir
from attnmask.ir import rules
from attnmask.syntax import tree

_MOST_LINES = 400


def outline(root: object) -> Iterator[str]:
    """One line a node, children indented below it.

    A line has the node's fields in order: values and leaves as they are, `…` for a child below. The IR
    is a graph: a part with several uses is shown at the first, marked `#1`, which the others refer to.
    """
    uses = _uses(root)
    marks: dict[int, str] = {}
    stack: list[tuple[int, str, Any]] = [(0, "", root)]
    for _ in range(_MOST_LINES):
        if not stack:
            return
        depth, prefix, node = stack.pop()
        words, below = _parts(node)
        if id(node) in marks:
            words, below = [marks[id(node)]], []
        elif uses[id(node)] > 1 and len(words) + len(below) > 2:
            marks[id(node)] = f"#{len(marks) + 1}"
            words.append(f"  {marks[id(node)]}")
        yield f"{'  ' * depth}{prefix}{' '.join(words)}"
        stack += [(depth + 1, label, child) for label, child in reversed(below)]
    if stack:
        yield "…"


def _uses(root: object) -> Counter[int]:
    """How many nodes refer to each node, by identity."""
    uses: Counter[int] = Counter()
    stack = [root]
    while stack:
        for _, child in _parts(stack.pop())[1]:
            uses[id(child)] += 1
            if uses[id(child)] == 1:
                stack.append(child)
    return uses


def _parts(node: Any) -> tuple[list[str], list[tuple[str, Any]]]:
    """The words of a node's line, and its children with what stands before each.

    Choices and their rules have many fields of a kind, which go by name.
    """
    words, below = [type(node).__name__], []
    named = isinstance(node, ir.Choice) or type(node).__module__ == rules.__name__
    for field in fields(node):
        value, label = getattr(node, field.name), f"{field.name}=" * named
        if field.name == "span" or value is None:
            continue
        if isinstance(value, tuple):
            below += [_child(item) for item in value]
        elif (leaf := _leaf(value)) is not None:
            words.append(f"{label}{leaf}")
        else:
            words += ["…"] * (not named)
            below.append((label, value))
    return words, below


def _child(item: Any) -> tuple[str, Any]:
    """An element of a tuple: a node, a named one (`of=…`), or one after an operator."""
    if isinstance(item, tree.Argument):
        return f"{item.name}=" if item.name else "", item.value
    if isinstance(item, tuple):
        return f"{item[0]} ", item[1]
    return "", item


def _leaf(value: Any) -> str | None:
    """The word for a value that needs no line of its own."""
    match value:
        case tree.Name(name) | ir.Var(name):
            return name
        case tree.Number(number) | tree.Real(number) | ir.Const(number) | ir.Real(number):
            return str(number)
        case float():
            return f"{value:g}"
    return None if is_dataclass(value) else str(value)
