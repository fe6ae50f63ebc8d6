"""Terms in their context: what is certain where a term matters is left out, what is cheaper there is put in.

The context of a term of a conjunction is where all its other terms hold; of a disjunction, where none does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import islpy as isl

from attnmask.algebra.cost import operations
from attnmask.algebra.from_sets import to_predicate
from attnmask.algebra.laws import rewrite
from attnmask.algebra.presburger import Sets, fewer_parts
from attnmask.ir.index import neg
from attnmask.ir.nodes import (
    Abs,
    And,
    BoolTable,
    Compare,
    Const,
    Expr,
    Index,
    Max,
    Min,
    Mod,
    Not,
    Or,
    Predicate,
    Table,
    Where,
    Xor,
)
from attnmask.ir.predicate import FALSE, TRUE, and_, not_, or_, xor
from attnmask.ir.walk import postorder, substitute

Note = Callable[[str, Predicate, Predicate], None]
_DEEPEST = 40
_SMALL = 1 << 10


class Pruner:
    """Simplifies predicates by what holds around them; `note` is told each change: rule, before, after."""

    def __init__(self, sets: Sets, note: Note) -> None:
        self.sets = sets
        self.note = note

    def prune(self, node: Predicate, care: isl.Set, depth: int = 0) -> Predicate:
        """A predicate that is true at the same places of `care`, no costlier."""
        if depth > _DEEPEST or node in (TRUE, FALSE):
            return node
        inside = care.intersect(self.sets.of(node))
        if inside.is_empty():
            return self.changed("never true here", node, FALSE)
        if care.is_subset(inside):
            return self.changed("always true here", node, TRUE)
        match node:
            case And(args):
                return self.terms(node, args, care, depth, True)
            case Or(args):
                return self.terms(node, args, care, depth, False)
            case Not(arg):
                return not_(self.prune(arg, care, depth + 1))
            case Xor(lhs, rhs):
                return xor(self.prune(lhs, care, depth + 1), self.prune(rhs, care, depth + 1))
            case Compare():
                return self.comparison(node, care)
        return node

    def changed(self, rule: str, before: Predicate, after: Predicate) -> Predicate:
        self.note(rule, before, after)
        return after

    def terms(
        self, node: Predicate, args: tuple[Predicate, ...], care: isl.Set, depth: int, conjunction: bool
    ) -> Predicate:
        """The costliest terms are tried first: of two that make each other needless, the cheaper one stays."""
        law = and_ if conjunction else or_
        kept = dict(enumerate(args))
        for place in sorted(kept, key=lambda at: -operations(args[at])):
            context = care
            for other, term in kept.items():
                if other != place:
                    context = fewer_parts(context.intersect(self.sets.of(term, conjunction)))
            kept[place] = self.prune(kept[place], context, depth + 1)
        result = law(*kept.values())
        return self.merged(result, care) if isinstance(result, And | Or) else result

    def merged(self, node: Predicate, care: isl.Set) -> Predicate:
        """The node written anew from its set, or from that of its negation, where that is cheaper."""
        best = node
        for truth in (True, False):
            found = to_predicate(self.sets, care.intersect(self.sets.of(node, truth)).gist(care))
            if found is None:
                continue
            found = rewrite(found if truth else not_(found))
            # Much larger constants than the mask has could take integers of 64 bits where 32 were enough.
            if operations(found) < operations(best) and _largest(found) <= max(_largest(node), _SMALL):
                best = found
        return best if best is node else self.changed("merged", node, best)

    def comparison(self, node: Compare, care: isl.Set) -> Predicate:
        """The comparison with one of its abs, min, max, where or % left out, where that makes no difference."""
        for shorter in _shorter(node):
            # What may fail (an index, a divisor) stays as it is: it is evaluated outside of this context too.
            known = _entries(shorter) <= _entries(node) and self.sets.covers(shorter)
            if known and operations(shorter) < operations(node) and self.same(node, shorter, care):
                result = self.prune(shorter, care)
                return self.changed("simpler here", node, result)
        return node

    def same(self, one: Predicate, other: Predicate, care: isl.Set) -> bool:
        sets = self.sets
        return all(
            care.intersect(sets.of(one, truth)).intersect(sets.of(other, not truth)).is_empty()
            for truth in (True, False)
        )


def _shorter(node: Compare) -> Iterator[Predicate]:
    """Comparisons with one operation replaced by one of its operands."""
    for part in postorder(node):
        choices: tuple[Index, ...]
        match part:
            case Abs(arg):
                choices = (arg, neg(arg))
            case Min(args) | Max(args):
                choices = args
            case Mod(lhs, _):
                choices = (lhs,)
            case Where(_, then, other):
                choices = (then, other)
            case _:
                continue
        for choice in choices:
            yield substitute(node, dict[Expr, Expr]({part: choice}))


def _entries(root: Predicate) -> frozenset[Expr]:
    return frozenset(node for node in postorder(root) if isinstance(node, Table | BoolTable))


def _largest(root: Predicate) -> int:
    return max((abs(node.value) for node in postorder(root) if isinstance(node, Const)), default=0)
