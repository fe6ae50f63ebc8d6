"""What is easily got wrong about published masks: each sentence here is one that changes a mask."""

from __future__ import annotations

import numpy as np
import pytest

import attnmask as am
from attnmask import zoo


def keys(mask: am.Mask, q: int, n: int, **options: int) -> list[int]:
    """The keys that query q sees among n."""
    return [int(k) for k in np.flatnonzero(mask.dense(n, **options).reshape(-1, n)[q])]


def test_four_meanings_of_a_window() -> None:
    assert len(keys(zoo.mistral(window=4), 20, 40)) == 4
    assert len(keys(zoo.longformer(window=4, is_global="i < 0"), 20, 40)) == 2 * 4 + 1
    assert len(keys(zoo.streaming_llm(sinks=0, recent=4), 20, 40)) == 4
    in_a_row = [k for k in keys(zoo.clear(width=20, radius=4), 30, 60) if k // 20 == 1]
    assert in_a_row == [27, 28, 29, 30, 31, 32, 33]


def test_borders_are_cut_off_moved_inward_or_wrap() -> None:
    assert keys(zoo.longformer(window=2, is_global="i < 0"), 0, 16) == [0, 1, 2]
    assert keys(zoo.natten(window=5), 0, 16) == [0, 1, 2, 3, 4]
    assert keys(zoo.halonet(width=16, block=2, halo=1), 0, 16) == [0, 1, 2]
    rolled = zoo.longlora_roll(group=4).dense(16, heads=2)[0, 1]
    assert np.flatnonzero(rolled[1]).tolist() == [0, 1, 14, 15]
    # Swin wraps too, and then keeps apart what was not together.
    assert keys(zoo.swin(height=8, width=8, window=4, shift=2), 0, 64) == [0, 1, 8, 9]


def test_an_even_neighborhood_is_longer_on_the_left() -> None:
    assert keys(zoo.natten(window=4), 8, 16) == [6, 7, 8, 9]


@pytest.mark.parametrize("window", [2, 3, 6, 7])
@pytest.mark.parametrize("stride", [1, 2])
def test_every_row_of_a_neighborhood_has_its_window(window: int, stride: int) -> None:
    dense = zoo.natten(window=window, stride=stride, dilation=2).dense(29)
    assert (dense.sum(axis=1) == window).all()


def test_a_neighborhood_with_its_window_as_stride_is_blocked() -> None:
    np.testing.assert_array_equal(zoo.natten(window=4, stride=4).dense(32), am.library.chunk(4).dense(32))


def test_a_neighborhood_on_a_grid_is_the_conjunction_over_axes() -> None:
    grid = am.compile("zoo.natten(3, length=5, of=i // 7) & zoo.natten(5, length=7, of=i % 7)")
    assert (grid.dense(35).sum(axis=1) == 15).all()


def test_longlora_has_two_forms() -> None:
    """16 positions in groups of 4: each form keeps 40 or fewer pairs, and the rolled one sees 4 in the future."""
    rolled = zoo.longlora_roll(group=4).dense(16, heads=2)[0]
    flash = zoo.longlora_flash(group=4).dense(16, heads=2)[0]
    future = np.triu(np.ones((16, 16), dtype=bool), 1)
    assert rolled[1].sum() == 40
    assert (rolled[1] & future).sum() == 4
    assert not (flash & future).any()
    np.testing.assert_array_equal(rolled[0], flash[0])
    np.testing.assert_array_equal(flash[1], rolled[1] & ~np.tril(np.ones((16, 16), dtype=bool), -4) & ~future)


def test_orion_was_shipped_without_its_window() -> None:
    assert zoo.orion_msp(special=6, window=4).dense(20).sum() == 310
    assert zoo.orion_msp(special=6, window=0).dense(20).sum() == 218


def test_rows_of_padding_are_empty() -> None:
    dense = zoo.blockrank(4, valid=[i % 4 > 0 for i in range(12)]).dense(12)
    assert np.flatnonzero(~dense.any(axis=1)).tolist() == [0, 4, 8]


def test_streaming_counts_the_query_among_the_recent_keys() -> None:
    assert keys(zoo.streaming_llm(sinks=2, recent=3), 20, 40) == [0, 1, 18, 19, 20]


def test_the_window_of_longlive_includes_its_sink() -> None:
    assert keys(zoo.longlive(frame=1, chunk=3, window=12, sink=3), 31, 60) == [0, 1, 2, *range(24, 33)]


def test_moa_counts_in_blocks() -> None:
    """The first column is a block of 64, and the window is blocks too."""
    assert keys(zoo.moa(alpha=100), 700, 1024) == [*range(64), *range(640, 701)]
    # One block of alpha, and two of the 16 that there are.
    grown = zoo.moa(alpha=64, beta_numerator=1, beta_denominator=8)
    assert keys(grown, 700, 1024) == [*range(64), *range(512, 701)]
    # 0.29 * 100 is 29; in floats it would be 28.
    wide = zoo.moa(alpha=0, beta_numerator=29, beta_denominator=100, block=1)
    assert len(keys(wide, 99, 100)) == 1 + 29


def test_the_interleaving_of_layers() -> None:
    def is_local(mask: am.Mask) -> bool:
        return not bool(mask.dense(64)[-1, 0])

    assert [is_local(zoo.gemma2(layer, window=8)) for layer in range(4)] == [True, False] * 2
    assert [layer for layer in range(13) if not is_local(zoo.gemma3(layer, window=8))] == [5, 11]
    assert [layer for layer in range(13) if not is_local(zoo.llama4(layer, chunk=8))] == [3, 7, 11]


def test_a_landmark_is_no_key_in_its_own_section() -> None:
    assert keys(zoo.landmark(mem_freq=3), 7, 12) == [0, 1, 2, 3, 4, 5, 6]
    assert keys(zoo.landmark(mem_freq=3), 3, 12) == [0, 1, 2]
