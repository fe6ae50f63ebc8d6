"""What follows from and, or, not and xor alone, whatever the comparisons say: by truth tables."""

from __future__ import annotations

from functools import reduce
from operator import and_, or_

from attnmask.ir.nodes import And, BoolTable, Choice, Compare, Expr, Not, Or, Predicate, Truth, Xor
from attnmask.ir.predicate import not_
from attnmask.ir.walk import postorder

# A table has a bit for each way that the literals may fall out.
_MOST_LITERALS = 12


def never(root: Predicate) -> bool:
    """Whether the predicate is false whatever truth its comparisons and table entries have."""
    nodes = [node for node in postorder(root) if isinstance(node, Predicate)]
    literals = {_literal(node) for node in nodes if isinstance(node, Compare | BoolTable)}
    if len(literals) > _MOST_LITERALS:
        return False
    width = 1 << len(literals)
    every = (1 << width) - 1
    known: dict[Expr, int] = {
        literal: _column(number, width) for number, literal in enumerate(sorted(literals, key=id))
    }
    for node in nodes:
        known[node] = _table(node, known, every)
    return known[root] == 0


def _literal(node: Compare | BoolTable) -> Predicate:
    """A comparison or its complement, whichever is written with < or ==."""
    return not_(node) if isinstance(node, Compare) and node.op in ("<=", "!=") else node


def _column(number: int, width: int) -> int:
    """The bits of a literal: runs of 2**number zeros and as many ones, in turn."""
    run = 1 << number
    ones = (1 << run) - 1 << run
    return reduce(or_, (ones << at for at in range(0, width, 2 * run)))


def _table(node: Predicate, known: dict[Expr, int], every: int) -> int:
    match node:
        case Truth(value):
            return every if value else 0
        case And(args):
            return reduce(and_, (known[arg] for arg in args))
        case Or(args):
            return reduce(or_, (known[arg] for arg in args))
        case Xor(lhs, rhs):
            return known[lhs] ^ known[rhs]
        case Not(arg):
            return every ^ known[arg]
        case Compare() | BoolTable():
            literal = _literal(node)
            return known[literal] if literal is node else every ^ known[literal]
        case Choice():
            raise AssertionError("choices are made opaque beforehand")
