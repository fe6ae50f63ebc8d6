"""Functions over the patches of a video: frames, rows, columns."""

from __future__ import annotations

import torch
from torch import Tensor

from attnmask.lower.functions import MaskMod
from benchmarks.mask_functions.entry import mask_function, sized

Shape = tuple[int, int, int]


def _video(length: int, tile: Shape = (1, 1, 1)) -> Shape:
    """Frames, height and width of a square video of up to `length` tokens, in whole tiles; at least one tile."""
    side = max(tile[1], round(length ** (3 / 8)) // tile[1] * tile[1])
    return max(tile[0], length // (side * side) // tile[0] * tile[0]), side, side


def _radius(extent: int, most: int) -> int:
    return max(0, min(most, (extent - 1) // 4))


@mask_function("3-D raster")
def video_neighbourhood(length: int) -> MaskMod:
    """Local attention of video transformers, cut off at the edges."""
    frames, height, width = _video(length)
    in_time, in_space = _radius(frames, 2), _radius(width, 4)

    def near(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        q_frame, kv_frame = q_idx // (height * width), kv_idx // (height * width)
        q_row, kv_row = q_idx // width % height, kv_idx // width % height
        q_column, kv_column = q_idx % width, kv_idx % width
        return (
            ((q_frame - kv_frame).abs() <= in_time)
            & ((q_row - kv_row).abs() <= in_space)
            & ((q_column - kv_column).abs() <= in_space)
        )

    return near


@mask_function("3-D raster")
def video_natten(length: int) -> MaskMod:
    """NATTEN in three dimensions, causal in time."""
    frames, height, width = _video(length)
    in_time, in_space = _radius(frames, 3) + 1, _radius(width, 4)
    tokens = frames * height * width

    def split(index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        frame = index // (height * width)
        inside = index - frame * height * width
        return frame, inside // width, inside % width

    def around(centre: Tensor, key: Tensor, extent: int) -> Tensor:
        return (centre.clamp(in_space, extent - 1 - in_space) - key).abs() <= in_space

    def neighbourhood(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        (q_t, q_y, q_x), (kv_t, kv_y, kv_x) = split(q_idx), split(kv_idx)
        past = (kv_t <= q_t) & (q_t - kv_t < in_time)
        valid = (q_idx < tokens) & (kv_idx < tokens)
        return past & around(q_y, kv_y, height) & around(q_x, kv_x, width) & valid

    return neighbourhood


@mask_function("3-D raster")
def video_frames_causal(length: int) -> MaskMod:
    """Autoregressive video models: frames see themselves whole, the first one, and the last few."""
    _, height, width = _video(length)
    per_frame = height * width

    def by_frame(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        q_frame, kv_frame = q_idx // per_frame, kv_idx // per_frame
        return (kv_frame <= q_frame) & ((q_frame - kv_frame < 3) | (kv_frame == 0))

    return by_frame


@mask_function("3-D raster")
def video_radial(length: int) -> MaskMod:
    """Radial attention: a band within each pair of frames, narrower the further they lie apart in time."""
    _, height, width = _video(length)
    per_frame = height * width
    last = -(-length // per_frame)
    band = torch.tensor([max(1, per_frame >> apart) for apart in range(last)])

    def radial(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        apart = (q_idx // per_frame - kv_idx // per_frame).abs()
        shift = (q_idx % per_frame - kv_idx % per_frame).abs()
        return shift < band[apart]

    return radial


@mask_function("3-D tiled")
def video_tiled(length: int) -> MaskMod:
    """Neighbourhoods of a video whose tokens are kept in tiles of 4 by 4 by 4."""
    side = 4
    frames, height, width = _video(length, (side, side, side))
    rows, columns = height // side, width // side
    in_time, in_space = _radius(frames, 2), _radius(width, 4)

    def near(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        def place(index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            tile, inside = index // side**3, index % side**3
            t = tile // (rows * columns) * side + inside // (side * side)
            y = tile // columns % rows * side + inside // side % side
            x = tile % columns * side + inside % side
            return t, y, x

        (q_t, q_y, q_x), (kv_t, kv_y, kv_x) = place(q_idx), place(kv_idx)
        in_frames = torch.abs(q_t - kv_t) <= in_time
        return in_frames & (torch.abs(q_y - kv_y) <= in_space) & (torch.abs(q_x - kv_x) <= in_space)

    return near


@mask_function("3-D tiled")
def video_sliding_tiles_text(length: int) -> MaskMod:
    """Sliding tile attention of video diffusion, with the text behind the video: it sees and is seen by all."""
    text = sized(256, length)
    tile = (4, 8, 8) if length >= 4096 else (2, 2, 2)
    extents = _video(length - text, tile)
    tiles_t, tiles_y, tiles_x = (extent // side for extent, side in zip(extents, tile, strict=True))
    tokens = tile[0] * tile[1] * tile[2]
    video = extents[0] * extents[1] * extents[2]

    def split(tile_index: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return (
            tile_index // (tiles_y * tiles_x),
            tile_index % (tiles_y * tiles_x) // tiles_x,
            tile_index % tiles_x,
        )

    def near(centre: Tensor, key: Tensor, tiles: int) -> Tensor:
        reach = min(1, (tiles - 1) // 2)
        return (centre.clamp(min=reach, max=tiles - 1 - reach) - key).abs() <= reach

    def sliding(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        (q_t, q_y, q_x), (kv_t, kv_y, kv_x) = split(q_idx // tokens), split(kv_idx // tokens)
        window = near(q_t, kv_t, tiles_t) & near(q_y, kv_y, tiles_y) & near(q_x, kv_x, tiles_x)
        is_text = (q_idx >= video) | (kv_idx >= video)
        used = torch.maximum(q_idx, kv_idx) < video + text
        return torch.logical_or(window, is_text) & used

    return sliding
