"""IntervalMap: the keys of every query as intervals, for each distinct plane of a mask."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnmask.errors import MaskError
from attnmask.ir.check import check
from attnmask.ir.domain import Domain
from attnmask.ir.nodes import Predicate
from attnmask.ir.tables import Origins, TableData
from attnmask.tiles.build import planes, tiles
from attnmask.tiles.grid import Grid, Ints
from attnmask.tiles.profile import Profiles
from attnmask.tiles.runs import Runs, keys_per_row, tile_runs
from attnmask.tiles.thresholds import row_thresholds

# Queries and intervals together, eight bytes each: one GiB.
MOST_INTERVALS = 1 << 27
# Of the tiles that a mask is looked at by which has no thresholds.
_BLOCK = 64


@dataclass(frozen=True, slots=True, eq=False)
class IntervalMap:
    """Which keys each query attends, as half-open intervals in compressed rows.

    Query number r of plane p attends start[i] <= k < end[i] for i from indptr[p * q_len + r] to the entry after
    it. The intervals of a query ascend, none is empty, and between two of them lies a key that is not attended.
    Equal planes (b, h) are stored once: `plane_of`, int64 [B, H], has the number of each, and B or H is 1 where
    the mask depends on neither batch row nor head. Positions are query numbers plus `q_offset`.
    """

    domain: Domain
    plane_of: NDArray[np.int64]
    indptr: NDArray[np.int64]
    start: NDArray[np.int32]
    end: NDArray[np.int32]

    @property
    def q_len(self) -> int:
        return self.domain.q_len

    @property
    def kv_len(self) -> int:
        return self.domain.kv_len

    @property
    def q_offset(self) -> int:
        return self.domain.q_offset

    @property
    def n_planes(self) -> int:
        return (len(self.indptr) - 1) // self.q_len

    @property
    def counts(self) -> Ints:
        """The number of intervals of each query, int64 [planes, q_len]."""
        return np.diff(self.indptr).reshape(self.n_planes, self.q_len)

    @property
    def most(self) -> int:
        """The largest number of intervals that a query has."""
        return int(self.counts.max())

    @property
    def keys(self) -> Ints:
        """The number of keys that each query attends, int64 [planes, q_len]."""
        return keys_per_row(self.indptr, self.start, self.end).reshape(self.n_planes, self.q_len)

    @property
    def pairs(self) -> int:
        """Attended pairs over all batch rows and heads of the call."""
        repeats = self.domain.batch * self.domain.heads // self.plane_of.size
        weights = np.bincount(self.plane_of.ravel(), minlength=self.n_planes) * repeats
        return int(self.keys.sum(axis=1) @ weights)

    def row(self, q: int, b: int = 0, h: int = 0) -> NDArray[np.int32]:
        """The intervals of query number `q` (from 0, without the offset): int32 [intervals, 2], start and end."""
        if not 0 <= q < self.q_len:
            raise IndexError(f"there is no query {q}: the map has {self.q_len}")
        planes_b, planes_h = self.plane_of.shape
        plane = int(self.plane_of[b if planes_b > 1 else 0, h if planes_h > 1 else 0])
        at = plane * self.q_len + q
        these = slice(int(self.indptr[at]), int(self.indptr[at + 1]))
        return np.stack([self.start[these], self.end[these]], axis=1)


def interval_map(
    root: Predicate, domain: Domain, tables: Mapping[str, TableData], origins: Origins
) -> IntervalMap:
    """The intervals of a mask. MaskError when it cannot be evaluated on the domain, or has too many of them."""
    check(root, domain, tables, origins)
    distinct, plane_of = planes(root, domain, tables)
    runs: list[Runs] = []
    total = 0
    for plane in distinct:
        for part in _plane_runs(plane, domain, tables, origins):
            runs.append(part)
            total += len(part.start) + len(part.indptr)
            if total > MOST_INTERVALS:
                raise MaskError(
                    f"the intervals of the mask would not fit into memory: more than {MOST_INTERVALS}",
                    hint="tiles() and report() work for it; or ask for some queries at a time, with q_offset",
                )
    counts = np.concatenate([[0], *(np.diff(part.indptr) for part in runs)])
    start = np.concatenate([part.start for part in runs])
    end = np.concatenate([part.end for part in runs])
    return IntervalMap(domain, plane_of, np.cumsum(counts), start, end)


def _plane_runs(
    plane: Predicate, domain: Domain, tables: Mapping[str, TableData], origins: Origins
) -> Iterator[Runs]:
    grid = Grid(domain.q_len, domain.kv_len, _BLOCK, _BLOCK, domain.q_offset)
    arrays: Mapping[str, NDArray[Any]] = {name: data.array for name, data in tables.items()}
    thresholds = row_thresholds(plane, Profiles(grid, arrays))
    if thresholds is not None:
        return thresholds.runs()
    return tile_runs(tiles(plane, domain, tables, origins, _BLOCK), 0)
