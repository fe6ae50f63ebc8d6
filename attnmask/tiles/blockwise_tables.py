"""Tables that predicates over tiles read besides the mask's own: reductions by block, sizes, extremes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from attnmask.ir import index, predicate
from attnmask.ir.index import const
from attnmask.ir.nodes import BoolTable, Const, Expr, Index, Predicate, Table
from attnmask.ir.walk import table_names, transform

Axis = Literal["q", "k"]
Extreme = Literal["min", "max"]
Reduction = Literal["min", "max", "any", "all"]


@dataclass(frozen=True, slots=True)
class BlockTable:
    """`root`, which depends on one of q and k, reduced over each block of positions of that axis.

    It broadcasts to [B, H, rows, columns]: [.., .., rows, 1] along q and [.., .., 1, columns] along k. The root
    reads tables of the mask and sizes of these.
    """

    root: Index | Predicate
    axis: Axis
    reduction: Reduction


@dataclass(frozen=True, slots=True)
class TableSize:
    """The number of entries of a table along one of its dimensions."""

    table: str
    dimension: int


@dataclass(frozen=True, slots=True)
class TableExtreme:
    """The least or the largest entry of a whole table."""

    table: str
    reduction: Extreme


Derived = BlockTable | TableSize | TableExtreme


class DerivedTables:
    """Derived tables as they come to be needed, under names that the mask's own tables do not have."""

    def __init__(self, taken: tuple[str, ...]) -> None:
        self.taken = set(taken)
        self.names: dict[Derived, str] = {}

    def fresh(self, name: str) -> str:
        while name in self.taken:
            name += "_"
        self.taken.add(name)
        return name

    def number(self, derived: Derived) -> Index:
        return index.table(self._name(derived), ())

    def truth(self, derived: BlockTable) -> Predicate:
        return predicate.bool_table(self._name(derived), ())

    def _name(self, derived: Derived) -> str:
        if derived not in self.names:
            kind = "size" if isinstance(derived, TableSize) else derived.reduction
            self.names[derived] = self.fresh(f"{kind}{len(self.names)}")
        return self.names[derived]

    def last(self, table: str, dimension: int) -> Index:
        """The largest index along a dimension."""
        return index.add(self.number(TableSize(table, dimension)), const(-1))

    def guarded(self, root: Predicate) -> Predicate:
        """`root` with indices that come from tables held in reach, for these cannot be checked beforehand.

        Below zero the reach ends at -size: to torch, and so to `mask_mod`, negative indices count from the end.
        Where all indices are constant they are held too, and so become tensors.
        """

        def change(node: Expr) -> Expr:
            if not isinstance(node, Table | BoolTable):
                return node
            constant = all(isinstance(item, Const) for item in node.indices)
            held = [
                self._held(item, self.last(node.name, dimension)) if constant or table_names(item) else item
                for dimension, item in enumerate(node.indices)
            ]
            return (index.table if isinstance(node, Table) else predicate.bool_table)(node.name, held)

        return transform(root, change)

    @staticmethod
    def _held(item: Index, last: Index) -> Index:
        return index.maximum(index.minimum(item, last), index.sub(const(-1), last))
