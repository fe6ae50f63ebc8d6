"""Reach block by block: an upper bound on what is seen, a lower bound on layers; exact for blocks of one token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from attnmask.errors import MaskError
from attnmask.tiles.grid import Ints
from attnmask.tiles.tilemap import TileMap, merged

if TYPE_CHECKING:
    import networkx as nx

Flags = NDArray[np.bool_]
# A product of two matrices of this side takes a fraction of a second.
MOST_BLOCKS = 2048
_MOST_EDGES = 1 << 22


@dataclass(frozen=True, slots=True, eq=False)
class Blocks:
    """Whether a token of row block I can have seen a token of column block J: bool [rows, rows]."""

    live: Flags
    block: int
    length: int

    def seen(self, q: int) -> Flags:
        """Positions that q can have seen, bool [length]."""
        return np.repeat(self.live[q // self.block], self.block)[: self.length]

    def counts(self) -> Ints:
        """How many positions each can have seen, int64 [length]."""
        sizes = np.minimum(self.length - np.arange(len(self.live)) * self.block, self.block)
        counts: Ints = np.repeat(self.live.astype(np.int64) @ sizes, self.block)[: self.length]
        return counts

    def blocks(self, block: int) -> Flags:
        """The same for blocks of another size, a multiple of this one."""
        starts = np.arange(0, len(self.live), block // self.block)
        rows: Flags = np.logical_or.reduceat(self.live, starts, axis=0)
        coarse: Flags = np.logical_or.reduceat(rows, starts, axis=1)
        return coarse


def after(steps: Sequence[Flags], layers: int) -> Flags:
    """What is seen after a number of layers that repeat in order, the first one nearest the input.

    `steps` are what each layer sees, bool [rows, rows]; a position keeps what it has seen.
    """
    kept = [step | np.eye(len(step), dtype=np.bool_) for step in steps]
    times, over = divmod(layers, len(kept))
    reached = np.eye(len(kept[0]), dtype=np.bool_)
    if times:
        reached = _power(_in_turn(kept), times)
    return _product(_in_turn(kept[:over]), reached) if over else reached


def _in_turn(steps: Sequence[Flags]) -> Flags:
    done = steps[0]
    for step in steps[1:]:
        done = _product(step, done)
    return done


def _power(step: Flags, times: int) -> Flags:
    """`step` applied a number of times, at least once; by squaring, until that adds nothing."""
    result: Flags | None = None
    while True:
        if times & 1:
            result = step if result is None else _product(step, result)
        times >>= 1
        if not times:
            assert result is not None
            return result
        square = _product(step, step)
        if np.array_equal(square, step):
            return step
        step = square


def _product(later: Flags, earlier: Flags) -> Flags:
    # Sums of ones are exact in float32 up to 2**24, and BLAS has no product of truth values.
    return later.astype(np.float32) @ earlier.astype(np.float32) > 0


def block_graph(maps: Sequence[TileMap], order: Sequence[int]) -> nx.DiGraph[tuple[int, int]]:
    """Information on its way up through layers that repeat in order, block by block.

    Node (l, J) is block J after a number of layers that is l modulo the number of maps in `order`; every edge is one
    layer, from what is attended to what attends, or from a block to itself.
    """
    import networkx as nx

    edges = [_edges(tiles) for tiles in maps]
    if sum(len(edges[number][0]) for number in order) > _MOST_EDGES:
        raise MaskError("the masks have too many live tiles for a search", hint="choose larger blocks")
    graph: nx.DiGraph[tuple[int, int]] = nx.DiGraph()
    for at, number in enumerate(order):
        rows, columns = edges[number]
        above = (at + 1) % len(order)
        graph.add_edges_from(
            ((at, column), (above, row)) for row, column in zip(rows.tolist(), columns.tolist(), strict=True)
        )
        graph.add_edges_from(((at, block), (above, block)) for block in range(maps[0].rows))
    return graph


def _edges(tiles: TileMap) -> tuple[Ints, Ints]:
    live = merged(tiles.full, tiles.partial)
    return np.repeat(np.arange(tiles.rows), live.counts), live.indices.astype(np.int64)


def fewest_layers(maps: Sequence[TileMap], order: Sequence[int], q: int, k: int) -> int | None:
    """After how many layers at least position q has seen position k; None where it never does."""
    import networkx as nx

    block = maps[0].grid.block_q
    if q // block == k // block:
        return int(q != k)
    graph = block_graph(maps, order)
    lengths = nx.single_source_shortest_path_length(graph, (0, k // block))
    found = [lengths[at, q // block] for at in range(len(order)) if (at, q // block) in lengths]
    return min(found, default=None)
