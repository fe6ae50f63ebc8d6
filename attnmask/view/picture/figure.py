"""The drawing itself: one figure of matplotlib from one raster. Lengths are in inches, positions in tokens.

`picture` imports this module inside a function, because matplotlib is an extra.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from attnmask.ir.text import one_line
from attnmask.plan.figures import percent
from attnmask.view.difference import ALIKE, EITHER, FIRST, NOTHING, SECOND
from attnmask.view.labels import position
from attnmask.view.raster import Floats, Ints, Raster

_LONG_SIDE, _SHORTEST_SIDE = 6.4, 0.8
_LEFT, _RIGHT, _BELOW, _ABOVE, _LINE = 0.95, 0.4, 1.15, 0.55, 0.22
_NARROWEST = 6.0  # room for title and legend beside a narrow plot
_LEAST_DPI = 160
_MOST_GRID_TILES = 64  # more lines than this would be a grey veil
_TITLE_WIDTH, _TITLE_LINES = 62, 3
_MOST_TICKS = 8

# Blue and orange of Okabe and Ito: told apart by the colour-blind, and in grey by their lightness.
_FULL, _EMPTY, _GRID, _INK, _SOFT = "#0072b2", "#f6f6f3", "#d5d5d0", "#222222", "#5a5a5a"
# Neither mask, both alike, only the first, only the second, either.
_DIFFERENCE = (_EMPTY, "#b9b9b4", _FULL, "#e69f00", "#882255")
_PARTIAL = LinearSegmentedColormap.from_list("partial", ["#fbd590", "#f0a030", "#b84a08"])

Legend = list[tuple[str, list[Any]]]


def draw(raster: Raster, *, text: str, plane: list[str]) -> Figure:
    """The cells of a raster, axes in tokens, a block grid when tiles are few, title, counts and legend."""
    ramp = [_PARTIAL(step / 7) for step in range(8)]
    legend: Legend = [("full", [_FULL]), ("partial, sparse to dense", ramp), ("empty", [_EMPTY])]
    return _drawn(raster, _colours(raster), [text], _counts(raster, plane), legend)


def draw_difference(raster: Raster, kinds: Ints, *, texts: Sequence[str], note: str) -> Figure:
    """Likewise where two masks differ; `kinds`, int64 [rows, cols], are those of `view.difference`."""
    names = {FIRST: "only A", SECOND: "only B", EITHER: "each somewhere", ALIKE: "alike", NOTHING: "neither"}
    colours = np.array([to_rgb(_DIFFERENCE[kind]) for kind in range(len(_DIFFERENCE))])[kinds]
    legend: Legend = [(name, [_DIFFERENCE[kind]]) for kind, name in names.items()]
    return _drawn(raster, colours, texts, note, legend)


def _drawn(raster: Raster, colours: Floats, texts: Sequence[str], note: str, legend: Legend) -> Figure:
    width, height = _plot_size(raster)
    headline = [line for text in texts for line in _wrapped(text, _TITLE_LINES if len(texts) == 1 else 2)]
    total = max(_LEFT + width + _RIGHT, _NARROWEST), _BELOW + height + _ABOVE + _LINE * len(headline)
    figure = Figure(figsize=total, dpi=_dpi(raster, width), facecolor="white")
    axes = figure.add_axes((_LEFT / total[0], _BELOW / total[1], width / total[0], height / total[1]))
    _cells(axes, raster, colours)
    _grid(axes, raster)
    _ticks(axes, raster)
    _headings(figure, headline, note, total[1])
    _legend(figure, raster, legend)
    return figure


def _wrapped(text: str, lines: int) -> list[str]:
    line = one_line(text, _TITLE_WIDTH * lines)
    return textwrap.wrap(line, _TITLE_WIDTH, max_lines=lines, placeholder=" ...", break_on_hyphens=False)


def _plot_size(raster: Raster) -> tuple[float, float]:
    """Width and height of the plot: to scale, unless one side would be too short to see."""
    longest = max(raster.q_len, raster.kv_len)
    sides = (_LONG_SIDE * raster.kv_len / longest, _LONG_SIDE * raster.q_len / longest)
    return max(sides[0], _SHORTEST_SIDE), max(sides[1], _SHORTEST_SIDE)


def _dpi(raster: Raster, width: float) -> float:
    """A resolution at which a cell is a whole number of pixels wide: none is dropped or doubled."""
    cells = raster.kv_len / raster.cell[1]
    return cells * math.ceil(_LEAST_DPI * width / cells) / width


def _cells(axes: Axes, raster: Raster, colours: Floats) -> None:
    bottom = raster.q_offset + raster.rows * raster.cell[0]
    extent = (0, raster.cols * raster.cell[1], bottom, raster.q_offset)
    axes.imshow(colours, extent=extent, aspect="auto", interpolation="nearest")
    axes.set_xlim(0, raster.kv_len)  # cuts the last cell where the sequence ends
    axes.set_ylim(raster.q_offset + raster.q_len, raster.q_offset)


def _colours(raster: Raster) -> Floats:
    """RGB in 0..1 [rows, cols, 3]."""
    colours: Floats = np.asarray(_PARTIAL(raster.density))[..., :3]
    colours[raster.attended == 0] = to_rgb(_EMPTY)
    colours[raster.all_full] = to_rgb(_FULL)
    return colours


def _grid(axes: Axes, raster: Raster) -> None:
    (bq, bk), end = raster.block, raster.q_offset + raster.q_len
    if max(raster.q_len / bq, raster.kv_len / bk) > _MOST_GRID_TILES:
        return
    axes.hlines(np.arange(raster.q_offset + bq, end, bq), 0, raster.kv_len, colors=_GRID, linewidths=0.4)
    axes.vlines(np.arange(bk, raster.kv_len, bk), raster.q_offset, end, colors=_GRID, linewidths=0.4)


def _ticks(axes: Axes, raster: Raster) -> None:
    width, height = _plot_size(raster)
    across = _round_positions(0, raster.kv_len, width)
    down = _round_positions(raster.q_offset, raster.q_len, height)
    axes.set_xticks(across, [position(int(tick)) for tick in across])
    axes.set_yticks(down, [position(int(tick)) for tick in down])
    axes.tick_params(labelsize=8, color=_SOFT, labelcolor=_INK, length=3)
    axes.set_xlabel("key position (tokens)", fontsize=9, color=_INK)
    axes.set_ylabel("query position (tokens)" if height > 2 else "query", fontsize=9, color=_INK)
    axes.spines[:].set_visible(False)
    # The frame lies under the cells, so that it shows beside the outer ones and does not hide them.
    frame = Rectangle((0, 0), 1, 1, transform=axes.transAxes, clip_on=False, fill=False, edgecolor=_SOFT)
    axes.add_patch(frame).set(linewidth=1.2, zorder=-1)


def _round_positions(start: int, length: int, inches: float) -> npt.NDArray[np.int64]:
    """Multiples of a power of two in the range, about one for every 0.8 inches."""
    wanted = max(1, min(_MOST_TICKS, int(inches / 0.8)))
    step = 1 << max(0, math.ceil(math.log2(length / wanted)))
    return np.arange(-(-start // step) * step, start + length + 1, step, dtype=np.int64)


def _counts(raster: Raster, plane: list[str]) -> str:
    density = f"density {percent(raster.total_density)}" + " (sampled)" * raster.sampled
    parts = [f"{raster.q_len} × {raster.kv_len} tokens", *plane, density]
    tiles = f"{raster.full.sum()} full, {raster.partial.sum()} partial, {raster.empty.sum()} empty"
    parts.append(f"tiles of {raster.block[0]} × {raster.block[1]}: {tiles}")
    return " · ".join(parts)


def _headings(figure: Figure, headline: list[str], counts: str, height: float) -> None:
    for number, line in enumerate(headline):
        # parse_math off: a '$' in the text of a mask is no formula.
        place = 0.2, height - 0.2 - _LINE * number
        figure.text(*place, line, transform=figure.dpi_scale_trans, va="top", fontsize=11, family="monospace",
                    weight="bold", color=_INK, parse_math=False)  # fmt: skip
    place = 0.2, height - 0.2 - _LINE * len(headline)
    figure.text(*place, counts, transform=figure.dpi_scale_trans, va="top", fontsize=8.5, color=_SOFT)


def _legend(figure: Figure, raster: Raster, legend: Legend) -> None:
    """One row below the plot: what the colours say, and the size of a cell."""
    x, y, high = _LEFT, 0.3, 0.16
    for name, colours in legend:
        wide = 0.22 if len(colours) == 1 else 0.1
        for colour in colours:
            _swatch(figure, x, y, wide, high, colour, edge="none")
            x += wide
        whole = wide * len(colours)
        _swatch(figure, x - whole, y, whole, high, "none", edge=_SOFT)
        _note(figure, x + 0.08, y + high / 2, name)
        x += 0.36 + 0.058 * len(name)
    if raster.tiles_per_cell != (1, 1):
        _note(figure, x, y + high / 2, f"one cell: {raster.cell[0]} × {raster.cell[1]} tokens")


def _swatch(
    figure: Figure, x: float, y: float, wide: float, high: float, colour: object, *, edge: str
) -> None:
    box = Rectangle((x, y), wide, high, transform=figure.dpi_scale_trans, facecolor=colour, edgecolor=edge,
                    linewidth=0.5)  # fmt: skip
    figure.add_artist(box)


def _note(figure: Figure, x: float, y: float, text: str) -> None:
    figure.text(x, y, text, transform=figure.dpi_scale_trans, va="center_baseline", fontsize=8.5, color=_INK)
