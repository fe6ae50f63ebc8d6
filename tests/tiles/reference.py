"""Tiles the slow way: from the dense mask, tile by tile."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def tiles_of(dense: NDArray[np.bool_], block: tuple[int, int]) -> NDArray[np.uint8]:
    """uint8 [rows, cols] of a dense mask [Q, K]: 0 empty, 1 partial, 2 full; a ragged tile is never full."""
    q_len, kv_len = dense.shape
    rows, cols = -(-q_len // block[0]), -(-kv_len // block[1])
    found = np.zeros((rows, cols), np.uint8)
    for i in range(rows):
        for j in range(cols):
            tile = dense[i * block[0] : (i + 1) * block[0], j * block[1] : (j + 1) * block[1]]
            if tile.any():
                found[i, j] = 2 if tile.all() and tile.shape == block else 1
    return found
