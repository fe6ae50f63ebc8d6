"""A mask as a PNG or SVG file, drawn by matplotlib (the `viz` extra)."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from attnmask.errors import MaskError
from attnmask.plan.difference import Difference
from attnmask.tiles.count import PartialCounts
from attnmask.tiles.tilemap import TileMap
from attnmask.view.raster import Raster, rasterise

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".svg")

_MOST_CELLS = 512  # two pixels each at least, so that a line of single cells can be seen


def check_target(path: str | Path) -> Path:
    """The path as given, once it is certain that a picture can be drawn and that its folder is there.

    Raises `MaskError` for another suffix than .png or .svg, a missing folder, or a missing matplotlib.
    """
    if not isinstance(path, str | PathLike):
        raise MaskError(f"a picture goes into a file, and its path is not {type(path).__name__}")
    target = Path(path)
    if target.suffix.lower() not in SUFFIXES:
        message = f"'{target.name}' does not say which kind of picture it is"
        raise MaskError(message, hint="end the file name in .png or .svg")
    if not target.parent.is_dir():
        raise MaskError(f"there is no folder '{target.parent}' to put the picture in", hint="create it first")
    if target.is_dir():
        raise MaskError(f"'{target}' is a folder", hint="give the name of a file")
    try:
        import matplotlib.figure  # noqa: F401 - only to learn, before any work is done, whether it is there
    except ImportError as error:
        raise MaskError("pictures need matplotlib", hint='pip install "attnmask[viz]"') from error
    return target


def picture(
    path: str | Path,
    tile_map: TileMap,
    counts: PartialCounts,
    *,
    text: str = "",
    b: int = 0,
    h: int = 0,
) -> Raster:
    """Draw plane (b, h) of a tile map to a .png or .svg file and return the cells that were drawn.

    Axes are in tokens, queries downwards. A cell is one tile, or an area of tiles where there are more than
    512 a side. `counts` are those of the tile map, `text` is the mask, for the title. Raises `MaskError` when
    the file cannot be written or matplotlib is missing.
    """
    target = check_target(path)
    from attnmask.view.picture.figure import draw

    raster = rasterise(tile_map, counts, b=b, h=h, max_rows=_MOST_CELLS, max_cols=_MOST_CELLS)
    batch, heads = tile_map.plane_of.shape
    plane = [f"batch row {b}"] * (batch > 1) + [f"head {h}"] * (heads > 1)
    _save(draw(raster, text=text, plane=plane), target)
    return raster


def difference_picture(path: str | Path, difference: Difference, texts: Sequence[str]) -> None:
    """Draw where two masks differ to a .png or .svg file; `texts` are theirs. Raises as `picture` does."""
    target = check_target(path)
    from attnmask.view.difference import cells
    from attnmask.view.picture.figure import draw_difference

    raster, kinds = cells(difference, _MOST_CELLS, _MOST_CELLS, same_scale=False)
    pairs = difference.pairs
    note = f"{raster.q_len} × {raster.kv_len} tokens · {pairs['both']:,} pairs in both"
    note += f" · {pairs['only_first']:,} only in A · {pairs['only_second']:,} only in B"
    titles = [f"{name}: {text}" for name, text in zip("AB", texts, strict=True)]
    _save(draw_difference(raster, kinds, texts=titles, note=note), target)


def _save(figure: Figure, target: Path) -> None:
    import matplotlib

    svg = target.suffix.lower() == ".svg"
    with warnings.catch_warnings(), matplotlib.rc_context({"svg.hashsalt": "attnmask"}):
        warnings.filterwarnings(
            "ignore", message="Glyph", category=UserWarning
        )  # a script that the font lacks
        try:
            # Neither a date nor random names in an SVG: the same mask gives the same bytes.
            figure.savefig(target, metadata={"Date": None} if svg else None)
        except OSError as error:
            raise MaskError(f"cannot write '{target}': {error.strerror or error}") from error
