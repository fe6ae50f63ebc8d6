"""Tiles against the dense mask: which are full and partial, and how they are stored."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import attnmask as am
from attnmask.ir.domain import Domain
from attnmask.tiles.tilemap import Csr, TileMap
from tests.strategies import Call, Case, cases
from tests.tiles.reference import tiles_of


def tiles(case: Case) -> TileMap:
    return case.mask.tiles(*case.call.lengths, block=case.call.block, **case.call.options)


def case(text: str, q_len: int, kv_len: int, block: tuple[int, int], offset: int = 0, heads: int = 1) -> Case:
    return Case(am.compile(text), Call(Domain(q_len, kv_len, offset, 1, heads), block))


@settings(max_examples=400)
@given(cases())
@example(case("causal", 1, 1, (128, 128)))
@example(case("all", 5, 9, (5, 3)))
@example(case("none", 40, 40, (2, 2)))
@example(case("causal & (window(7) | sink(2))", 67, 67, (2, 3), offset=5))
@example(case("q * k % 7 == 3 ^ (q - k) % -5 == -2 ^ abs(q - k) < 9", 60, 50, (3, 1)))
@example(case("q % (k + 1) < 4 & (q - k) // (h + 1) >= -3", 30, 65, (4, 2), heads=3))
def test_tiles_are_those_of_the_dense_mask(case: Case) -> None:
    dense = case.mask.dense(*case.call.lengths, **case.call.options)
    found = tiles(case)
    for b, h in np.ndindex(*dense.shape[:2]):
        expected = tiles_of(dense[b, h], case.call.block)
        np.testing.assert_array_equal(found.dense(b, h), expected, err_msg=f"plane {b}, {h}")


@given(cases())
def test_lists_are_ascending_and_tell_the_same_both_ways(case: Case) -> None:
    found = tiles(case)
    for rows, columns in ((found.full, found.full_t), (found.partial, found.partial_t)):
        _well_formed(rows, found.n_planes * found.rows, found.cols)
        _well_formed(columns, found.n_planes * found.cols, found.rows)
        pairs = {
            (p, row, int(col))
            for p in range(found.n_planes)
            for row in range(found.rows)
            for col in rows.row(p * found.rows + row)
        }
        turned = {
            (p, int(row), col)
            for p in range(found.n_planes)
            for col in range(found.cols)
            for row in columns.row(p * found.cols + col)
        }
        assert pairs == turned


def _well_formed(kind: Csr, rows: int, width: int) -> None:
    assert kind.indptr.dtype == np.int64 and kind.indices.dtype == np.int32
    assert len(kind.indptr) == rows + 1
    assert kind.indptr[0] == 0 and kind.indptr[-1] == len(kind.indices)
    assert (kind.counts >= 0).all()
    for number in range(rows):
        row = kind.row(number)
        assert (np.diff(row) > 0).all() and (len(row) == 0 or (row[0] >= 0 and row[-1] < width))


@given(cases())
def test_planes_are_numbered_and_each_is_used(case: Case) -> None:
    found = tiles(case)
    assert found.plane_of.shape[0] in (1, case.call.domain.batch)
    assert found.plane_of.shape[1] in (1, case.call.domain.heads)
    assert sorted(set(found.plane_of.ravel().tolist())) == list(range(found.n_planes))


def test_equal_planes_are_stored_once() -> None:
    mask = am.compile("heads(2:) & causal | heads(:2) & window(3)")
    found = mask.tiles(64, heads=8, batch=5, block=4)
    assert found.plane_of.tolist() == [[0, 0, 1, 1, 1, 1, 1, 1]] and found.n_planes == 2
    assert am.compile("causal").tiles(64, heads=8, batch=5).plane_of.tolist() == [[0]]
    # Rows of a table that say the same to a head are one plane only where the predicate is the same.
    limits = am.compile("k < n[h]", n=[3, 9, 3]).tiles(12, block=4)
    assert limits.plane_of.tolist() == [[0, 1, 0]]


@pytest.mark.parametrize("block", [(1, 1), (3, 5), (128, 64), (200, 1), (1, 200)])
def test_a_ragged_tile_is_never_full(block: tuple[int, int]) -> None:
    found = am.compile("all").tiles(100, 70, block=block)
    whole = found.dense() == 2
    assert whole.sum() == (100 // block[0]) * (70 // block[1])
    assert (found.dense() > 0).all()


def test_what_a_tile_map_tells_of_itself() -> None:
    found = am.compile("causal").tiles(10, 23, block=(4, 5), q_offset=3)
    assert (found.q_len, found.kv_len, found.q_offset, found.block) == (10, 23, 3, (4, 5))
    assert (found.rows, found.cols, found.n_planes) == (3, 5, 1)
    assert found.dense().dtype == np.uint8
    assert found.nbytes >= found.full.indices.nbytes + found.partial.indices.nbytes


@given(
    st.integers(1, 3000), st.integers(1, 3000), st.integers(0, 5000), st.integers(1, 300), st.integers(1, 300)
)
def test_a_window_at_length_is_the_formula(q_len: int, kv_len: int, offset: int, bq: int, bk: int) -> None:
    """At lengths where the dense mask would be slow: `recent(100)` tile by tile from its two ends."""
    found = am.compile("recent(100)").tiles(q_len, kv_len, block=(bq, bk), q_offset=offset).dense()
    q0 = np.arange(0, q_len, bq)[:, None] + offset
    q1 = np.minimum(np.arange(bq, q_len + bq, bq), q_len)[:, None] - 1 + offset
    k0, k1 = np.arange(0, kv_len, bk), np.minimum(np.arange(bk, kv_len + bk, bk), kv_len) - 1
    some = (q1 - k0 >= 0) & (q0 - k1 < 100)
    every = (q0 - k1 >= 0) & (q1 - k0 < 100) & (q1 - q0 == bq - 1) & (k1 - k0 == bk - 1)
    np.testing.assert_array_equal(found, np.where(every, 2, np.where(some, 1, 0)))


def test_a_block_far_larger_than_the_lengths() -> None:
    """The cost follows the lengths: this would be 2**60 elements if a tile were looked at whole."""
    mask = am.compile("q * k % 7 < 7 ^ (q + k) % 3 < 3")
    assert mask.tiles(10, 12, block=2**30).dense().tolist() == [[0]]


@pytest.mark.parametrize("block", [0, -1, 1.5, (128,), (1, 2, 3), "128", None, (0, 4)])
def test_blocks_that_make_no_sense_are_refused(block: object) -> None:
    with pytest.raises(am.MaskError):
        am.compile("causal").tiles(8, block=block)  # type: ignore[arg-type]  # that is the point


def test_a_table_over_pairs_is_looked_at() -> None:
    pairs = np.random.default_rng(3).integers(0, 2, (40, 50)) > 0
    pairs[8:20, 12:30] = True
    pairs[20:36, :10] = False
    mask = am.compile("adj[q, k]", adj=pairs)
    np.testing.assert_array_equal(mask.tiles(40, 50, block=(4, 3)).dense(), tiles_of(pairs, (4, 3)))


@pytest.mark.parametrize("lengths", [(4, 64), (4, 640), (33, 200)])
def test_entries_that_only_some_pairs_reach(lengths: tuple[int, int]) -> None:
    """q % (k + 1) is below q_len, which bounds on the divisor alone do not tell."""
    numbers = np.arange(lengths[0]) * 7 % 5
    for text, table in (("t[q % (k + 1)] < 3", numbers), ("t[q % (k + 1)]", numbers > 2)):
        mask = am.compile(text, t=table)
        expected = tiles_of(mask.dense(*lengths), (4, 3))
        np.testing.assert_array_equal(mask.tiles(*lengths, block=(4, 3)).dense(), expected)
