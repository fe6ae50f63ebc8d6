"""Laws of comparisons that stand beside one another and bound the same sum."""

from __future__ import annotations

from collections.abc import Iterator

from attnmask.algebra.laws.known import Key, Known, turned
from attnmask.algebra.laws.rule import Rule
from attnmask.algebra.laws.spelling import exclude_each_other, exclusive, merged
from attnmask.ir.nodes import And, Compare, Or, Predicate, Xor
from attnmask.ir.predicate import FALSE, TRUE, and_, not_, or_

# Comparisons of one sum that are looked at together.
_MOST_BOUNDS = 16


def opposite_bounds(node: And | Or, known: Known) -> Predicate | None:
    """Bounds that exclude each other, or of which one always holds."""
    for group in _groups(node, known):
        if exclude_each_other(group, known):
            return FALSE if isinstance(node, And) else TRUE
    return None


def merged_bounds(node: And | Or, known: Known) -> Predicate | None:
    """Bounds on the same sum as the lightest ones with the same meaning."""
    conjunction = isinstance(node, And)
    args: dict[Predicate, list[Predicate]] = {}
    for group in _groups(node, known):
        found = merged(group, known)
        if found == group:
            continue
        first, *others = (each if conjunction else not_(each) for each in group)
        args[first] = [each if conjunction else not_(each) for each in found]
        args.update((other, []) for other in others)
    if not args:
        return None
    parts = [part for arg in node.args for part in args.get(arg, [arg])]
    return and_(*parts) if conjunction else or_(*parts)


def exclusive_bounds(node: Xor, known: Known) -> Predicate | None:
    match node:
        case Xor(Compare() as one, Compare() as other):
            key = known.region(one).key
            if known.region(other).key in (key, turned(key)):
                return exclusive((one, other), known)
    return None


def _groups(node: And | Or, known: Known) -> Iterator[list[Compare]]:
    """Comparisons of one sum, those of a disjunction negated: it is a negated conjunction of these."""
    groups: dict[Key, list[Compare]] = {}
    for arg in node.args:
        if isinstance(arg, Compare):
            key = known.region(arg).key
            groups.setdefault(turned(key) if turned(key) in groups else key, []).append(arg)
    for group in groups.values():
        if 1 < len(group) <= _MOST_BOUNDS:
            facing = [arg if isinstance(node, And) else not_(arg) for arg in group]
            yield [arg for arg in facing if isinstance(arg, Compare)]


BOUNDS = (
    Rule("opposite bounds", (And, Or), opposite_bounds),  # x < 3 & x > 5 -> none;  x < 5 | x > 3 -> all
    Rule("merged bounds", (And, Or), merged_bounds),  # x < 5 & x < 9 -> x < 5;  x <= c & x >= c -> x == c
    Rule("exclusive bounds", (Xor,), exclusive_bounds),  # x <= c ^ x == c -> x < c
)
