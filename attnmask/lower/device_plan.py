"""The lists of a BlockMask as a function of tensors: fixed shapes, no value looked at, fit for torch.compile."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, assert_never, cast

import torch

from attnmask.ir.domain import Domain
from attnmask.ir.index import table
from attnmask.ir.nodes import Const, Expr, Index, Predicate, Where
from attnmask.ir.predicate import where
from attnmask.ir.walk import postorder, table_names, transform, variables
from attnmask.lower.block_mask import Lists, Pair
from attnmask.lower.functions import factory
from attnmask.lower.source import Source, values_source
from attnmask.tiles.blockwise import Blockwise, Tiling, blockwise
from attnmask.tiles.blockwise_tables import Axis, BlockTable, Reduction, TableExtreme, TableSize

Tensor = torch.Tensor
Tables = Mapping[str, Tensor]

_REDUCE: Mapping[Reduction, Callable[..., Tensor]] = {
    "min": torch.amin,
    "max": torch.amax,
    "any": torch.any,
    "all": torch.all,
}


@dataclass(frozen=True, slots=True)
class _Values:
    """Expressions as a generated function. `numbers` are constants that it takes as tables without indices."""

    roots: tuple[Index | Predicate, ...]
    source: Source
    numbers: tuple[tuple[str, int], ...]
    build: Callable[..., Any]

    def over(self, at: tuple[Tensor, ...], tables: Tables, sizes: Tables) -> dict[Index | Predicate, Tensor]:
        """The values of the roots at `at`, which are b, h, q and k."""
        known = {**tables, **{name: _number(value, at[0]) for name, value in self.numbers}}
        given = {parameter: known[name] for parameter, name in self.source.tables}
        values = self.build(**given, **{size: sizes[size] for size in self.source.sizes})(*at)
        return dict(zip(self.roots, values, strict=True))


def _values(roots: tuple[Index | Predicate, ...]) -> _Values:
    changed, numbers = _named_numbers(roots)
    source = values_source(changed)
    return _Values(roots, source, tuple(numbers.items()), factory(source))


def _named_numbers(
    roots: tuple[Index | Predicate, ...],
) -> tuple[tuple[Index | Predicate, ...], dict[str, int]]:
    """`roots` with names for the constants that a `where` chooses, and what these names stand for.

    On a device, torch.where copies a Python number over from the host, and waits for that.
    """
    taken = table_names(*roots)
    numbers: dict[str, int] = {}

    def named(node: Index) -> Index:
        if not isinstance(node, Const):
            return node
        name = f"minus{-node.value}" if node.value < 0 else f"number{node.value}"
        while name in taken:
            name += "_"
        numbers[name] = node.value
        return table(name, ())

    def change(node: Expr) -> Expr:
        if not isinstance(node, Where):
            return node
        return where(node.condition, named(node.then), named(node.other))

    return tuple(transform(cast(Predicate, root), change) for root in roots), numbers


@dataclass(frozen=True, slots=True)
class BlockPlan:
    """What is computed from the tables of a mask: `found` over tiles, and what that reads over positions.

    Integers are of `dtype`. `by_batch`, `by_head`: whether planes differ by them.
    """

    tiling: Tiling
    found: Blockwise
    tiles: _Values
    along: tuple[tuple[Axis, _Values], ...]
    by_batch: bool
    by_head: bool
    dtype: torch.dtype

    def lists(
        self,
        tables: Tables,
        offset: Tensor,
        domain: Domain,
        shape: tuple[int, int],
        separate_full_blocks: bool = True,
    ) -> Lists:
        """The lists for `shape`, (batch rows, heads).

        `offset` is the query offset as a tensor [1] of `dtype`, and stands in place of the domain's.
        """
        never, full = self.outcomes(tables, offset, domain)
        lengths, block = (domain.q_len, domain.kv_len), (self.tiling.block_q, self.tiling.block_k)
        if not separate_full_blocks:
            return Lists(lengths, block, ordered(~never, shape), None, ordered((~never).mT, shape), None)
        partial = ~(never | full)
        (kv, q), (full_kv, full_q) = (
            (ordered(kind, shape), ordered(kind.mT, shape)) for kind in (partial, full)
        )
        return Lists(lengths, block, kv, full_kv, q, full_q)

    def outcomes(self, tables: Tables, offset: Tensor, domain: Domain) -> tuple[Tensor, Tensor]:
        """Where tiles are certainly empty and where certainly full: bool [B or 1, H or 1, rows, columns]."""
        tiling = self.tiling
        rows, columns = -(-domain.q_len // tiling.block_q), -(-domain.kv_len // tiling.block_k)
        lengths = {"Q": domain.q_len, "K": domain.kv_len, "B": domain.batch, "H": domain.heads}
        sizes = {name: _number(length, offset) for name, length in lengths.items()}
        b = _range(domain.batch, offset)[:, None, None, None]
        h = _range(domain.heads, offset)[:, None, None]
        # Positions past the end repeat the last one, which changes no reduction of its block.
        q = _range(rows * tiling.block_q, offset).clamp(max=domain.q_len - 1)[:, None] + offset
        k = _range(columns * tiling.block_k, offset).clamp(max=domain.kv_len - 1)
        known = self._sized(tables, offset)
        known |= self._reduced((b, h, q, k), known, sizes, (rows, columns))
        at = b, h, _range(rows, offset)[:, None], _range(columns, offset)
        found = self.tiles.over(at, known, sizes)
        shape = (domain.batch if self.by_batch else 1, domain.heads if self.by_head else 1, rows, columns)
        return found[self.found.never].expand(shape), found[self.found.full].expand(shape)

    def _sized(self, tables: Tables, offset: Tensor) -> dict[str, Tensor]:
        """The mask's tables, their sizes, and the query offset."""
        known = {name: self._integers(table) for name, table in tables.items()}
        for name, derived in self.found.derived:
            if isinstance(derived, TableSize):
                known[name] = _number(tables[derived.table].shape[derived.dimension], offset)
        if self.found.offset is not None:
            known[self.found.offset] = offset
        return known

    def _integers(self, table: Tensor) -> Tensor:
        """A table in the integers computed with, a number as a table of one; truth values stay as they are."""
        wide = table if table.dtype == torch.bool else table.to(self.dtype)
        return wide if wide.ndim else wide[None]

    def _reduced(
        self, at: tuple[Tensor, ...], tables: Tables, sizes: Tables, blocks: tuple[int, int]
    ) -> dict[str, Tensor]:
        """What is reduced: expressions by blocks of positions, and tables as a whole."""
        values = {axis: roots.over(at, tables, sizes) for axis, roots in self.along}
        reduced: dict[str, Tensor] = {}
        for name, derived in self.found.derived:
            match derived:
                case BlockTable(root, axis, reduction):
                    number, dim = (blocks[0], -2) if axis == "q" else (blocks[1], -1)
                    parts = torch.unflatten(values[axis][root], dim, (number, -1))
                    reduced[name] = _REDUCE[reduction](parts, dim=dim)
                case TableExtreme(table, reduction):
                    reduced[name] = _REDUCE[reduction](tables[table])[None]
                case TableSize():
                    pass
                case _:
                    assert_never(derived)
        return reduced


