"""From a predicate and the lengths of a call to its TileMap: one search a distinct plane."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from attnmask.errors import MaskError
from attnmask.ir import index
from attnmask.ir.check import check
from attnmask.ir.domain import Domain, length
from attnmask.ir.nodes import Expr, Predicate, VarName
from attnmask.ir.tables import Origins, TableData, fold_constants
from attnmask.ir.walk import substitute, variables
from attnmask.tiles.classify import Classifier
from attnmask.tiles.grid import Grid
from attnmask.tiles.profile import Profiles
from attnmask.tiles.search import Found, search
from attnmask.tiles.tilemap import TileMap, compressed

SIZES: tuple[VarName, ...] = ("Q", "K", "B", "H")
# Four bytes each, once for its row and once for its column.
_MOST_TILES = 1 << 30
_MOST_KEPT = 1 << 24
Block = int | tuple[int, int]


def block_pair(block: Block) -> tuple[int, int]:
    """(query, key) block sizes; MaskError when they are not positive integers."""
    pair = block if isinstance(block, tuple | list) else (block, block)
    if len(pair) != 2:
        raise MaskError(f"block must be a number or a pair of numbers, not {block!r}")
    return length("block", pair[0]), length("block", pair[1])


def planes(
    root: Predicate, domain: Domain, tables: Mapping[str, TableData]
) -> tuple[list[Predicate], NDArray[np.int64]]:
    """The distinct predicates in q and k alone that `root` is for the batch rows and heads of the domain.

    Returns them and, int64 [B, H], the number of each (b, h)'s; B or H is 1 where `root` depends on neither.
    """
    used = variables(root)
    if used <= {"q", "k"}:
        return [fold_constants(root, tables) if tables else root], np.zeros((1, 1), np.int64)
    sizes: dict[Expr, Expr] = {index.var(name): index.const(domain.bounds(name)[0]) for name in SIZES}
    root = substitute(root, sizes)
    batch = domain.batch if "b" in used else 1
    heads = domain.heads if "h" in used else 1
    numbers: dict[Predicate, int] = {}
    plane_of = np.zeros((batch, heads), np.int64)
    for b in range(batch):
        for h in range(heads):
            at: dict[Expr, Expr] = {index.var("b"): index.const(b), index.var("h"): index.const(h)}
            plane = fold_constants(substitute(root, at), tables)
            plane_of[b, h] = numbers.setdefault(plane, len(numbers))
    return list(numbers), plane_of


def tiles(
    root: Predicate, domain: Domain, tables: Mapping[str, TableData], origins: Origins, block: Block
) -> TileMap:
    """The exact tiles of a mask. MaskError when it cannot be evaluated on the domain."""
    block_q, block_k = block_pair(block)
    narrow = check(root, domain, tables, origins)
    grid = Grid(domain.q_len, domain.kv_len, block_q, block_k, domain.q_offset)
    distinct, plane_of = planes(root, domain, tables)
    arrays = {name: data.array for name, data in tables.items()}
    profiles = Profiles(grid, arrays)
    found: list[Found] = []
    for plane in distinct:
        if profiles.nbytes > _MOST_KEPT:  # many planes, each with values of its own
            profiles = Profiles(grid, arrays)
        found.append(search(Classifier(plane, profiles), grid, narrow))
    if grid.rows * grid.cols * len(found) > _MOST_TILES:
        listed = sum(plane.full.tiles + plane.partial.tiles for plane in found)
        if listed > _MOST_TILES:
            raise MaskError(
                f"the mask has {listed} live tiles, too many to list", hint="choose larger blocks"
            )
    full, partial = [plane.full for plane in found], [plane.partial for plane in found]
    return TileMap(
        grid,
        plane_of,
        full=compressed(full, grid.rows, grid.cols),
        partial=compressed(partial, grid.rows, grid.cols),
        full_t=compressed([area.transposed for area in full], grid.cols, grid.rows),
        partial_t=compressed([area.transposed for area in partial], grid.cols, grid.rows),
        planes=tuple(distinct),
        tables=arrays,
    )
