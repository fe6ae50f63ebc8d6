"""Windows over axes and grids, above all at their borders."""

from __future__ import annotations

from functools import cache
from math import hypot, prod

from tests.zoo.cases import SQUARE, At, Case, Lengths, Sees, over


def neighborhood(x: int, length: int, window: int, stride: int, dilation: int, is_causal: bool) -> list[int]:
    """The keys that a query sees along one axis: a stretch of its dilation group, moved inward where it juts out."""
    group = list(range(x % dilation, length, dilation))
    here = group.index(x)
    shared = group[here // stride * stride :][:stride]
    if is_causal:
        leader = group.index(shared[-1])
        return group[max(0, leader - window + 1) : here + 1]
    leader = here // stride * stride + stride // 2
    begin = min(max(min(leader, len(group) - 1) - window // 2, 0), len(group) - window)
    return group[begin : begin + window]


def natten(
    at: At, window: int = 7, stride: int = 1, dilation: int = 1, is_causal: bool = False, length: int = 0
) -> Sees:
    @cache
    def keys(q: int) -> list[int]:
        return neighborhood(q, length or at.n_keys, window, stride, dilation, is_causal)

    return lambda q, k: k in keys(q)


def natten_of_rows_of_four(at: At, window: int, length: int, of: str) -> Sees:
    """The vertical axis of a grid of four columns."""
    assert of == "i // 4"
    return lambda q, k: k // 4 in neighborhood(q // 4, length, window, 1, 1, False)


def swin(at: At, height: int, width: int, window: int = 7, shift: int = 0) -> Sees:
    """Roll the picture, cut it into windows, and keep apart the regions that the roll brought together."""
    if min(height, width) <= window:
        shift = 0

    def region(place: int, length: int) -> int:
        return 0 if place < length - window else 1 if place < length - shift else 2

    rolled = {}
    for row in range(height):
        for column in range(width):
            token = (row + shift) % height * width + (column + shift) % width
            regions = (region(row, height), region(column, width)) if shift else (0, 0)
            rolled[token] = (row // window, column // window, *regions)
    return lambda q, k: rolled[q] == rolled[k]


def halonet(at: At, width: int, block: int = 8, halo: int = 3) -> Sees:
    def rim(place: int) -> range:
        begin = place // block * block
        return range(begin - halo, begin + block + halo)

    return lambda q, k: k // width in rim(q // width) and k % width in rim(q % width)


def maxvit_block(at: At, width: int, window: int = 7) -> Sees:
    """Partition into windows."""
    members: dict[int, int] = {}
    for number, corner in enumerate(
        (top, left) for top in range(0, at.n_keys // width, window) for left in range(0, width, window)
    ):
        for down in range(window):
            for along in range(window):
                members[(corner[0] + down) * width + corner[1] + along] = number
    return lambda q, k: members[q] == members[k]


def maxvit_grid(at: At, height: int, width: int, grid: int = 7) -> Sees:
    """Every (height / grid)-th row and (width / grid)-th column, from each start."""
    members: dict[int, tuple[int, int]] = {}
    for top in range(height // grid):
        for left in range(width // grid):
            for row in range(top, height, height // grid):
                for column in range(left, width, width // grid):
                    members[row * width + column] = (top, left)
    return lambda q, k: members[q] == members[k]


def clear(at: At, width: int, radius: int, text: int = 0) -> Sees:
    def sees(q: int, k: int) -> bool:
        if q < text or k < text:
            return True
        dy, dx = (q - text) // width - (k - text) // width, (q - text) % width - (k - text) % width
        return hypot(dy, dx) < radius

    return sees


def square(*sizes: tuple[int, ...]) -> tuple[Lengths, ...]:
    return tuple(Lengths(prod(size), prod(size)) for size in sizes)


CASES: tuple[Case, ...] = (
    *over("natten", natten, {}, {"window": 4}, {"window": 5, "stride": 3}, lengths=SQUARE[2:]),
    *over("natten", natten, {"window": 2}, {"window": 3, "dilation": 2}, lengths=SQUARE[2:]),
    *over("natten", natten, {"window": 4, "stride": 4}, {"window": 4, "stride": 2}, lengths=SQUARE[2:]),
    *over("natten", natten, {"window": 6, "stride": 4, "dilation": 2}, lengths=SQUARE[3:]),
    *over("natten", natten, {"window": 5, "is_causal": True}, lengths=SQUARE[2:]),
    *over("natten", natten, {"window": 5, "stride": 3, "is_causal": True}, lengths=SQUARE[2:]),
    *over("natten", natten, {"window": 3, "dilation": 2, "is_causal": True}, lengths=SQUARE[2:]),
    *over(
        "natten",
        natten_of_rows_of_four,
        {"window": 3, "length": 5, "of": "i // 4"},
        lengths=square((5, 4)),
    ),
    *over("swin", swin, *({"height": 14, "width": 14, "shift": s} for s in (0, 3)), lengths=square((14, 14))),
    *over(
        "swin",
        swin,
        *({"height": 8, "width": 12, "window": 4, "shift": s} for s in (0, 1, 2)),
        lengths=square((8, 12)),
    ),
    *over("swin", swin, {"height": 4, "width": 8, "window": 4, "shift": 2}, lengths=square((4, 8))),
    *over("halonet", halonet, {"width": 12}, lengths=(*square((9, 12)), Lengths(50, 50))),
    *over("halonet", halonet, {"width": 7, "block": 3, "halo": 1}, lengths=square((5, 7))),
    *over("halonet", halonet, {"width": 8, "block": 2, "halo": 0}, lengths=square((6, 8))),
    *over("maxvit_block", maxvit_block, {"width": 14}, lengths=square((7, 14))),
    *over("maxvit_block", maxvit_block, {"width": 9, "window": 3}, lengths=square((6, 9))),
    *over("maxvit_grid", maxvit_grid, {"height": 14, "width": 7}, lengths=square((14, 7))),
    *over("maxvit_grid", maxvit_grid, {"height": 6, "width": 9, "grid": 3}, lengths=square((6, 9))),
    *over("clear", clear, {"width": 7, "radius": 3}, {"width": 7, "radius": 1}, lengths=square((6, 7))),
    *over(
        "clear", clear, {"width": 8, "radius": 4, "text": 5}, lengths=(Lengths(45, 45), Lengths(9, 45, 36))
    ),
)
