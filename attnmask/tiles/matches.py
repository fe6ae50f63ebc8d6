"""Equations f(q) == g(k), decided by the sets of values that occur on either side of a cell."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnmask.tiles.cuts import Cuts
from attnmask.tiles.grid import Cells, Ints
from attnmask.tiles.outcome import EMPTY, FULL, PARTIAL, Outcomes
from attnmask.tiles.pyramid import Profile, Pyramid, profile

_WORD = 64
_MOST_WORDS = 1 << 18
_PORTION = 1 << 18


@dataclass(frozen=True, slots=True, eq=False)
class ValueSets:
    """An integer over one axis: per cell, the values that occur, as bits of their rank modulo 64.

    With at most 64 values each has a bit of its own; else only disjoint sets can be told apart.
    """

    ranks: NDArray[np.int32]
    count: int
    profile: Profile
    bits: Pyramid


def value_sets(ranks: NDArray[np.int32], count: int, cuts: Cuts) -> ValueSets:
    return ValueSets(ranks, count, profile(ranks, cuts), Pyramid(ranks, cuts, np.bitwise_or, _as_bits))


def _as_bits(ranks: NDArray[np.int32]) -> NDArray[np.uint64]:
    bits: NDArray[np.uint64] = np.left_shift(np.uint64(1), (ranks & (_WORD - 1)).astype(np.uint64))
    return bits


def same_value(rows: ValueSets, columns: ValueSets, cells: Cells, q_offset: int) -> Outcomes:
    """The outcomes of `f(q) == g(k)` on cells."""
    level, i, j = cells.level, cells.i, cells.j
    low_q, high_q = rows.profile.low.at(level)[i], rows.profile.high.at(level)[i]
    low_k, high_k = columns.profile.low.at(level)[j], columns.profile.high.at(level)[j]
    never = (high_q < low_k) | (high_k < low_q)
    always = (low_q == high_q) & (low_k == high_k) & (low_q == low_k)
    found = np.where(never, np.uint8(EMPTY), np.where(always, np.uint8(FULL), np.uint8(PARTIAL)))
    if rows.profile.breaks is None and columns.profile.breaks is None:
        return found  # ranges that overlap share a value, as neither skips one
    unbroken_q = rows.profile.unbroken(cells.q_first - q_offset, cells.q_last - q_offset)
    unbroken_k = columns.profile.unbroken(cells.k_first, cells.k_last)
    # So do those that meet in an end.
    shared = (unbroken_q & unbroken_k) | (low_q == low_k) | (high_q == high_k)
    unknown = np.flatnonzero(~(never | shared | (high_q == low_k) | (high_k == low_q)))
    common = rows.bits.at(level)[i[unknown]] & columns.bits.at(level)[j[unknown]]
    exact = rows.count <= _WORD
    found[unknown] = np.where(common == 0, np.uint8(EMPTY), np.uint8(PARTIAL if exact else EMPTY | PARTIAL))
    if level == 0 and not exact:
        unknown = np.flatnonzero(found == (EMPTY | PARTIAL))
        if len(unknown):
            meets = _share_a_value(rows, columns, i[unknown], j[unknown])
            found[unknown] = np.where(meets, np.uint8(PARTIAL), np.uint8(EMPTY))
    return found


def _share_a_value(rows: ValueSets, columns: ValueSets, i: Ints, j: Ints) -> NDArray[np.bool_]:
    """Whether blocks i of the rows and j of the columns have a value in common, bool [pairs].

    64 blocks of columns are taken at a time: a word for each value tells in which of them it occurs. The words
    of a row block's values, joined, tell which columns it meets; however many values there are.
    """
    chunk, first, top = j // _WORD, int(j.min()) // _WORD, int(i.min())
    shape = (int(chunk.max()) - first + 1, int(i.max()) - top + 1)
    if shape[0] * shape[1] > _MOST_WORDS:
        half = len(i) // 2
        halves = (
            _share_a_value(rows, columns, i[:half], j[:half]),
            _share_a_value(rows, columns, i[half:], j[half:]),
        )
        return np.concatenate(halves)
    met = np.zeros(shape, np.uint64)
    met[chunk - first, i - top] = 1
    holders = np.zeros(rows.count, np.uint64)
    span = columns.profile.low.cuts.block * _WORD
    for number in range(shape[0]):
        values = columns.ranks[(first + number) * span : (first + number + 1) * span]
        column = np.arange(len(values), dtype=np.uint64) // np.uint64(span // _WORD)
        np.bitwise_or.at(holders, values, np.left_shift(np.uint64(1), column))
        asked = np.flatnonzero(met[number])
        met[number, asked] = _joined_words(holders, rows, top + asked)
        holders[values] = 0
    words = met[chunk - first, i - top] >> (j % _WORD).astype(np.uint64)
    return (words & np.uint64(1)).astype(np.bool_)


def _joined_words(words: NDArray[np.uint64], rows: ValueSets, blocks: Ints) -> NDArray[np.uint64]:
    """For each block, the words of all values that occur in it, joined by or."""
    block, last = rows.profile.low.cuts.block, len(rows.ranks) - 1
    within = np.arange(min(block, last + 1))
    joined = np.empty(len(blocks), np.uint64)
    step = max(1, _PORTION // len(within))
    for start in range(0, len(blocks), step):
        positions = blocks[start : start + step, None] * block + within
        values = rows.ranks[np.minimum(positions, last)]
        np.bitwise_or.reduce(words[values], axis=1, out=joined[start : start + step])
    return joined


def ranks(equations: Sequence[tuple[NDArray[Any], ...]]) -> tuple[list[NDArray[np.int32]], int]:
    """For the sides of each equation, the ranks of the positions' tuples of values, side by side.

    Ranks are those among the distinct tuples of all sides, in the order of the tuples; also their number.
    """
    found, count = _ranks(*equations[0])
    for sides in equations[1:]:
        more, width = _ranks(*sides)
        found, count = _ranks(*(a.astype(np.int64) * width + b for a, b in zip(found, more, strict=True)))
    return found, count


def _ranks(*sides: NDArray[Any]) -> tuple[list[NDArray[np.int32]], int]:
    """Each value's rank among the distinct values of all sides, and their number."""
    low, high = min(int(side.min()) for side in sides), max(int(side.max()) for side in sides)
    if high - low < 4 * sum(len(side) for side in sides):  # a table of what occurs is cheaper than sorting
        occurs = np.zeros(high - low + 1, np.int32)
        for side in sides:
            occurs[side - low if low else side] = 1
        ranks = np.cumsum(occurs, dtype=np.int32)
        ranks -= 1
        return [ranks[side - low if low else side] for side in sides], int(ranks[-1]) + 1
    distinct = np.unique(np.concatenate(sides))
    return [np.searchsorted(distinct, side).astype(np.int32) for side in sides], len(distinct)
