"""Report: what a mask attends, what a kernel computes for it, and what that takes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from attnmask.ir.domain import Domain, length
from attnmask.ir.nodes import ScoreExpr
from attnmask.lower.layout import layout
from attnmask.plan.figures import bytes_text, figures_table, flops_text, percent
from attnmask.tiles.count import row_counts
from attnmask.tiles.promises import Promises, promises
from attnmask.tiles.tilemap import TileMap

if TYPE_CHECKING:
    from rich.table import Table


@dataclass(frozen=True, slots=True)
class Spread:
    least: int
    mean: float
    most: int

    def to_dict(self) -> dict[str, Any]:
        return {"min": self.least, "mean": self.mean, "max": self.most}


@dataclass(frozen=True, slots=True)
class Report:
    """Exact figures of one attention call. Counts are over all batch rows and heads unless they say otherwise.

    `flops_needed`: 4 × head_dim for each attended pair (two products, a multiplication and an addition each).
    `flops_computed`: the same for every pair of every live tile, which is what a block-sparse kernel does.
    `flops_dense`: the same for all pairs.
    `promises`: the kernel options BLOCKS_ARE_CONTIGUOUS and ROWS_GUARANTEED_SAFE, which `attention` sets where
    they hold for the tiles of the call, and why where they do not.
    """

    mask: str
    q_len: int
    kv_len: int
    q_offset: int
    batch: int
    heads: int
    head_dim: int
    block: tuple[int, int]
    pairs: int
    tiles_full: int
    tiles_partial: int
    tiles_empty: int
    tiles_per_row: Spread
    keys_per_query: Spread
    empty_rows: int
    block_mask_bytes: int
    promises: Promises

    @property
    def density(self) -> float:
        """Attended share of all pairs."""
        return self.pairs / (self.batch * self.heads * self.q_len * self.kv_len)

    @property
    def flops_needed(self) -> int:
        return 4 * self.head_dim * self.pairs

    @property
    def flops_computed(self) -> int:
        return 4 * self.head_dim * (self.tiles_full + self.tiles_partial) * self.block[0] * self.block[1]

    @property
    def flops_dense(self) -> int:
        return 4 * self.head_dim * self.batch * self.heads * self.q_len * self.kv_len

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings, for JSON."""
        return {
            "mask": self.mask,
            "q_len": self.q_len,
            "kv_len": self.kv_len,
            "q_offset": self.q_offset,
            "batch": self.batch,
            "heads": self.heads,
            "head_dim": self.head_dim,
            "block": list(self.block),
            "pairs": self.pairs,
            "density": self.density,
            "tiles": {"full": self.tiles_full, "partial": self.tiles_partial, "empty": self.tiles_empty},
            "tiles_per_row": self.tiles_per_row.to_dict(),
            "keys_per_query": self.keys_per_query.to_dict(),
            "empty_rows": self.empty_rows,
            "flops": {
                "needed": self.flops_needed,
                "computed": self.flops_computed,
                "dense": self.flops_dense,
            },
            "block_mask_bytes": self.block_mask_bytes,
            "blocks_are_contiguous": self.promises.contiguous,
            "rows_guaranteed_safe": self.promises.rows_safe,
            "not_promised": {
                name: reason
                for name, reason in (
                    ("blocks_are_contiguous", self.promises.not_contiguous),
                    ("rows_guaranteed_safe", self.promises.not_safe),
                )
                if reason is not None
            },
        }

    def lines(self) -> Iterator[tuple[str, str]]:
        """Label and figure of every line of the table."""
        live = self.tiles_full + self.tiles_partial
        total = live + self.tiles_empty
        yield "lengths", f"{self.q_len:,} queries × {self.kv_len:,} keys, offset {self.q_offset:,}"
        yield "batch × heads × head dim", f"{self.batch} × {self.heads} × {self.head_dim}"
        yield "attended pairs", f"{self.pairs:,} ({percent(self.density)} of all)"
        yield "keys per query", _spread(self.keys_per_query)
        yield "queries without keys", f"{self.empty_rows:,}"
        yield f"tiles of {self.block[0]} × {self.block[1]}", f"{total:,}, live {percent(live / total)}"
        yield "  full", f"{self.tiles_full:,}"
        yield "  partial", f"{self.tiles_partial:,}"
        yield "  empty", f"{self.tiles_empty:,}"
        yield "live tiles per row", _spread(self.tiles_per_row)
        yield "FLOPs needed", flops_text(self.flops_needed)
        share = percent(self.flops_computed / self.flops_dense)
        yield "FLOPs computed", f"{flops_text(self.flops_computed)} ({share} of dense)"
        yield "FLOPs dense", flops_text(self.flops_dense)
        yield "BlockMask", bytes_text(self.block_mask_bytes)
        yield "BLOCKS_ARE_CONTIGUOUS", _promise(self.promises.not_contiguous)
        yield "ROWS_GUARANTEED_SAFE", _promise(self.promises.not_safe)

    def __str__(self) -> str:
        rows = [("mask", self.mask), *self.lines()]
        width = max(len(label) for label, _ in rows)
        return "\n".join(f"{label:<{width}}  {figure}" for label, figure in rows)

    def __rich__(self) -> Table:
        return figures_table(self.mask, self.lines())


