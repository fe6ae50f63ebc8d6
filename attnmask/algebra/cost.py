"""What a predicate costs: operations per element of the generated `mask_mod`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import assert_never

from attnmask.ir.index import split_coefficient
from attnmask.ir.nodes import (
    Abs,
    Add,
    And,
    BitOp,
    BoolTable,
    Choice,
    Compare,
    Const,
    FloorDiv,
    Index,
    Max,
    Min,
    Mod,
    Mul,
    Not,
    Or,
    Predicate,
    Table,
    Truth,
    Var,
    Where,
    Xor,
)
from attnmask.ir.walk import children

Part = Index | Predicate


def operations(root: Part) -> int:
    """Operations on tensors for one element, each distinct part counted once.

    The generated source works a part out once where it is used often, but for the shallowest (`q - k`,
    `doc[q]`, `q < k`), which it writes out again, as it does with x where several sums subtract x; a compiler
    finds these, and so does this count.
    """
    seen = {root}
    stack = [root]
    total = 0
    while stack:
        node = stack.pop()
        total += own_operations(node)
        for part in operands(node):
            if part not in seen:
                seen.add(part)
                stack.append(part)
    return total


def own_operations(node: Part) -> int:
    """The operations of one node on its `operands`."""
    match node:
        case Const() | Var() | Truth():
            return 0
        case Add(terms):
            return len(terms) - 1 + _opens_with_minus(terms)
        case Mul((Const(-1), _)):
            return 1  # a minus sign, where there is no sum that it could be a subtraction of
        case Mul(parts) | Min(parts) | Max(parts) | And(parts) | Or(parts):
            return len(parts) - 1
        case Table(_, indices) | BoolTable(_, indices):
            return 1 if indices else 0
        case FloorDiv() | Mod() | Abs() | BitOp() | Where() | Compare() | Xor() | Not():
            return 1
        case Choice():
            return 1  # an entry of what was chosen
        case _:
            assert_never(node)


def operands(node: Part) -> Iterable[Part]:
    """The parts that the operations of a node are applied to: its children, past the minus signs of a sum."""
    if isinstance(node, Add):
        return _subtracted(node.terms)
    return children(node)  # type: ignore[return-value]  # neither indices nor predicates contain scores


def _subtracted(terms: tuple[Index, ...]) -> Iterator[Index]:
    for term in terms:
        yield _positive(term) or term


def _positive(term: Index) -> Index | None:
    """x of -x."""
    match term:
        case Mul((Const(-1), base)):
            return base
    return None


def _opens_with_minus(terms: tuple[Index, ...]) -> bool:
    """A sum is written with its positive terms first; without any, a minus sign may come first."""
    return all(split_coefficient(term)[0] < 0 for term in terms) and _positive(terms[0]) is not None
