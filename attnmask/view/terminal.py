"""A mask as a heatmap of characters: `rich.print(Heatmap(...))`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import astuple, dataclass

from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from attnmask.ir.text import one_line
from attnmask.plan.figures import percent
from attnmask.tiles.count import PartialCounts
from attnmask.tiles.tilemap import TileMap
from attnmask.view.labels import position
from attnmask.view.raster import Raster, rasterise

_MOST_COLS = 64
_MOST_ROWS = 48
_FEWEST_ROWS = 32  # a low window scrolls sooner than it coarsens the picture further
_LINES_AROUND = 8  # header, axis, frame, legend, prompt
_MARGIN = 12  # the widest position label, a space and the frame
_CORNER = "q\\k"
_FULL, _PART = (
    "#56b4e9",
    "#e69f00",
)  # sky blue and orange of Okabe and Ito: told apart by the colour-blind too


@dataclass(frozen=True, slots=True)
class Glyphs:
    """The characters of a heatmap: shades from nothing to full, the frame, and signs for the text."""

    shades: str
    corners: str  # top left, top right, bottom left, bottom right
    across: str
    down: str
    tick_across: str
    tick_down: str
    times: str
    dot: str
    at_least: str


BLOCKS = Glyphs(" ░▒▓█", "┌┐└┘", "─", "│", "┴", "┤", "×", "·", "≥")
ASCII = Glyphs(" .:*#", "++++", "-", "|", "+", "+", "x", "|", ">=")


def glyphs_for(encoding: str) -> Glyphs:
    """Block characters where the stream can encode them, else ASCII."""
    try:
        "".join(astuple(BLOCKS)).encode(encoding)
    except (UnicodeEncodeError, LookupError):
        return ASCII
    return BLOCKS


@dataclass(frozen=True, slots=True, eq=False)
class Heatmap:
    """A renderable of rich: plane (b, h) of a tile map, as many cells as the console has room for.

    `counts` are those of the tile map, `text` is the mask, for the header.
    """

    tile_map: TileMap
    counts: PartialCounts
    text: str = ""
    b: int = 0
    h: int = 0

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        glyphs = glyphs_for(console.encoding)
        width = options.max_width
        rows, cols = frame_size(console, options)
        raster = rasterise(
            self.tile_map, self.counts, b=self.b, h=self.h, max_rows=rows, max_cols=cols, same_scale=True
        )
        if self.text:
            yield Text(one_line(self.text, 4 * width), style="bold")
        yield Text(f" {glyphs.dot} ".join((*_header(raster, glyphs), *self._plane())))
        yield Text(_tiles(raster, glyphs))
        yield from heat_lines(raster, glyphs)
        yield _legend(raster, glyphs)
        if raster.sampled:
            yield Text("densities are estimates: the partial tiles were sampled")

    def _plane(self) -> Iterator[str]:
        batch, heads = self.tile_map.plane_of.shape
        if batch > 1:
            yield f"batch row {self.b}"
        if heads > 1:
            yield f"head {self.h}"


def frame_size(console: Console, options: ConsoleOptions) -> tuple[int, int]:
    """The most rows and columns of cells that a console has room for."""
    rows = max(_FEWEST_ROWS, min(_MOST_ROWS, console.height - _LINES_AROUND))
    return rows, max(1, min(_MOST_COLS, (options.max_width - _MARGIN) // 2))


def _header(raster: Raster, glyphs: Glyphs) -> Iterator[str]:
    yield f"{raster.q_len} {glyphs.times} {raster.kv_len} tokens"
    if raster.q_offset:
        yield f"queries from {raster.q_offset}"
    yield f"density {percent(raster.total_density)}"


def _tiles(raster: Raster, glyphs: Glyphs) -> str:
    counts = f"{raster.full.sum()} full, {raster.partial.sum()} partial, {raster.empty.sum()} empty"
    return f"tiles of {raster.block[0]} {glyphs.times} {raster.block[1]}: {counts}"


def heat_lines(raster: Raster, glyphs: Glyphs) -> Iterator[Text]:
    """The framed grid, two characters a cell, with the positions of keys above and of queries on the left."""
    rows = (
        [
            (glyphs.shades[level] * 2, _FULL if blue else _PART)
            for level, blue in zip(levels, full, strict=True)
        ]
        for levels, full in zip(shade_levels(raster), raster.all_full, strict=True)
    )
    yield from framed(raster, glyphs, rows)


def framed(raster: Raster, glyphs: Glyphs, rows: Iterable[Sequence[tuple[str, str]]]) -> Iterator[Text]:
    """Rows of cells, each two characters and a style, in a frame with positions."""
    every = _tick_every(raster)
    starts = [raster.q_offset + row * raster.cell[0] for row in range(raster.rows)]
    names = [position(start) if row % every == 0 else "" for row, start in enumerate(starts)]
    gutter = max(len(_CORNER), *map(len, names))
    yield Text(f"{_CORNER:>{gutter}}  {_column_names(raster, every)}".rstrip(), no_wrap=True)
    top = "".join(
        (glyphs.tick_across if col % every == 0 else glyphs.across) + glyphs.across
        for col in range(raster.cols)
    )
    yield Text(f"{'':{gutter}} {glyphs.corners[0]}{top}{glyphs.corners[1]}", no_wrap=True)
    for name, row in zip(names, rows, strict=True):
        line = Text(f"{name:>{gutter}} {glyphs.tick_down if name else glyphs.down}", no_wrap=True)
        for characters, style in row:
            line.append(characters, style=style)
        yield line.append(glyphs.down)
    bottom = glyphs.across * (2 * raster.cols)
    yield Text(f"{'':{gutter}} {glyphs.corners[2]}{bottom}{glyphs.corners[3]}", no_wrap=True)


def shade_levels(raster: Raster) -> list[list[int]]:
    """Per cell 0 (nothing attended), 1 (something), 2 (a third), 3 (two thirds) or 4 (everything)."""
    attended, area = raster.attended, raster.area
    levels = (attended > 0).astype(int) + (3 * attended >= area) + (3 * attended >= 2 * area) + raster.filled
    rows: list[list[int]] = levels.tolist()
    return rows


def _tick_every(raster: Raster) -> int:
    """Cells from tick to tick: a power of two that leaves room for the longest label and a gap."""
    longest = max(len(position(col * raster.cell[1])) for col in range(raster.cols))
    every = 4
    while 2 * every < longest + 2:
        every *= 2
    return every


def _column_names(raster: Raster, every: int) -> str:
    width = 2 * raster.cols
    line = ""
    for col in range(0, raster.cols, every):
        name = position(col * raster.cell[1])
        if 2 * col + len(name) <= width or col == 0:
            line = line.ljust(2 * col) + name
    return line


def _legend(raster: Raster, glyphs: Glyphs) -> Text:
    legend = Text()
    marks = ("", "some", f"{glyphs.at_least} 1/3", f"{glyphs.at_least} 2/3", "all")
    for level in (4, 3, 2, 1):
        legend.append(glyphs.shades[level] * 2, style=_FULL if level == 4 else _PART).append(
            f" {marks[level]}  "
        )
    q, k = raster.cell
    return legend.append(f"{glyphs.dot} a cell is {q} {glyphs.times} {k} tokens")
