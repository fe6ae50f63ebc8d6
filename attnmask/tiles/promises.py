"""What FlexAttention's kernels may be promised about the tiles of a call, so that they can leave steps out.

They are kernel options that torch believes without a look: a promise that does not hold gives wrong numbers, or
NaN. Both are decided exactly here, for lists as attnmask makes them, ascending and with partial tiles apart from
full ones, so that no other order could make a promise true; and for every size of steps that torch may choose.
As read in the Triton templates of torch 2.13. The CPU's kernel takes the options and has no use for them.

BLOCKS_ARE_CONTIGUOUS: after the first tile of a list the kernel goes on by one tile, and reads no more entries.
Forward and dQ walk the lists of rows this way, dK and dV those of columns, the partial and the full ones apart.

ROWS_GUARANTEED_SAFE: the kernel does not look whether a query's greatest score so far is still minus infinity,
which gives NaN. So each query must see one of the first keys that are visited: those of the first step of its
first partial tile, or of a full tile where its row has no partial one. A step is BLOCK_N keys, a part of a tile;
what a narrow first step has seen, a wider one has too. The decoding kernel splits the keys, and a split may start
at any step of a partial tile. A query that sees no key at all is no harm to the kernels of today, yet torch
documents the option as a promise that there is none.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from attnmask.ir.finite import stays_finite
from attnmask.ir.nodes import ScoreExpr
from attnmask.tiles.decide import Decider
from attnmask.tiles.grid import Cells, cells
from attnmask.tiles.profile import Profiles
from attnmask.tiles.tilemap import TileMap

# Fewer queries than this may go to the decoding kernel.
DECODING = 128
# The least BLOCK_N: Triton multiplies no narrower matrices. All are powers of two, and divide the tile.
_NARROWEST = 16
# Elements evaluated at once; small, since the first query that is not safe ends the search.
_PORTION = 1 << 15


@dataclass(frozen=True, slots=True)
class Promises:
    """For each of the two promises why it cannot be made, or None where it holds."""

    not_contiguous: str | None
    not_safe: str | None

    @property
    def contiguous(self) -> bool:
        """Each list, of rows and of columns, is one run of tiles."""
        return self.not_contiguous is None

    @property
    def rows_safe(self) -> bool:
        """Every query sees one of the first keys that any kernel visits for it."""
        return self.not_safe is None

    @property
    def options(self) -> tuple[str, ...]:
        """The kernel options of FlexAttention that may be set."""
        named = (("BLOCKS_ARE_CONTIGUOUS", self.contiguous), ("ROWS_GUARANTEED_SAFE", self.rows_safe))
        return tuple(name for name, holds in named if holds)


def promises(tiles: TileMap, score: ScoreExpr | None) -> Promises:
    """The promises that hold for a tile map, and for the scores that the kernel is to modify (None: it does not)."""
    return Promises(_gap(tiles), _unsafe(tiles, score))


def _gap(tiles: TileMap) -> str | None:
    """The first list with a gap in it."""
    kinds = (
        ("row", "partial", tiles.partial, tiles.rows),
        ("row", "full", tiles.full, tiles.rows),
        ("column", "partial", tiles.partial_t, tiles.cols),
        ("column", "full", tiles.full_t, tiles.cols),
    )
    for line, kind, lists, lines in kinds:
        some = np.flatnonzero(lists.counts)
        first, last = lists.indices[lists.indptr[some]], lists.indices[lists.indptr[some + 1] - 1]
        # Ascending and none twice: a run, if there are as many as lie between its ends.
        broken = some[last - first >= lists.counts[some]]
        if len(broken):
            plane, number = divmod(int(broken[0]), lines)
            listed = lists.row(int(broken[0]))
            at = int(np.argmax(np.diff(listed) > 1))
            where = f"{_owner(tiles, plane)}{kind} tiles of {line} {number}"
            return f"{where}: {listed[at]}, then {listed[at + 1]}"
    return None


def _owner(tiles: TileMap, plane: int) -> str:
    """The first batch row and head that a plane belongs to, as far as tiles depend on them."""
    b, h = np.argwhere(tiles.plane_of == plane)[0]
    batches, heads = tiles.plane_of.shape
    return (f"batch row {b}, " if batches > 1 else "") + (f"head {h}, " if heads > 1 else "")


def _unsafe(tiles: TileMap, score: ScoreExpr | None) -> str | None:
    """The first query that may not see one of the keys visited first."""
    if score is not None and not stays_finite(score, tiles.tables):
        return "a modified score may be minus infinity"
    for plane in range(tiles.n_planes):
        found = _unsafe_query(tiles, plane)
        if found is not None:
            return _owner(tiles, plane) + found
    return None


def _unsafe_query(tiles: TileMap, plane: int) -> str | None:
    """The first query of a plane that is not safe. Full tiles need no look."""
    grid = tiles.grid
    rows = slice(plane * tiles.rows, (plane + 1) * tiles.rows)
    blind = np.flatnonzero(tiles.partial.counts[rows] + tiles.full.counts[rows] == 0)
    if len(blind):
        return f"q = {int(blind[0]) * grid.block_q + grid.q_offset} sees no key"
    width = min(_NARROWEST, grid.block_k & -grid.block_k)
    steps = _first_steps(tiles, plane, width)
    past_the_end = np.flatnonzero(steps.k_first > steps.k_last)
    if len(past_the_end):
        return _unseen(steps, int(past_the_end[0]), 0, width)
    decider = Decider(tiles.planes[plane], Profiles(grid, tiles.tables), narrow=False)
    within_q = np.arange(min(grid.block_q, grid.q_len))
    portion = max(1, _PORTION // len(within_q))
    for at in range(0, len(steps), portion):
        part = steps[at : at + portion]
        # Mostly the first of the keys tells already; the others are looked at where it does not.
        open_ = part[np.flatnonzero(~decider.values(part, within_q, np.arange(1)).all(axis=(1, 2)))]
        for begin in range(0, len(open_), max(1, portion // width)):
            few = open_[begin : begin + max(1, portion // width)]
            sees = decider.values(few, within_q, np.arange(width)).any(axis=2)
            if not sees.all():
                number, row = np.argwhere(~sees)[0]
                return _unseen(few, int(number), int(row), width)
    return None


def _unseen(steps: Cells, number: int, row: int, width: int) -> str:
    """That one row of one step has no live key, in words."""
    q, k = int(steps.q_first[number]) + row, int(steps.k_first[number])
    return f"q = {q} sees none of k in {k}:{k + width}, visited first"


def _first_steps(tiles: TileMap, plane: int, width: int) -> Cells:
    """The parts of partial tiles, from `k_first` on `width` keys wide, at which a kernel may start.

    Keys past the end are the last of a row's visits: the kernel stops before them only where all tiles are listed.
    """
    grid, partial = tiles.grid, tiles.partial
    rows = np.arange(plane * tiles.rows, (plane + 1) * tiles.rows)
    counts = partial.counts[rows]
    if tiles.q_len >= DECODING:
        i = np.flatnonzero(counts)
        return cells(grid, 0, i, partial.indices[partial.indptr[rows[i]]].astype(np.int64))
    # One step past the end tells as much as all of them.
    number = min(grid.block_k // width, -(-tiles.kv_len // width) + 1)
    i = np.repeat(np.arange(tiles.rows), counts * number)
    listed = partial.indices[partial.indptr[rows[0]] : partial.indptr[rows[-1] + 1]].astype(np.int64)
    found = cells(grid, 0, i, np.repeat(listed, number))
    first = found.k_first + np.tile(np.arange(number) * width, len(listed))
    return replace(found, k_first=first)[(first <= found.k_last) | (counts[i] < tiles.cols)]
