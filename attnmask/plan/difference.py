"""Where two masks differ at the lengths of a call: counts, first positions, and the tiles of either side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from attnmask.errors import MaskError
from attnmask.ir.domain import whole
from attnmask.ir.evaluate import evaluate
from attnmask.tiles.count import PartialCounts, partial_counts, row_counts
from attnmask.tiles.grid import Ints
from attnmask.tiles.tilemap import TileMap

Kind = Literal["only_first", "only_second"]
_MOST_POSITIONS = 5


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """Pairs of a tile map, such as what one mask attends and another does not; `per_row` counts those of a plane."""

    tiles: TileMap
    counts: PartialCounts
    per_row: tuple[Ints, ...]

    def pairs(self, b: int, h: int) -> int:
        """The number of pairs of batch row b and head h."""
        return int(self.per_row[self._plane(b, h)].sum())

    def positions(self, b: int, h: int) -> list[tuple[int, int]]:
        """The first pairs (q, k), row by row; q includes the offset."""
        plane = self._plane(b, h)
        keys = np.arange(self.tiles.kv_len)
        found: list[tuple[int, int]] = []
        for row in np.flatnonzero(self.per_row[plane])[:_MOST_POSITIONS]:
            q = int(row) + self.tiles.q_offset
            truth = evaluate(self.tiles.planes[plane], {"q": np.asarray(q), "k": keys}, self.tiles.tables)
            attended = np.flatnonzero(np.broadcast_to(truth, keys.shape))
            found += [(q, int(k)) for k in attended[: _MOST_POSITIONS - len(found)]]
            if len(found) == _MOST_POSITIONS:
                break
        return found

    def _plane(self, b: int, h: int) -> int:
        batch, heads = self.tiles.plane_of.shape
        for name, index, size in (("batch row", b, batch), ("head", h, heads)):
            if whole(name, index) >= size > 1:
                raise MaskError(f"there is no {name} {index}", hint=f"of {size}, the last is {size - 1}")
        return int(self.tiles.plane_of[b if batch > 1 else 0, h if heads > 1 else 0])


def side(tiles: TileMap) -> Side:
    """The pairs of a tile map, counted."""
    rows = tuple(row_counts(tiles, plane) for plane in range(tiles.n_planes))
    return Side(tiles, partial_counts(tiles), rows)


@dataclass(frozen=True, slots=True, eq=False)
class Difference:
    """Two masks at the lengths of a call, in batch row `b` and head `h`.

    `only_first` is what the first mask attends and the second does not, `only_second` the reverse, `both` what
    both attend.
    """

    only_first: Side
    only_second: Side
    both: Side
    b: int
    h: int

    @property
    def equal(self) -> bool:
        """Whether the masks attend the same pairs here."""
        return not self.pairs["only_first"] and not self.pairs["only_second"]

    @property
    def pairs(self) -> dict[str, int]:
        """Numbers of pairs, by "both", "only_first", "only_second"."""
        return {
            name: getattr(self, name).pairs(self.b, self.h) for name in ("both", "only_first", "only_second")
        }

    def positions(self, kind: Kind) -> list[tuple[int, int]]:
        """The first pairs (q, k) of one kind, at most five, row by row."""
        chosen: Side = getattr(self, kind)
        return chosen.positions(self.b, self.h)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON."""
        tiles = self.both.tiles
        return {
            "q_len": tiles.q_len,
            "kv_len": tiles.kv_len,
            "q_offset": tiles.q_offset,
            "batch_row": self.b,
            "head": self.h,
            "pairs": self.pairs,
            "first_positions": {
                "only_first": [list(pair) for pair in self.positions("only_first")],
                "only_second": [list(pair) for pair in self.positions("only_second")],
            },
        }
