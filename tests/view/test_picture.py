from __future__ import annotations

import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import attnmask as am
from attnmask.errors import MaskError
from attnmask.tiles.count import partial_counts
from attnmask.view.picture import picture
from tests.view.tiled import tiled

BLUE, EMPTY = (0x00, 0x72, 0xB2), (0xF6, 0xF6, 0xF3)


def plot_of(path: Path) -> npt.NDArray[Any]:
    """The pixels inside the frame of a square picture, uint8 RGB: found as the box of all cell colours."""
    from matplotlib.image import imread

    pixels = (imread(path)[..., :3] * 255).round().astype(np.uint8)
    # The plot is the largest area that is not white; the legend lies below it, text above.
    dark_rows = np.flatnonzero((pixels < 250).any(axis=2).mean(axis=1) > 0.7)
    dark_cols = np.flatnonzero((pixels < 250).any(axis=2).mean(axis=0) > 0.6)
    return pixels[dark_rows[0] : dark_rows[-1] + 1, dark_cols[0] : dark_cols[-1] + 1]


def colour_at(plot: npt.NDArray[Any], row: float, col: float) -> tuple[int, ...]:
    """The colour at a share of the height and of the width."""
    pixel = plot[int(row * plot.shape[0]), int(col * plot.shape[1])]
    return tuple(int(channel) for channel in pixel)


def test_png_shows_full_partial_and_empty(tmp_path: Path) -> None:
    mask = tiled("causal", 64, block=16)
    picture(tmp_path / "mask.png", mask.tiles, mask.counts, text="causal")
    assert (tmp_path / "mask.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    plot = plot_of(tmp_path / "mask.png")
    for row in range(4):
        for col in range(4):
            seen = colour_at(plot, (row + 0.5) / 4, (col + 0.5) / 4)
            if row > col:
                assert seen == BLUE
            elif row < col:
                assert seen == EMPTY
            else:
                assert seen[0] > 200 > seen[2], "partial tiles are orange"


def test_denser_partial_tiles_are_darker(tmp_path: Path) -> None:
    mask = tiled("k < 1 | k >= 16 & k < 24 | k >= 32 & k < 47", 64, block=16)
    picture(tmp_path / "mask.png", mask.tiles, mask.counts)
    plot = plot_of(tmp_path / "mask.png")
    sparse, half, dense, empty = (sum(colour_at(plot, 0.6, (tile + 0.5) / 4)) for tile in range(4))
    assert empty > sparse > half > dense


def test_svg_is_xml_and_the_same_each_time(tmp_path: Path) -> None:
    mask = tiled("causal", 64, block=16)
    for name in ("one.svg", "two.svg"):
        picture(tmp_path / name, mask.tiles, mask.counts, text="causal & $x")
    assert ET.parse(tmp_path / "one.svg").getroot().tag.endswith("svg")
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


def test_a_million_tokens_are_few_cells_and_none_is_lost(tmp_path: Path) -> None:
    mask, n = am.compile("causal & (window(512) | sink(4))"), 1 << 20
    tiles = mask.tiles(n)
    raster = picture(tmp_path / "mask.png", tiles, partial_counts(tiles))
    assert raster.attended.shape == (512, 512)
    plot = plot_of(tmp_path / "mask.png")
    for share in np.linspace(0.05, 0.95, 19):
        row = plot[int(share * plot.shape[0])].astype(int)
        orange = row[:, 0] - row[:, 2] > 60
        middle = int(share * plot.shape[1])
        assert orange[middle - 3 : middle + 4].any(), "the window is a line of 2 pixels"
        assert orange[:5].any(), "and so are the sinks"
        assert orange.sum() < 12


@pytest.mark.parametrize(("q_len", "kv_len"), [(1, 1), (1, 4096), (4096, 1), (1000, 300), (16, 8192)])
def test_any_shape_can_be_drawn(tmp_path: Path, q_len: int, kv_len: int) -> None:
    mask = am.compile("causal | k < 100")
    tiles = mask.tiles(q_len, kv_len, block=(16, 128), q_offset=3)
    picture(tmp_path / "mask.png", tiles, partial_counts(tiles), text="causal | k < 100 $ " * 30)
    assert (tmp_path / "mask.png").stat().st_size > 1000


@pytest.mark.parametrize(
    ("name", "message"),
    [("mask.gif", "kind of picture"), ("mask", "kind of picture"), ("no/mask.png", "no folder")],
)
def test_a_target_that_cannot_be(tmp_path: Path, name: str, message: str) -> None:
    mask = tiled("causal", 8, block=4)
    with pytest.raises(MaskError, match=message):
        picture(tmp_path / name, mask.tiles, mask.counts)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_of_that_name(tmp_path: Path) -> None:
    (tmp_path / "mask.png").mkdir()
    mask = tiled("causal", 8, block=4)
    with pytest.raises(MaskError, match="is a folder"):
        picture(tmp_path / "mask.png", mask.tiles, mask.counts)


def test_without_matplotlib_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    mask = tiled("causal", 8, block=4)
    with pytest.raises(MaskError) as caught:
        picture(tmp_path / "mask.png", mask.tiles, mask.counts)
    assert caught.value.hint == 'pip install "attnmask[viz]"'
