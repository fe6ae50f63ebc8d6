"""Where blocks are cut: every level covers all positions, in parts of one or two, ever smaller."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnmask.tiles import cuts as module
from attnmask.tiles.cuts import SMALL, Cuts, jumps


@given(st.integers(1, 700), st.integers(1, 300), st.integers(0, 2**32), st.sampled_from([2, 3, 10**6]))
def test_parts_cover_an_axis_on_every_level(length: int, block: int, seed: int, high: int) -> None:
    values = np.random.default_rng(seed).integers(0, high, length)
    cuts = Cuts(length, block, jumps([values, np.arange(length) % 50], length))
    above = cuts.edges(0)
    assert above.tolist() == [*range(0, length, block), length]
    for level in range(-1, -40, -1):
        cut = cuts.cut(level)
        assert cut.edges.tolist() == sorted(set(cut.edges.tolist()) | set(above.tolist()))
        np.testing.assert_array_equal(cut.edges[cut.first], above)
        whole = np.diff(above) <= SMALL
        np.testing.assert_array_equal(np.diff(cut.first), np.where(whole, 1, 2))
        above = cut.edges
        if np.diff(above).max() <= SMALL:
            break
    assert np.diff(above).max() <= SMALL


def test_the_first_cuts_go_to_the_ends_of_lines() -> None:
    width, length = 50, 1000
    cuts = Cuts(length, 128, jumps([np.arange(length) % width, np.arange(length) // width], length))
    lines = set(range(width, length, width))
    inside = {end for end in lines if end % 128}
    found = set(cuts.edges(-3).tolist()) - set(cuts.edges(0).tolist())
    assert inside <= found


def test_long_axes_are_cut_in_portions_like_short_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(1).integers(0, 1000, 5000)

    def edges() -> list[int]:
        return list(Cuts(5000, 100, jumps([values], 5000)).edges(-4))

    whole = edges()
    monkeypatch.setattr(module, "_PORTION", 300)
    assert edges() == whole
