"""A mask in the three forms that the tests of the view compare: tiles, counts of partial tiles, dense."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

import attnmask as am
from attnmask.tiles.count import PartialCounts, partial_counts
from attnmask.tiles.tilemap import TileMap


@dataclass(frozen=True, slots=True)
class Tiled:
    tiles: TileMap
    counts: PartialCounts
    dense: npt.NDArray[np.bool_]  # [H, Q, K]


def tiled(
    text: str,
    q_len: int,
    kv_len: int | None = None,
    *,
    block: int | tuple[int, int] = 128,
    heads: int = 1,
    offset: int = 0,
) -> Tiled:
    mask = am.compile(text)
    tiles = mask.tiles(q_len, kv_len, block=block, heads=heads, q_offset=offset)
    dense = mask.dense(q_len, kv_len, heads=heads, q_offset=offset)[0]
    return Tiled(tiles, partial_counts(tiles), dense)