@lru_cache(maxsize=256)
def block_plan(root: Predicate, tiling: Tiling, narrow: bool) -> BlockPlan:
    """The plan of a mask that fits its tables; `narrow`: 32-bit integers are enough for it."""
    found = blockwise(root, tiling)
    blocks = [derived for _, derived in found.derived if isinstance(derived, BlockTable)]
    along: list[tuple[Axis, _Values]] = []
    axes: tuple[Axis, ...] = ("q", "k")
    for axis in axes:
        if roots := tuple(dict.fromkeys(block.root for block in blocks if block.axis == axis)):
            along.append((axis, _values(roots)))
    # Bounds may hold larger numbers than the mask.
    numbers = [node.value for node in postorder(found.never, found.full) if isinstance(node, Const)]
    narrow = narrow and all(abs(value) < 2**31 for value in numbers)
    return BlockPlan(
        tiling,
        found,
        _values((found.never, found.full)),
        tuple(along),
        "b" in variables(root),
        "h" in variables(root),
        torch.int32 if narrow else torch.int64,
    )


def ordered(tiles: Tensor, shape: tuple[int, int]) -> Pair:
    """Counts and columns of the marked tiles of each row, ascending; after them the columns of the others.

    What a stable sort gives, from running sums: every tile is told its place.
    """
    tiles = (
        tiles.contiguous()
    )  # a byte a tile; the transposed running sums would be turned later, four times that
    rank = tiles.cumsum(-1, dtype=torch.int32)
    counts = rank[..., -1]
    columns = _range(tiles.shape[-1], rank)
    place = torch.where(tiles, rank - 1, counts[..., None] + columns - rank)
    entries = torch.empty_like(rank).scatter(-1, place.to(torch.int64), columns.expand_as(rank))
    batch, heads = shape
    return counts.expand(batch, heads, -1).contiguous(), entries.expand(batch, heads, -1, -1).contiguous()


def _range(stop: int, like: Tensor) -> Tensor:
    return torch.arange(stop, dtype=like.dtype, device=like.device)


def _number(value: int, like: Tensor) -> Tensor:
    """A tensor [1], filled on its device: made from the host, it would be a copy that waits.

    Not 0-d: as an index, torch would read such a one and wait.
    """
    return torch.full((1,), value, dtype=like.dtype, device=like.device)
