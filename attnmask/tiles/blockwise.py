"""A mask at block level: where tiles are certainly empty and certainly full, as predicates over tile numbers.

For tables that nobody can look at on the host. The predicates are sound and need not be exact: where neither
holds, the tile may be anything, and `mask_mod` decides there. `classify` is the exact counterpart.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from itertools import product
from typing import assert_never, cast

from attnmask.errors import MaskError
from attnmask.ir import index, predicate
from attnmask.ir.domain import Domain
from attnmask.ir.index import const, var
from attnmask.ir.nodes import (
    Abs,
    Add,
    And,
    BitOp,
    BoolTable,
    Choice,
    Compare,
    Const,
    Expr,
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
from attnmask.ir.walk import table_names
from attnmask.tiles import blockwise_bounds as bounds
from attnmask.tiles.blockwise_bounds import UNDECIDED, Ends, Verdict, exactly
from attnmask.tiles.blockwise_parts import Parts
from attnmask.tiles.blockwise_tables import Axis, BlockTable, Derived, DerivedTables, TableExtreme


@dataclass(frozen=True, slots=True)
class Tiling:
    """What predicates over tiles depend on besides the mask. Lengths matter by whether the last tile is ragged."""

    block_q: int
    block_k: int
    ragged_q: bool = False
    ragged_k: bool = False
    offset: bool = False

    @classmethod
    def of(cls, domain: Domain, block: tuple[int, int]) -> Tiling:
        ragged_q, ragged_k = domain.q_len % block[0] != 0, domain.kv_len % block[1] != 0
        return cls(*block, ragged_q, ragged_k, domain.q_offset != 0)


@dataclass(frozen=True, slots=True)
class Blockwise:
    """`never` and `full` over tiles: in them q and k are the numbers of a tile's row and column.

    b, h and the sizes Q, K, B, H keep their meaning. Besides the mask's own tables the predicates read `derived`
    ones and, where there is one, the query offset, by the name `offset`. These have no indices: their values
    broadcast with the variables. A tile that reaches past the end of either axis is never full, as in torch.
    """

    never: Predicate
    full: Predicate
    derived: tuple[tuple[str, Derived], ...]
    offset: str | None


@lru_cache(maxsize=256)
def blockwise(root: Predicate, tiling: Tiling) -> Blockwise:
    """The predicates over tiles of a mask whose tables have as many dimensions as their uses have indices.

    They are sound where `check` would have nothing to say if it knew the tables: above all, no integer of the
    mask and no difference of the two sides of a comparison overflows. Indices that come from tables may be out
    of range, where torch's own meaning of them is kept.
    """
    writer = _Writer(table_names(root), tiling)
    verdict = writer.verdict(writer.tables.guarded(root))
    full = predicate.and_(verdict.always, *writer.inside())
    derived = tuple((name, derived) for derived, name in writer.tables.names.items())
    return Blockwise(verdict.never, full, derived, writer.offset)


class _Writer:
    """Writes the ends of integers and the verdicts of predicates, parts before wholes, each once."""

    def __init__(self, names: tuple[str, ...], tiling: Tiling) -> None:
        self.tiling = tiling
        self.tables = DerivedTables(names)
        self.offset = self.tables.fresh("offset") if tiling.offset else None
        self.parts = Parts()
        self.ends: dict[Index, Ends | None] = {}  # None: nothing is known
        self.verdicts: dict[Predicate, Verdict] = {}

    def verdict(self, root: Predicate) -> Verdict:
        stack: list[tuple[Expr, bool]] = [(root, False)]
        while stack:
            node, expanded = stack.pop()
            if node in self.ends or node in self.verdicts:
                continue
            if not expanded:
                stack.append((node, True))
                stack.extend((part, False) for part in self.parts.of(node))
            elif isinstance(node, Index):
                self.ends[node] = self.ends_of(node)
            else:
                self.verdicts[cast(Predicate, node)] = self.verdict_of(cast(Predicate, node))
        return self.verdicts[root]

    # ---- positions -----------------------------------------------------------------------------------

    def positions(self, axis: Axis) -> Ends:
        """The first and the last position of a tile."""
        tiling = self.tiling
        block = tiling.block_q if axis == "q" else tiling.block_k
        first = index.mul(const(block), var(axis))
        last = index.add(first, const(block - 1))
        if tiling.ragged_q if axis == "q" else tiling.ragged_k:
            last = index.minimum(last, index.add(var("Q" if axis == "q" else "K"), const(-1)))
        if axis == "k" or self.offset is None:
            return Ends(first, last)
        return bounds.total([Ends(first, last), exactly(index.table(self.offset, ()))])

    def inside(self) -> list[Predicate]:
        """What holds for tiles that do not reach past the end, where some do."""
        tiling = self.tiling
        rows = index.floordiv(var("Q"), const(tiling.block_q))
        columns = index.floordiv(var("K"), const(tiling.block_k))
        ragged = [(var("q"), rows)] * tiling.ragged_q + [(var("k"), columns)] * tiling.ragged_k
        return [predicate.compare(number, "<", count) for number, count in ragged]

    # ---- verdicts ------------------------------------------------------------------------------------

    def verdict_of(self, node: Predicate) -> Verdict:
        if not self.parts.side(node):
            return Verdict(predicate.not_(node), node)
        if axis := self.parts.reduced_along(node):
            some, every = (self.tables.truth(BlockTable(node, axis, how)) for how in ("any", "all"))
            return Verdict(predicate.not_(some), every)
        try:
            return self._verdict(node)
        except MaskError:  # the expression would outgrow what the IR can hold
            return UNDECIDED

    def _verdict(self, node: Predicate) -> Verdict:
        match node:
            case Not(arg):
                return bounds.swapped(self.verdicts[arg])
            case And():
                return bounds.conjunction(self._verdicts(node))
            case Or():
                return bounds.disjunction(self._verdicts(node))
            case Xor(lhs, rhs):
                return bounds.exclusive(self.verdicts[lhs], self.verdicts[rhs])
            case Compare(_, op, _):
                left, right = (self.ends[part] for part in self.parts.compared(node))
                return UNDECIDED if left is None or right is None else bounds.compared(left, op, right)
            case BoolTable(name, indices):
                decided, corners = self.entries(name, indices)
                entries = [predicate.bool_table(name, corner) for corner in corners]
                never, always = predicate.not_(predicate.or_(*entries)), predicate.and_(*entries)
                return Verdict(predicate.and_(decided, never), predicate.and_(decided, always))
            case Choice():
                raise AssertionError("choices are given their meaning beforehand")
            case Truth():
                raise AssertionError(node)
            case _:
                assert_never(node)

    def _verdicts(self, node: Predicate) -> list[Verdict]:
        return [self.verdicts[cast(Predicate, part)] for part in self.parts.of(node)]

    # ---- ends ----------------------------------------------------------------------------------------

    def ends_of(self, node: Index) -> Ends | None:
        if not self.parts.side(node):
            return exactly(node)
        if axis := self.parts.reduced_along(node):
            return Ends(*(self.tables.number(BlockTable(node, axis, how)) for how in ("min", "max")))
        parts = [self.ends[part] for part in self.parts.of(node) if isinstance(part, Index)]
        known = [part for part in parts if part is not None]
        try:
            if isinstance(node, Table):
                return self._table(node)
            return self._ends(node, known) if len(known) == len(parts) else None
        except MaskError:
            return None

    def _ends(self, node: Index, parts: list[Ends]) -> Ends:
        match node:
            case Var(name):
                return self.positions("q" if name == "q" else "k")
            case Add():
                return bounds.total(parts)
            case Mul((Const(factor), *_)):
                return bounds.scaled(parts[0], factor)
            case Mul((first, second)) if first is second:
                return bounds.squared(parts[0])
            case Mul():
                return reduce(bounds.product, parts)
            case FloorDiv(_, divisor):
                varies = self.parts.side(divisor)
                return bounds.varying_quotient(parts[0]) if varies else bounds.quotient(parts[0], divisor)
            case Mod(_, divisor):
                varies = self.parts.side(divisor)
                return bounds.varying_remainder(parts[1]) if varies else bounds.remainder(parts[0], divisor)
            case Min():
                return bounds.extreme(index.minimum, parts)
            case Max():
                return bounds.extreme(index.maximum, parts)
            case Abs():
                return bounds.absolute(parts[0])
            case BitOp(op):
                return bounds.bits(op, *parts)
            case Where(condition):
                return bounds.chosen(self.verdicts[condition], *parts)
            case Const() | Table():
                raise AssertionError(node)
            case _:
                assert_never(node)

    # ---- tables over pairs ---------------------------------------------------------------------------

    def _table(self, node: Table) -> Ends:
        decided, corners = self.entries(node.name, node.indices)
        entries = [index.table(node.name, corner) for corner in corners]
        low, high = index.minimum(*entries), index.maximum(*entries)
        if decided is predicate.TRUE:
            return Ends(low, high)
        least, most = (self.tables.number(TableExtreme(node.name, how)) for how in ("min", "max"))
        return Ends(predicate.where(decided, low, least), predicate.where(decided, high, most))

    def entries(self, name: str, indices: Sequence[Index]) -> tuple[Predicate, list[tuple[Index, ...]]]:
        """Entries at the ends of the indices, and where these are all that the indices can reach on a tile.

        That is where no index takes more than two values, neighbours; with more than two indices that vary, one.
        """
        conditions: list[Predicate] = []
        reached: list[tuple[Index, ...]] = []
        varying = [item for item in indices if self.parts.side(item)]
        for dimension, item in enumerate(indices):
            ends = self.ends[item]
            if ends is None:
                return predicate.FALSE, [tuple(const(0) for _ in indices)]
            last = self.tables.last(name, dimension) if self._may_leave(item) else None
            if last is not None:
                conditions += [
                    predicate.compare(const(0), "<=", ends.low),
                    predicate.compare(ends.high, "<=", last),
                ]
            values = (ends.low, ends.high)[: 1 if ends.low is ends.high or len(varying) > 2 else 2]
            most = const(len(values) - 1)
            conditions.append(predicate.compare(index.sub(ends.high, ends.low), "<=", most))
            reached.append(tuple(_held(value, last) for value in values))
        return predicate.and_(*conditions), list(product(*reached))

    def _may_leave(self, item: Index) -> bool:
        """Whether the ends of an index may be out of range.

        One that depends on neither q or k, or on one of them, reaches its ends; without tables it is in range.
        """
        side = self.parts.side(item)
        return bool(side) and (side == "qk" or bool(table_names(item)))


def _held(value: Index, last: Index | None) -> Index:
    return value if last is None else index.maximum(index.minimum(value, last), const(0))
