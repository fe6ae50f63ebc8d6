"""Masks of neighbourhoods in pictures and videos: coordinates of tokens in several orders, drawn by hypothesis."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

import attnmask as am

Shape = tuple[int, ...]


def raster(shape: Shape, position: str) -> list[str]:
    """Coordinates, slowest first, of tokens in raster order, as texts in the given position."""
    strides = [prod(shape[axis + 1 :]) for axis in range(len(shape))]
    return [f"{position} // {stride} % {size}" for stride, size in zip(strides, shape, strict=True)]


def tiled(shape: Shape, position: str, tile: int) -> list[str]:
    """The same of tokens ordered tile by tile, in tiles of tile × tile (× tile)."""
    volume = tile ** len(shape)
    outer = raster(tuple(size // tile for size in shape), f"{position} // {volume}")
    inner = raster((tile,) * len(shape), f"({position} % {volume})")
    return [f"({a}) * {tile} + {b}" for a, b in zip(outer, inner, strict=True)]


def morton(n_axes: int, position: str, bits: int) -> list[str]:
    """The same along a Z-curve: every n-th bit belongs to one axis."""
    coordinates = []
    for axis in reversed(range(n_axes)):
        places = [n_axes * bit + axis for bit in range(bits)]
        parts = [f"({position} & {1 << place}) // {1 << place - bit}" for bit, place in enumerate(places)]
        coordinates.append(" + ".join(parts))
    return coordinates


def tables(shape: Shape, order: NDArray[Any]) -> dict[str, NDArray[Any]]:
    """Tables c0, c1, … of coordinates, for tokens that visit the raster positions in the given order."""
    grid = np.indices(shape).reshape(len(shape), -1)
    return {f"c{axis}": grid[axis][order] for axis in range(len(shape))}


def serpentine(shape: Shape) -> NDArray[Any]:
    """Raster positions in an order that turns round at the end of each line."""
    lines = np.arange(prod(shape)).reshape(-1, shape[-1])
    lines[1::2] = lines[1::2, ::-1]
    return lines.ravel()


def neighbourhood(kind: str, queries: list[str], keys: list[str], shape: Shape, radius: int) -> str:
    """Which keys a query sees: cut off at the edges, moved inward there, or in a ball."""
    if kind == "ball":
        squares = [f"({q} - ({k})) * ({q} - ({k}))" for q, k in zip(queries, keys, strict=True)]
        return f"{' + '.join(squares)} < {radius * radius + 1}"
    if kind == "inward":
        queries = [
            f"min(max({q}, {radius}), {size - 1 - radius})" for q, size in zip(queries, shape, strict=True)
        ]
    return " & ".join(f"abs({q} - ({k})) <= {radius}" for q, k in zip(queries, keys, strict=True))


@dataclass(frozen=True)
class GridCase:
    """A mask of a neighbourhood and the number of its tokens."""

    text: str
    tables: dict[str, NDArray[Any]]
    tokens: int

    @property
    def mask(self) -> am.Mask:
        return am.compile(self.text, **self.tables)


def grid_case(shape: Shape, order: str, kind: str, radius: int) -> GridCase:
    bound: dict[str, NDArray[Any]] = {}
    match order:
        case "raster":
            queries, keys = raster(shape, "q"), raster(shape, "k")
        case "tiled":
            queries, keys = tiled(shape, "q", 2), tiled(shape, "k", 2)
        case "morton":
            bits = (shape[0] - 1).bit_length()
            queries, keys = morton(len(shape), "q", bits), morton(len(shape), "k", bits)
        case _:
            visits = {
                "table": np.arange(prod(shape)),
                "serpentine": serpentine(shape),
                "shuffled": np.random.default_rng(3).permutation(prod(shape)),
            }
            bound = tables(shape, visits[order])
            queries = [f"c{axis}[q]" for axis in range(len(shape))]
            keys = [f"c{axis}[k]" for axis in range(len(shape))]
    text = neighbourhood(kind, [f"({q})" for q in queries], keys, shape, radius)
    return GridCase(text, bound, prod(shape))


ORDERS = ("raster", "tiled", "morton", "table", "serpentine", "shuffled")


@st.composite
def grid_cases(draw: st.DrawFn) -> GridCase:
    order = draw(st.sampled_from(ORDERS))
    n_axes = draw(st.integers(1, 3))
    most = {1: 400, 2: 22, 3: 7}[n_axes]
    match order:
        case "morton":
            shape: Shape = (draw(st.sampled_from([2, 4, 8, 16][: 5 - n_axes])),) * n_axes
        case "tiled":
            shape = tuple(2 * draw(st.integers(1, most // 2)) for _ in range(n_axes))
        case _:
            shape = tuple(draw(st.integers(2, most)) for _ in range(n_axes))
    kind = draw(st.sampled_from(["cut", "inward", "ball"]))
    return grid_case(shape, order, kind, draw(st.integers(0, 4)))
