"""What operands say of what stands deeper in their neighbours."""

from __future__ import annotations

from collections import Counter
from typing import cast

from attnmask.algebra.laws.choices import by_cases
from attnmask.algebra.laws.known import Key, Known, turned
from attnmask.algebra.laws.logic import absorption, complement
from attnmask.algebra.laws.ranges import EVERY, Ranges, intersection, mirrored
from attnmask.algebra.laws.rule import Rule
from attnmask.algebra.laws.spelling import narrowed
from attnmask.ir.nodes import And, Compare, Not, Or, Predicate, Xor
from attnmask.ir.predicate import FALSE, TRUE, and_, not_, or_
from attnmask.ir.walk import children, rebuild

# How deep, and at how many parts of each operand, neighbours are looked for.
_DEEPEST = 8
_MOST_PARTS = 64
# Operands that are each held against all others.
_MOST_OPERANDS = 16
# Parts by which cases are told apart, and how deep they are looked for.
_MOST_CASES = 4
_DEEPEST_CASE = 4


class _Around:
    """What holds wherever an operand matters: the other operands of a conjunction."""

    def __init__(self, known: Known) -> None:
        self.known = known
        self.certain: set[Predicate] = set()
        self.impossible: set[Predicate] = set()
        self.values: dict[Key, Ranges] = {}
        self.left = _MOST_PARTS

    def assume(self, predicate: Predicate) -> None:
        self.certain.add(predicate)
        self.impossible.add(not_(predicate))
        if isinstance(predicate, Compare):
            region = self.known.region(predicate)
            key, values = region.key, region.values
            if turned(key) in self.values:
                key, values = turned(key), mirrored(values)
            self.values[key] = intersection(self.values.get(key, EVERY), values)

    def forget(self, predicate: Predicate) -> None:
        """Takes back what was assumed, which must be no comparison."""
        self.certain.discard(predicate)
        self.impossible.discard(not_(predicate))

    def allowed(self, node: Compare) -> Ranges | None:
        key = self.known.region(node).key
        if key in self.values:
            return self.values[key]
        return mirrored(self.values[turned(key)]) if turned(key) in self.values else None

    def simpler(self, node: Predicate, depth: int) -> Predicate:
        if node in self.certain:
            return TRUE
        if node in self.impossible:
            return FALSE
        self.left -= 1
        if depth == 0 or self.left < 0:
            return node
        if isinstance(node, Compare):
            allowed = self.allowed(node)
            return node if allowed is None else narrowed(node, allowed, self.known)
        return self.inside(node, depth)

    def inside(self, node: Predicate, depth: int) -> Predicate:
        if not isinstance(node, And | Or | Xor | Not):
            return node
        parts = cast("tuple[Predicate, ...]", children(node))
        simpler = [self.simpler(part, depth - 1) for part in parts]
        if all(one is other for one, other in zip(simpler, parts, strict=True)):
            return node
        return cast(Predicate, rebuild(node, simpler))


def settled_by_neighbours(node: And | Or, known: Known) -> Predicate | None:
    """Operands made simpler by taking the others to hold, or in a disjunction not to."""
    conjunction = isinstance(node, And)
    around = _Around(known)
    for arg in node.args:
        around.assume(arg if conjunction else not_(arg))
    args = []
    for arg in node.args:
        around.left = _MOST_PARTS
        if isinstance(arg, And | Or | Xor | Not):
            around.forget(arg if conjunction else not_(arg))
            arg = around.inside(arg, _DEEPEST)
            around.assume(arg if conjunction else not_(arg))
        args.append(arg)
    return and_(*args) if conjunction else or_(*args)


def implied_by_others(node: And | Or, known: Known) -> Predicate | None:
    """Without an operand that makes no difference: where a term of a disjunction holds, others do anyway."""
    if len(node.args) > _MOST_OPERANDS:
        return None
    conjunction = isinstance(node, And)
    law, decided = (and_, FALSE) if conjunction else (or_, TRUE)
    for arg in reversed(node.args):
        around = _Around(known)
        for part in _where_it_matters(arg, conjunction):
            around.assume(part)
        others = [other for other in node.args if other is not arg]
        if law(*(around.simpler(other, _DEEPEST) for other in others)) is decided:
            return law(*others)
    return None


def _where_it_matters(arg: Predicate, conjunction: bool) -> list[Predicate]:
    """What holds where a term of a disjunction does, or where one of a conjunction does not."""
    if not conjunction:
        return list(arg.args) if isinstance(arg, And) else [arg]
    return [not_(part) for part in arg.args] if isinstance(arg, Or) else [not_(arg)]


def told_apart(node: And | Or, known: Known) -> Predicate | None:
    """By whether a part holds: two cases, of which one may be settled."""
    best: Predicate = node
    for part in _repeated(node):
        cases = []
        for fact in (part, not_(part)):
            around = _Around(known)
            around.assume(fact)
            cases.append(_tidy(around.inside(node, _DEEPEST), known))
        found = by_cases(part, *cases)
        if known.weight(found) < known.weight(best):
            best = found
    return best


def _tidy(case: Predicate, known: Known) -> Predicate:
    for law in (absorption, complement):
        if isinstance(case, And | Or):
            case = law(case, known) or case
    return case


def _repeated(node: And | Or) -> list[Predicate]:
    """Leaves that occur more than once near the node, as themselves or as their complement; the most used first."""
    uses: Counter[Predicate] = Counter()
    below: list[Predicate] = list(node.args)
    for _ in range(_DEEPEST_CASE):
        parts = below[:_MOST_PARTS]
        below = []
        for part in parts:
            match part:
                case And(args) | Or(args):
                    below += args
                case Xor(lhs, rhs):
                    below += (lhs, rhs)
                case Not(arg):
                    below.append(arg)
                case _:
                    uses[not_(part) if not_(part) in uses else part] += 1
    return [part for part, count in uses.most_common(_MOST_CASES) if count > 1]


NEIGHBOURS = (
    Rule("settled by a neighbour", (And, Or), settled_by_neighbours),  # x < 5 & (x < 9 | B) -> x < 5
    Rule(
        "implied by the others", (And, Or), implied_by_others, thorough=True
    ),  # A & B | ~A & C | B & C -> A & B | ~A & C
)
CASES = (
    Rule("told apart", (And, Or), told_apart, thorough=True),  # A & B | ~A & (B | C) -> B | ~A & C
)
