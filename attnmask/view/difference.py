"""Two masks as a heatmap of two colours: `rich.print(DifferenceMap(...))`. Letters tell without colour."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from rich.console import Console, ConsoleOptions, RenderResult
from rich.text import Text

from attnmask.plan.difference import Difference, Side
from attnmask.view.raster import Ints, Raster, rasterise
from attnmask.view.terminal import Glyphs, frame_size, framed, glyphs_for

# Nothing, both masks alike, only the first, only the second, either at different places of a cell.
NOTHING, ALIKE, FIRST, SECOND, EITHER = range(5)
# Blue and orange of Okabe and Ito, and their reddish purple.
COLOURS = ("", "bright_black", "#56b4e9", "#e69f00", "#cc79a7")
LETTERS = ("  ", "··", "AA", "BB", "AB")


@dataclass(frozen=True, slots=True, eq=False)
class DifferenceMap:
    """A renderable of rich: where A and B differ, as many cells as the console has room for."""

    difference: Difference

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        glyphs = glyphs_for(console.encoding)
        rows, cols = frame_size(console, options)
        raster, kinds = cells(self.difference, rows, cols, same_scale=True)
        letters = _letters(glyphs)
        styled = ([(letters[kind], COLOURS[kind]) for kind in row] for row in kinds.tolist())
        yield from framed(raster, glyphs, styled)
        yield _legend(raster, glyphs)


def cells(difference: Difference, max_rows: int, max_cols: int, *, same_scale: bool) -> tuple[Raster, Ints]:
    """The grid of cells, and the kind of each: int64 [rows, cols]."""

    def raster(side: Side) -> Raster:
        return rasterise(
            side.tiles,
            side.counts,
            b=difference.b,
            h=difference.h,
            max_rows=max_rows,
            max_cols=max_cols,
            same_scale=same_scale,
        )

    both, first, second = (
        raster(side) for side in (difference.both, difference.only_first, difference.only_second)
    )
    kinds = np.where(both.attended > 0, ALIKE, NOTHING)
    kinds = np.where(first.attended > 0, FIRST, kinds)
    kinds = np.where(second.attended > 0, np.where(first.attended > 0, EITHER, SECOND), kinds)
    return both, kinds.astype(np.int64)


def _letters(glyphs: Glyphs) -> tuple[str, ...]:
    return tuple(letters.replace("·", glyphs.dot) for letters in LETTERS)


def _legend(raster: Raster, glyphs: Glyphs) -> Text:
    legend, letters = Text(), _letters(glyphs)
    for kind, says in ((FIRST, "only A"), (SECOND, "only B"), (EITHER, "each somewhere"), (ALIKE, "alike")):
        legend.append(letters[kind], style=COLOURS[kind]).append(f" {says}  ")
    q, k = raster.cell
    return legend.append(f"{glyphs.dot} a cell is {q} {glyphs.times} {k} tokens")
