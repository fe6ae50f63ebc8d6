"""By which steps a predicate is classified: leaves, each known as a whole, and the logic that joins them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import assert_never

from attnmask.ir import predicate
from attnmask.ir.nodes import And, BoolTable, Choice, Compare, Not, Or, Predicate, Truth, Xor
from attnmask.tiles.structure import Structure


@dataclass(frozen=True, slots=True, eq=False)
class Steps:
    """The predicates to classify, parts before wholes, and the parts of each; a leaf has none."""

    structure: Structure
    order: tuple[Predicate, ...]
    parts: dict[Predicate, tuple[Predicate, ...]]


@lru_cache(maxsize=512)
def steps(root: Predicate) -> Steps:
    """The steps for a predicate in q and k alone. They follow from the expression, whatever the lengths."""
    structure = Structure()
    parts: dict[Predicate, tuple[Predicate, ...]] = {}
    order: dict[Predicate, None] = {}
    stack = [(root, False)]
    while stack:
        node, expanded = stack.pop()
        if expanded:
            order[node] = None
        elif node not in order:
            parts[node] = _split(node, structure)
            stack.append((node, True))
            stack.extend((part, False) for part in parts[node])
    return Steps(structure, tuple(order), parts)


def _split(node: Predicate, structure: Structure) -> tuple[Predicate, ...]:
    if structure.side(node) != "qk" or structure.distance(node) is not None or structure.equations(node):
        return ()
    match node:
        case And(args):
            return _grouped(args, predicate.and_, structure)
        case Or(args):
            return _grouped(args, predicate.or_, structure)
        case Xor(lhs, rhs):
            return lhs, rhs
        case Not(arg):
            return (arg,)
        case Truth() | Compare() | BoolTable():
            return ()
        case Choice():
            raise AssertionError("choices are given their meaning beforehand")
        case _:
            assert_never(node)


def _grouped(
    args: Sequence[Predicate], join: Callable[..., Predicate], structure: Structure
) -> tuple[Predicate, ...]:
    """The arguments, with those that are known exactly when taken together joined into one.

    At most one part depends on q alone then, and one on k alone.
    """
    on_q: list[Predicate] = []
    on_k: list[Predicate] = []
    distances: list[Predicate] = []
    equations: list[Predicate] = []
    rest: list[Predicate] = []
    op = "==" if join is predicate.and_ else "!="
    counted = any(structure.distance(arg) is not None for arg in args)
    for arg in args:
        side = structure.side(arg)
        if side == "q" or side == "k":
            (on_q if side == "q" else on_k).append(arg)
        elif counted and structure.any_distance(arg) is not None:
            distances.append(arg)
        elif isinstance(arg, Compare) and arg.op == op and structure.equations(arg):
            equations.append(arg)
        else:
            rest.append(arg)
    return *(join(*group) for group in (on_q, on_k, distances, equations) if group), *rest
