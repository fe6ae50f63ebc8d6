"""Expressions as flat lists, which pickle at any depth: each node's type and fields, children by number."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from attnmask.ir.nodes import Expr, Node, make
from attnmask.ir.walk import postorder


class Ref(int):
    """The number of a node that stands earlier in the list."""


Packed = list[tuple[type[Node], tuple[Any, ...]]]


def pack(root: Expr) -> Packed:
    order = postorder(root)
    number = {node: Ref(position) for position, node in enumerate(order)}

    def flat(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(flat(item) for item in value)
        return number[value] if isinstance(value, Node) else value  # type: ignore[index]  # below the root

    return [(type(node), tuple(flat(getattr(node, field.name)) for field in fields(node))) for node in order]


def unpack(packed: Packed) -> Expr:
    """The same nodes again: equal structure is one object."""
    made: list[Any] = []

    def whole(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(whole(item) for item in value)
        return made[value] if isinstance(value, Ref) else value

    for kind, parts in packed:
        made.append(make(kind, *(whole(part) for part in parts)))
    root: Expr = made[-1]
    return root
