from __future__ import annotations

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.console import Console

from attnmask.tiles.count import PartialCounts
from attnmask.view.raster import rasterise
from attnmask.view.terminal import ASCII, BLOCKS, Heatmap, glyphs_for, heat_lines, shade_levels
from tests.view.tiled import Tiled, tiled

ANSI = re.compile(r"\x1b\[[0-9;]*m")


def printed(
    mask: Tiled, *, text: str = "", width: int = 80, encoding: str = "utf-8", **options: object
) -> str:
    """What a pipe (or with `force_terminal=True` a terminal) receives."""
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding=encoding, write_through=True)
    console = Console(file=file, width=width, highlight=False, **options)  # type: ignore[arg-type]
    console.print(Heatmap(mask.tiles, mask.counts, text))
    return raw.getvalue().decode(encoding)


# Tiles of 2 x 2 on the diagonal of `causal` hold 3 pairs of 4: two thirds and more, not all.
CAUSAL_8 = """\
causal
8 × 8 tokens · density 56.2 %
tiles of 2 × 2: 6 full, 4 partial, 6 empty
q\\k  0
    ┌┴───────┐
  0 ┤▓▓      │
    │██▓▓    │
    │████▓▓  │
    │██████▓▓│
    └────────┘
██ all  ▓▓ ≥ 2/3  ▒▒ ≥ 1/3  ░░ some  · a cell is 2 × 2 tokens
"""

# Tiles of 4 queries by 2 keys, two of them to a cell, so that cells are square. Queries per key 0..7:
#   q = 0..3: 4 3 2 1 | 0 0 0 0    10 of 16 pairs, and none
#   q = 4..7: 4 0 1 2 | 3 3 2 1     7 of 16, and 9 of 16: all three between one and two thirds
SINK_8 = """\
causal & (window(3) | sink(1))
8 × 8 tokens · density 40.6 %
tiles of 4 × 2: 0 full, 6 partial, 2 empty
q\\k  0
    ┌┴───┐
  0 ┤▒▒  │
    │▒▒▒▒│
    └────┘
██ all  ▓▓ ≥ 2/3  ▒▒ ≥ 1/3  ░░ some  · a cell is 4 × 4 tokens
"""

# Rows see 13, 14, 15 and 16 of 16 keys.
OFFSET_4 = """\
4 × 16 tokens · queries from 12 · density 90.6 %
tiles of 1 × 1: 58 full, 0 partial, 6 empty
q\\k  0       4       8       12
    ┌┴───────┴───────┴───────┴───────┐
 12 ┤██████████████████████████      │
    │████████████████████████████    │
    │██████████████████████████████  │
    │████████████████████████████████│
    └────────────────────────────────┘
██ all  ▓▓ ≥ 2/3  ▒▒ ≥ 1/3  ░░ some  · a cell is 1 × 1 tokens
"""


def test_golden_causal() -> None:
    assert printed(tiled("causal", 8, block=2), text="causal") == CAUSAL_8


def test_golden_window_and_sink() -> None:
    text = "causal & (window(3) | sink(1))"
    assert printed(tiled(text, 8, block=(4, 2)), text=text) == SINK_8


def test_golden_offset() -> None:
    assert printed(tiled("causal", 4, 16, block=1, offset=12)) == OFFSET_4


def test_golden_in_ascii() -> None:
    expected = CAUSAL_8.translate(str.maketrans("█▓▒░×·┌┐└┘─│┴┤", "#*:.x|++++-|++")).replace("≥", ">=")
    assert printed(tiled("causal", 8, block=2), text="causal", encoding="ascii") == expected


@pytest.mark.parametrize(
    ("encoding", "glyphs"), [("utf-8", BLOCKS), ("cp437", ASCII), ("latin-1", ASCII), ("?", ASCII)]
)
def test_glyphs_are_what_the_stream_can_encode(encoding: str, glyphs: object) -> None:
    assert glyphs_for(encoding) is glyphs


