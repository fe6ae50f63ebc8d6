"""Functions over the pixels or patches of an image, in raster, tiled and Morton order."""

from __future__ import annotations

from math import isqrt

import torch
from torch import Tensor

from attnmask.lower.functions import MaskMod
from benchmarks.mask_functions.entry import mask_function


def _radius(side: int) -> int:
    """Of a neighbourhood of 13 by 13, or of one that fits a small image."""
    return max(1, min(6, (side - 1) // 4))


@mask_function("2-D raster")
def image_neighbourhood(length: int) -> MaskMod:
    """Local attention over patches row by row, cut off at the edges of the image."""
    width = isqrt(length)
    radius = _radius(width)

    def near(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        q_y, q_x = q_idx // width, q_idx % width
        kv_y, kv_x = kv_idx // width, kv_idx % width
        return ((q_y - kv_y).abs() <= radius) & ((q_x - kv_x).abs() <= radius)

    return near


@mask_function("2-D raster")
def image_natten(length: int) -> MaskMod:
    """NATTEN on wide images: neighbourhoods move inwards at the edges and keep their size; padding sees nothing."""
    width = isqrt(length * 16 // 9)
    height = length // width
    radius = _radius(height)

    def neighbourhood(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        centre_y = (q_idx // width).clamp(radius, height - 1 - radius)
        centre_x = (q_idx % width).clamp(radius, width - 1 - radius)
        in_y = (centre_y - kv_idx // width).abs() <= radius
        in_x = (centre_x - kv_idx % width).abs() <= radius
        in_image = (q_idx < height * width) & (kv_idx < height * width)
        return in_y & in_x & in_image

    return neighbourhood


@mask_function("2-D raster")
def image_radial(length: int) -> MaskMod:
    """Local attention within a circle."""
    width = isqrt(length)
    radius = _radius(width)

    def in_circle(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        dy = q_idx // width - kv_idx // width
        dx = q_idx % width - kv_idx % width
        return dy * dy + dx * dx < radius * radius

    return in_circle


@mask_function("2-D raster")
def image_distance(length: int) -> MaskMod:
    """The same with the distance as a number with a fraction."""
    width = isqrt(length)
    radius = _radius(width) - 0.5

    def in_reach(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        dy = (q_idx // width - kv_idx // width).float()
        dx = (q_idx % width - kv_idx % width).float()
        return torch.sqrt(dy**2 + dx**2) <= radius

    return in_reach


@mask_function("2-D raster")
def image_axial(length: int) -> MaskMod:
    """Axial attention: the own row and the own column."""
    width = isqrt(length)
    return lambda b, h, q, k: (q // width == k // width) | (q % width == k % width)


@mask_function("2-D raster")
def image_shifted_windows(length: int) -> MaskMod:
    """Swin's shifted windows over raster order, without rolling the image."""
    width = isqrt(length)
    side = max(2, min(8, width // 4))
    shift = side // 2

    def same_window(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        same_row = (q_idx // width + shift) // side == (kv_idx // width + shift) // side
        same_column = (q_idx % width + shift) // side == (kv_idx % width + shift) // side
        return same_row & same_column

    return same_window


@mask_function("2-D tiled")
def image_tiled(length: int) -> MaskMod:
    """Neighbourhoods where tokens are kept tile by tile, so that neighbours share blocks."""
    side = 8
    per_row = max(1, isqrt(length) // side)
    radius = _radius(per_row * side)

    def pixel(index: Tensor) -> tuple[Tensor, Tensor]:
        tile, inside = index // (side * side), index % (side * side)
        return tile // per_row * side + inside // side, tile % per_row * side + inside % side

    def near(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        (q_y, q_x), (kv_y, kv_x) = pixel(q_idx), pixel(kv_idx)
        return (torch.abs(q_y - kv_y) <= radius) & (torch.abs(q_x - kv_x) <= radius)

    return near


@mask_function("2-D tiled")
def image_sliding_tiles(length: int) -> MaskMod:
    """Sliding tile attention on images: whole tiles see the tiles around them, moved inwards at the edges."""
    side = 8
    tiles = max(1, isqrt(length) // side)
    reach = min(2, (tiles - 1) // 2)
    tokens = side * side

    def sliding(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        q_tile, kv_tile = q_idx // tokens, kv_idx // tokens
        centre_y = torch.clamp(q_tile // tiles, min=reach, max=tiles - 1 - reach)
        centre_x = torch.clamp(q_tile % tiles, min=reach, max=tiles - 1 - reach)
        near_y = (centre_y - kv_tile // tiles).abs() <= reach
        near_x = (centre_x - kv_tile % tiles).abs() <= reach
        return near_y & near_x

    return sliding


def _even_bits(value: Tensor) -> Tensor:
    """Bits 0, 2, 4, … of up to 32, moved together."""
    value = value & 0x55555555
    value = (value | (value >> 1)) & 0x33333333
    value = (value | (value >> 2)) & 0x0F0F0F0F
    value = (value | (value >> 4)) & 0x00FF00FF
    return (value | (value >> 8)) & 0x0000FFFF


@mask_function("2-D Morton")
def image_morton_bits(length: int) -> MaskMod:
    """Neighbourhoods along a Z-order curve, coordinates taken out of the bits of the index."""
    radius = _radius(isqrt(length))

    def near(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        dx = _even_bits(q_idx) - _even_bits(kv_idx)
        dy = _even_bits(q_idx >> 1) - _even_bits(kv_idx >> 1)
        return (dx.abs() <= radius) & (dy.abs() <= radius)

    return near


@mask_function("2-D Morton")
def image_morton_table(length: int) -> MaskMod:
    """The same with tables of coordinates, which serve any order of the tokens."""
    radius = _radius(isqrt(length))
    at = torch.arange(length)
    x, y = _even_bits(at), _even_bits(at >> 1)

    def near(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        near_x = (x[q_idx] - x[kv_idx]).abs() <= radius
        near_y = (y[q_idx] - y[kv_idx]).abs() <= radius
        return near_x & near_y

    return near
