from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnmask.errors import MaskError
from attnmask.view.raster import rasterise
from tests.view.tiled import tiled

MASKS = (
    "causal",
    "causal & (window(5) | sink(2))",
    "all",
    "none",
    "same(i // 7)",
    "(q + k) % 3 == 0",
    "~causal & dilated(4, 3)",
)


@given(
    text=st.sampled_from(MASKS),
    q_len=st.integers(1, 70),
    kv_len=st.integers(1, 70),
    block=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    most=st.tuples(st.integers(1, 20), st.integers(1, 20)),
    offset=st.integers(0, 9),
    same_scale=st.booleans(),
)
def test_cells_are_sums_over_the_dense_mask(
    text: str,
    q_len: int,
    kv_len: int,
    block: tuple[int, int],
    most: tuple[int, int],
    offset: int,
    same_scale: bool,
) -> None:
    mask = tiled(text, q_len, kv_len, block=block, offset=offset)
    raster = rasterise(mask.tiles, mask.counts, max_rows=most[0], max_cols=most[1], same_scale=same_scale)
    assert raster.rows <= most[0]
    assert raster.cols <= most[1]
    down, across = np.arange(0, q_len, raster.cell[0]), np.arange(0, kv_len, raster.cell[1])
    assert raster.attended.shape == (len(down), len(across))
    for array, name in ((mask.dense[0], "attended"), (np.ones((q_len, kv_len)), "area")):
        sums = np.add.reduceat(np.add.reduceat(array.astype(int), down, axis=0), across, axis=1)
        np.testing.assert_array_equal(getattr(raster, name), sums)
    assert raster.full.sum() == len(mask.tiles.full.indices)
    assert raster.partial.sum() == len(mask.tiles.partial.indices)
    assert (raster.full + raster.partial + raster.empty).sum() == mask.tiles.rows * mask.tiles.cols
    assert (raster.empty >= 0).all()
    assert raster.total_density == pytest.approx(mask.dense.mean())


def test_planes_are_kept_apart() -> None:
    mask = tiled("heads(:1) & causal | heads(1:) & window(2)", 24, block=4, heads=3)
    for head in range(3):
        raster = rasterise(mask.tiles, mask.counts, h=head, max_rows=6, max_cols=6)
        sums = mask.dense[head].reshape(6, 4, 6, 4).sum(axis=(1, 3))
        np.testing.assert_array_equal(raster.attended, sums)


@pytest.mark.parametrize(
    ("b", "h", "what"),
    [
        (0, 2, "head 2"),
        (-1, 0, "batch row must be an integer from 0, not -1"),
        (0, -1, "head must be an integer from 0, not -1"),
    ],
)
def test_a_plane_that_is_not_there(b: int, h: int, what: str) -> None:
    mask = tiled("heads(:1) & causal", 8, block=4, heads=2)
    with pytest.raises(MaskError, match=what):
        rasterise(mask.tiles, mask.counts, b=b, h=h, max_rows=4, max_cols=4)


def test_one_scale_for_both_sides_unless_they_differ_much() -> None:
    near = tiled("all", 256, 1024, block=(8, 16))
    assert rasterise(near.tiles, near.counts, max_rows=32, max_cols=32).cell == (8, 32)
    assert rasterise(near.tiles, near.counts, max_rows=32, max_cols=32, same_scale=True).cell == (32, 32)
    far = tiled("all", 16, 1024, block=(8, 16))
    assert rasterise(far.tiles, far.counts, max_rows=32, max_cols=32, same_scale=True).cell == (8, 32)


@pytest.mark.parametrize(
    ("tiles", "most", "step"), [(32, 32, 1), (33, 32, 2), (65, 32, 3), (100, 32, 4), (150, 32, 6)]
)
def test_steps_are_round(tiles: int, most: int, step: int) -> None:
    mask = tiled("all", tiles, block=1)
    assert rasterise(mask.tiles, mask.counts, max_rows=most, max_cols=most).tiles_per_cell == (step, step)


def test_a_ragged_tile_is_filled_but_not_full() -> None:
    mask = tiled("all", 6, block=4)
    raster = rasterise(mask.tiles, mask.counts, max_rows=2, max_cols=2)
    assert raster.filled.all()
    np.testing.assert_array_equal(raster.all_full, [[True, False], [False, False]])


def test_memory_follows_a_row_of_cells_and_not_the_plane() -> None:
    import attnmask as am
    from attnmask.tiles.count import partial_counts

    mask, n = am.compile("causal"), 1 << 18
    tiles = mask.tiles(n)
    counts = partial_counts(tiles)
    assert tiles.rows * tiles.cols == 1 << 22
    tracemalloc.start()
    raster = rasterise(tiles, counts, max_rows=64, max_cols=64)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert raster.attended.sum() == n * (n + 1) // 2
    assert peak < 4 << 20, "a dense plane of bytes would take 4 MiB"
