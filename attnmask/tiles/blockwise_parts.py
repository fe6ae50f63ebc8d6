"""What a predicate over tiles is worked out from: which parts of a mask are bounded, and which looked at."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

from attnmask.ir import index, predicate
from attnmask.ir.index import const
from attnmask.ir.nodes import (
    Add,
    And,
    BoolTable,
    Compare,
    Const,
    Expr,
    FloorDiv,
    Index,
    Mul,
    Not,
    Or,
    Var,
    Xor,
)
from attnmask.ir.walk import children, postorder
from attnmask.tiles.blockwise_tables import Axis


class Parts:
    """Answers about the expressions of one mask, each worked out once."""

    def __init__(self) -> None:
        self.sides: dict[Expr, str] = {}
        self.steady: dict[Index, bool] = {}

    def side(self, node: Expr) -> str:
        """Which of q and k the expression depends on, whatever else it depends on: "", "q", "k" or "qk"."""
        if node not in self.sides:
            for part in postorder(node):
                below = {name for child in children(part) for name in self.sides[child]}
                if isinstance(part, Var):
                    below = {part.name}
                self.sides[part] = "".join(name for name in "qk" if name in below)
        return self.sides[node]

    def of(self, node: Expr) -> tuple[Expr, ...]:
        """The expressions that `node` is worked out from; none where it is known on a tile as a whole."""
        if not self.side(node) or self.reduced_along(node):
            return ()
        match node:
            case Add(terms):
                return self.grouped(terms, index.add)
            case And(args):
                return self.grouped(args, predicate.and_)
            case Or(args):
                return self.grouped(args, predicate.or_)
            case Mul((Const(), *rest)):
                return (index.mul(*rest),)
            case Compare():
                return self.compared(node)
        return children(node)

    def grouped(self, parts: Sequence[Expr], join: Callable[..., Expr]) -> tuple[Expr, ...]:
        """The parts, with those on q alone joined into one, and those on k alone into another."""
        one_sided = [[part for part in parts if self.side(part) == side] for side in ("q", "k")]
        joined = [join(*group) for group in one_sided if group]
        return *joined, *(part for part in parts if self.side(part) not in ("q", "k"))

    def compared(self, node: Compare) -> tuple[Index, Index]:
        """The two sides; or their difference and 0, where both depend on q or both on k."""
        if set(self.side(node.lhs)) & set(self.side(node.rhs)):
            return index.sub(node.lhs, node.rhs), const(0)
        return node.lhs, node.rhs

    def reduced_along(self, node: Expr) -> Axis | None:
        """The axis along which a value is looked at position by position, for lack of anything simpler."""
        side = self.side(node)
        if side != "q" and side != "k":
            return None
        match node:
            case Not():
                known = True
            case And(args) | Or(args):
                known = any(self.side(arg) != side for arg in args)
            case Compare(_, "<" | "<=", _):
                known = all(self.is_steady(part) for part in self.compared(node))
            case Compare() | BoolTable() | Xor():
                known = False
            case _:
                known = self.is_steady(cast(Index, node))
        return None if known else cast(Axis, side)

    def is_steady(self, node: Index) -> bool:
        """Whether the value goes one way along an axis, and its ends are those at the ends of the tile."""
        for part in postorder(node):
            if isinstance(part, Index) and part not in self.steady:
                self.steady[part] = self._is_steady(part)
        return self.steady[node]

    def _is_steady(self, node: Index) -> bool:
        match node:
            case Var():
                return True
            case Mul((Const(), base)):
                return self.steady[base]
            case FloorDiv(lhs, Const(divisor)) if divisor > 0:
                return self.steady[lhs]
            case Add(terms):
                varying = [term for term in terms if self.side(term)]
                return not varying or (len(varying) == 1 and self.steady[varying[0]])
        return not self.side(node)
