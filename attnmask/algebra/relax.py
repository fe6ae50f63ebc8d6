"""Masks without their opaque parts: supersets and subsets that are cheap to reason about."""

from __future__ import annotations

from attnmask.algebra.atoms import atoms
from attnmask.ir.nodes import And, Not, Or, Predicate, Xor
from attnmask.ir.predicate import and_, not_, or_, truth, xor


def relaxed(root: Predicate, *, upward: bool) -> Predicate:
    """A predicate without opaque atoms that is true wherever `root` is (upward), or only where `root` is.

    What contains an atom is taken as true or as false, whichever errs on the side that is asked for.
    """
    opaque: dict[Predicate, bool] = {}
    done: dict[tuple[Predicate, bool], Predicate] = {}
    stack = [(root, upward)]
    while stack:
        node, up = stack[-1]
        parts = _parts(node, up)
        missing = [part for part in parts if part not in done]
        if missing:
            stack += missing
            continue
        stack.pop()
        if (node, up) in done:
            continue
        inner = [done[part] for part in parts]
        match node:
            case And():
                done[node, up] = and_(*inner)
            case Or():
                done[node, up] = or_(*inner)
            case Not():
                done[node, up] = not_(inner[0])
            case Xor():
                done[node, up] = _xor(inner, up)
            case _:
                if node not in opaque:
                    opaque[node] = bool(atoms((node,)))
                done[node, up] = truth(up) if opaque[node] else node
    return done[root, upward]


def _xor(sides: list[Predicate], up: bool) -> Predicate:
    """Exactly one side true, from a superset and a subset of each: some may be and some may not be."""
    most, least, other_most, other_least = sides
    if most is least and other_most is other_least:
        return xor(most, other_most)
    if up:
        return or_(and_(most, not_(other_least)), and_(other_most, not_(least)))
    return or_(and_(least, not_(other_most)), and_(other_least, not_(most)))


def _parts(node: Predicate, up: bool) -> list[tuple[Predicate, bool]]:
    match node:
        case And(args) | Or(args):
            return [(arg, up) for arg in args]
        case Not(arg):
            return [(arg, not up)]
        case Xor(lhs, rhs):
            return [(lhs, True), (lhs, False), (rhs, True), (rhs, False)]
    return []