def report(mask: str, tiles: TileMap, domain: Domain, head_dim: int, score: ScoreExpr | None) -> Report:
    """The figures of a tile map.

    `domain` says how many batch rows and heads there are, `score` how the kernel is to modify scores.
    """
    head_dim = length("head_dim", head_dim)
    # How many of the (b, h) share each plane; a mask that does not depend on them has one plane for all.
    repeats = domain.batch * domain.heads // tiles.plane_of.size
    weights = np.bincount(tiles.plane_of.ravel(), minlength=tiles.n_planes) * repeats
    keys = [row_counts(tiles, plane) for plane in range(tiles.n_planes)]
    per_row = (tiles.full.counts + tiles.partial.counts).reshape(tiles.n_planes, tiles.rows)
    full = _weighted([int(n) for n in tiles.full.counts.reshape(tiles.n_planes, -1).sum(axis=1)], weights)
    partial = _weighted(
        [int(n) for n in tiles.partial.counts.reshape(tiles.n_planes, -1).sum(axis=1)], weights
    )
    total = domain.batch * domain.heads * tiles.rows * tiles.cols
    return Report(
        mask,
        domain.q_len,
        domain.kv_len,
        domain.q_offset,
        domain.batch,
        domain.heads,
        head_dim,
        tiles.block,
        pairs=_weighted([int(count.sum()) for count in keys], weights),
        tiles_full=full,
        tiles_partial=partial,
        tiles_empty=total - full - partial,
        tiles_per_row=_spread_of(list(per_row), weights),
        keys_per_query=_spread_of(keys, weights),
        empty_rows=_weighted([int((count == 0).sum()) for count in keys], weights),
        block_mask_bytes=layout(tiles).nbytes,
        promises=promises(tiles, score),
    )


def _weighted(counts: list[int], weights: np.ndarray[tuple[int], np.dtype[np.int64]]) -> int:
    return sum(count * int(weight) for count, weight in zip(counts, weights, strict=True))


def _spread_of(
    rows: list[np.ndarray[tuple[int], np.dtype[np.int64]]],
    weights: np.ndarray[tuple[int], np.dtype[np.int64]],
) -> Spread:
    total = _weighted([int(row.sum()) for row in rows], weights)
    number = int(weights.sum()) * len(rows[0])
    return Spread(min(int(row.min()) for row in rows), total / number, max(int(row.max()) for row in rows))


def _spread(spread: Spread) -> str:
    return f"{spread.least:,} to {spread.most:,}, mean {spread.mean:,.1f}"


def _promise(reason: str | None) -> str:
    return "yes" if reason is None else f"no: {reason}"
