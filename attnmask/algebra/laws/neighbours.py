"""What operands say of what stands deeper in their neighbours."""

from __future__ import annotations

from attnmask.algebra.laws.known import Key, Known
from attnmask.algebra.laws.ranges import EVERY, Ranges, intersection, mirrored
from attnmask.algebra.laws.rule import Rule
from attnmask.algebra.laws.spelling import narrowed
from attnmask.ir.nodes import And, Compare, Not, Or, Predicate, Xor
from attnmask.ir.predicate import FALSE, TRUE, and_, not_, or_, xor

# How deep, and at how many parts of each operand, neighbours are looked for.
_DEEPEST = 8
_MOST_PARTS = 64


class _Around:
    """What holds wherever an operand matters: the other operands of a conjunction."""

    def __init__(self, known: Known) -> None:
        self.known = known
        self.certain: set[Predicate] = set()
        self.values: dict[Key, Ranges] = {}
        self.left = 0

    def assume(self, predicate: Predicate) -> None:
        self.certain.add(predicate)
        if isinstance(predicate, Compare):
            region = self.known.region(predicate)
            turned = frozenset((base, -factor) for base, factor in region.key)
            key, values = (
                (turned, mirrored(region.values)) if turned in self.values else (region.key, region.values)
            )
            self.values[key] = intersection(self.values.get(key, EVERY), values)

    def allowed(self, node: Compare) -> Ranges | None:
        key = self.known.region(node).key
        if key in self.values:
            return self.values[key]
        turned = frozenset((base, -factor) for base, factor in key)
        return mirrored(self.values[turned]) if turned in self.values else None

    def simpler(self, node: Predicate, depth: int) -> Predicate:
        if node in self.certain:
            return TRUE
        if not_(node) in self.certain:
            return FALSE
        self.left -= 1
        if depth == 0 or self.left < 0:
            return node
        match node:
            case Compare():
                allowed = self.allowed(node)
                return node if allowed is None else narrowed(node, allowed, self.known)
            case _:
                return self.inside(node, depth)

    def inside(self, node: Predicate, depth: int) -> Predicate:
        match node:
            case And(args):
                return and_(*(self.simpler(arg, depth - 1) for arg in args))
            case Or(args):
                return or_(*(self.simpler(arg, depth - 1) for arg in args))
            case Xor(lhs, rhs):
                return xor(self.simpler(lhs, depth - 1), self.simpler(rhs, depth - 1))
            case Not(arg):
                return not_(self.simpler(arg, depth - 1))
        return node


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
            fact = arg if conjunction else not_(arg)
            around.certain.discard(fact)
            arg = around.inside(arg, _DEEPEST)
            around.certain.add(arg if conjunction else not_(arg))
        args.append(arg)
    return and_(*args) if conjunction else or_(*args)


NEIGHBOURS = (
    Rule("settled by a neighbour", (And, Or), settled_by_neighbours),  # x < 5 & (x < 9 | B) -> x < 5
)
