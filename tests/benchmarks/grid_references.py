"""Which keys a query sees, for the functions of the suite that are about images and videos."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np

from tests.benchmarks.sequence_references import Keys, N, Visible


def _square(y: int, x: int, radius: int) -> Iterator[tuple[int, int]]:
    return product(range(y - radius, y + radius + 1), range(x - radius, x + radius + 1))


WIDTH = 22  # of an image of 517 tokens, whose rows 0 to 22 are whole and the last one has 11


def image_neighbourhood(b: int, h: int, q: int) -> Keys:
    return [y * WIDTH + x for y, x in _square(*divmod(q, WIDTH), 5) if y >= 0 and 0 <= x < WIDTH]


def image_natten(b: int, h: int, q: int) -> Keys:
    if q >= 17 * 30:  # rows by columns
        return ()
    y, x = divmod(q, 30)
    return [y * 30 + x for y, x in _square(min(max(y, 4), 12), min(max(x, 4), 25), 4)]


def image_radial(b: int, h: int, q: int) -> Keys:
    at_y, at_x = divmod(q, WIDTH)
    inside = [(y, x) for y, x in _square(at_y, at_x, 5) if np.hypot(y - at_y, x - at_x) < 5]
    return [y * WIDTH + x for y, x in inside if y >= 0 and 0 <= x < WIDTH]


def image_distance(b: int, h: int, q: int) -> Keys:
    at_y, at_x = divmod(q, WIDTH)
    inside = [(y, x) for y, x in _square(at_y, at_x, 5) if np.hypot(y - at_y, x - at_x) <= 4.5]
    return [y * WIDTH + x for y, x in inside if y >= 0 and 0 <= x < WIDTH]


def image_axial(b: int, h: int, q: int) -> Keys:
    return {*range(q - q % WIDTH, q - q % WIDTH + WIDTH), *range(q % WIDTH, N, WIDTH)}


# Two tiles of 8 by 8 side by side, and as many rows of tiles as there are tokens.
IMAGE_TILES = [(8 * ty + y, 8 * tx + x) for ty, tx, y, x in product(range(5), range(2), range(8), range(8))]
IMAGE_RANK = {pixel: rank for rank, pixel in enumerate(IMAGE_TILES)}


def image_tiled(b: int, h: int, q: int) -> Keys:
    return [IMAGE_RANK[pixel] for pixel in _square(*IMAGE_TILES[q], 3) if pixel in IMAGE_RANK]


def _z_order(y: int, x: int) -> int:
    """Bits of y and x in turns, those of x first."""
    turns = zip(f"{y:016b}", f"{x:016b}", strict=True)
    return int("".join(from_y + from_x for from_y, from_x in turns), 2)


IMAGE_CURVE = {_z_order(y, x): (y, x) for y, x in product(range(64), range(64))}


def image_morton(b: int, h: int, q: int) -> Keys:
    return [_z_order(y, x) for y, x in _square(*IMAGE_CURVE[q], 5) if y >= 0 and x >= 0]


def video_neighbourhood(b: int, h: int, q: int) -> Keys:
    t, y, x = q // 100, q // 10 % 10, q % 10
    for frame in (t - 1, t, t + 1):
        for row, column in _square(y, x, 2):
            if frame >= 0 and 0 <= row < 10 and 0 <= column < 10:
                yield 100 * frame + 10 * row + column


def video_natten(b: int, h: int, q: int) -> Keys:
    t, y, x = q // 100, q // 10 % 10, q % 10
    if t < 5:
        for row, column in _square(min(max(y, 2), 7), min(max(x, 2), 7), 2):
            yield from (100 * frame + 10 * row + column for frame in (t - 1, t) if frame >= 0)


def video_frames_causal(b: int, h: int, q: int) -> Keys:
    frames = {frame for frame in (0, q // 100 - 2, q // 100 - 1, q // 100) if frame >= 0}
    return [100 * frame + token for frame in frames for token in range(100)]


# Frames of 8 by 8 pixels, in tiles of 4 by 4 by 4.
VIDEO_TILES = [
    (4 * tt + t, 4 * ty + y, 4 * tx + x)
    for tt, ty, tx, t, y, x in product(range(3), range(2), range(2), range(4), range(4), range(4))
]
VIDEO_RANK = {patch: rank for rank, patch in enumerate(VIDEO_TILES)}


def video_tiled(b: int, h: int, q: int) -> Keys:
    t, y, x = VIDEO_TILES[q]
    around = product((t - 1, t, t + 1), (y - 1, y, y + 1), (x - 1, x, x + 1))
    return [VIDEO_RANK[patch] for patch in around if patch in VIDEO_RANK]


PLAIN: dict[str, Visible] = {
    "image_neighbourhood": image_neighbourhood,
    "image_natten": image_natten,
    "image_radial": image_radial,
    "image_axial": image_axial,
    "image_distance": image_distance,
    "image_tiled": image_tiled,
    "image_morton_bits": image_morton,
    "image_morton_table": image_morton,
    "video_neighbourhood": video_neighbourhood,
    "video_natten": video_natten,
    "video_frames_causal": video_frames_causal,
    "video_tiled": video_tiled,
}