@given(
    text=st.sampled_from(
        ["causal & sink(1)", "diagonal", "(q + k) % 5 == 0", "all", "~diagonal", "same(i // 9)"]
    ),
    length=st.integers(1, 80),
    block=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    most=st.integers(1, 12),
)
def test_something_is_never_blank_and_only_everything_is_solid(
    text: str, length: int, block: tuple[int, int], most: int
) -> None:
    mask = tiled(text, length, block=block)
    raster = rasterise(mask.tiles, mask.counts, max_rows=most, max_cols=most)
    (q_cell, k_cell), levels = raster.cell, shade_levels(raster)
    for row, line in enumerate(levels):
        for col, level in enumerate(line):
            cell = mask.dense[0, row * q_cell : (row + 1) * q_cell, col * k_cell : (col + 1) * k_cell]
            share = cell.mean()
            assert (level == 0) == (not cell.any())
            assert (level == 4) == cell.all()
            assert level < 4 or share == 1
            assert (level == 3) == (2 / 3 <= share < 1)


@pytest.mark.parametrize("width", [20, 33, 40, 80, 100, 160, 300])
@pytest.mark.parametrize(
    ("q_len", "kv_len"), [(1, 1), (100, 100), (4096, 4096), (16, 65536), (1 << 17, 1 << 17)]
)
def test_fits_the_width_and_stays_a_sane_size(width: int, q_len: int, kv_len: int) -> None:
    mask = _wide(q_len, kv_len)
    lines = printed(mask, text="causal & (window(512) | sink(4))", width=width).splitlines()
    assert max(map(cell_len, lines)) <= width
    framed = [line for line in lines if line.endswith("│")]
    assert 1 <= len(framed) <= 48
    assert max(len(line) for line in framed) <= 2 * 64 + 12


def _wide(q_len: int, kv_len: int) -> Tiled:
    """As `tiled`, without the dense mask, which would be large."""
    import numpy as np

    import attnmask as am
    from attnmask.tiles.count import partial_counts

    mask = am.compile("causal & (window(512) | sink(4))")
    tiles = mask.tiles(q_len, kv_len)
    return Tiled(tiles, partial_counts(tiles), np.zeros((1, 0, 0), np.bool_))


def test_lines_of_a_heatmap_align() -> None:
    mask = _wide(1 << 17, 1 << 17)
    raster = rasterise(mask.tiles, mask.counts, max_rows=32, max_cols=32)
    lines = [line.plain for line in heat_lines(raster, BLOCKS)]
    assert len({len(line) for line in lines[1:]}) == 1
    assert lines[0].split() == ["q\\k", "0", "16k", "32k", "48k", "64k", "80k", "96k", "112k"]
    assert [line.split()[0] for line in lines[2:-1:4]] == [
        "0",
        "16k",
        "32k",
        "48k",
        "64k",
        "80k",
        "96k",
        "112k",
    ]
    for label, column in (("0", 0), ("64k", 32), ("112k", 56)):
        assert lines[0].index(f" {label}") + 1 == lines[1].index("┌") + 1 + column
        assert lines[1][lines[1].index("┌") + 1 + column] == "┴"


def test_colour_only_where_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    mask = tiled("causal", 8, block=2)
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    terminal = printed(mask, force_terminal=True, color_system="truecolor")
    assert "\x1b[38;2;86;180;233m██" in terminal  # full tiles
    assert "\x1b[38;2;230;159;0m▓▓" in terminal  # partial tiles
    assert ANSI.sub("", terminal) == CAUSAL_8.removeprefix("causal\n")
    assert "\x1b" not in printed(mask)
    monkeypatch.setenv("NO_COLOR", "1")
    assert "38;2" not in printed(mask, force_terminal=True, color_system="truecolor")


def test_a_sampled_count_is_said_to_be_one() -> None:
    mask = tiled("causal", 8, block=2)
    console = Console(file=io.StringIO(), width=80)
    console.print(Heatmap(mask.tiles, PartialCounts(mask.counts.values, sampled=True)))
    assert "sampled" in console.file.getvalue()  # type: ignore[attr-defined]
    assert "sampled" not in printed(mask)


def test_planes_are_named_when_there_are_several() -> None:
    mask = tiled("heads(:1) & causal | heads(1:) & all", 4, block=1, heads=2)
    console = Console(file=io.StringIO(), width=80)
    console.print(Heatmap(mask.tiles, mask.counts, h=1))
    out = console.file.getvalue()  # type: ignore[attr-defined]
    assert "head 1" in out
    assert "density 100 %" in out
    assert "head" not in printed(tiled("causal", 4, block=1))
