"""FlexAttention's Triton kernels in plain loops: which keys they visit, and what an unguarded softmax makes of them.

Written after torch's templates `flex_attention`, `flex_decode`, `flex_backwards`, `common` and `utilities`, and
without attnmask: the lists come from the dense mask.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from tests.tiles.reference import tiles_of

Bools = NDArray[np.bool_]
Lists = tuple[list[int], list[int]]  # the partial and the full tiles of a row, or of a column


def widths(block: int) -> list[int]:
    """What BLOCK_N may be: powers of two from 16 that divide the tile; the largest below where there is none."""
    powers = [1 << n for n in range(12) if block % (1 << n) == 0]
    return [width for width in powers if width >= min(16, powers[-1])]


def steps(listed: list[int], block: int, width: int, length: int, contiguous: bool) -> list[int]:
    """Where the steps through one list start, `width` positions each; `contiguous` as the kernel option is."""
    multiple = block // width
    position = listed[0] * block if listed else 0
    found = []
    for number in range(min(len(listed) * multiple, max(math.ceil(length / width), 1))):
        found.append(position)
        tile, within = divmod(number + 1, multiple)
        if contiguous or within:
            position += width
        elif tile < len(listed):
            position = listed[tile] * block
    return found


def row_lists(dense: Bools, block: tuple[int, int]) -> Iterator[Lists]:
    for row in tiles_of(dense, block):
        yield np.flatnonzero(row == 1).tolist(), np.flatnonzero(row == 2).tolist()


def skips_nothing(dense: Bools, block: tuple[int, int]) -> bool:
    """Whether BLOCKS_ARE_CONTIGUOUS changes nothing: in forward and dQ, and by columns in dK and dV."""
    return all(
        steps(listed, size, width, length, True) == steps(listed, size, width, length, False)
        for mask, (rows, size) in ((dense, block), (dense.T, block[::-1]))
        for length in [mask.shape[1]]
        for lists in row_lists(mask, (rows, size))
        for listed in lists
        for width in widths(size)
    )


def stays_a_number(dense: Bools, block: tuple[int, int]) -> bool:
    """Whether ROWS_GUARANTEED_SAFE gives NaN nowhere, for any size of steps and any number of splits."""
    q_len, kv_len = dense.shape
    for number, (partial, full) in enumerate(row_lists(dense, block)):
        rows = dense[number * block[0] : (number + 1) * block[0]]
        for width in widths(block[1]):
            first, then = (steps(listed, block[1], width, kv_len, False) for listed in (partial, full))
            most = math.ceil(kv_len / width)
            splits = [(first, then)]
            if q_len < 128:
                splits += [part for n in {1, 2, 3, most} for part in _splits(first, then, n, kv_len, width)]
            if any(np.isnan(_sums(rows, [*begin, *end], width)).any() for begin, end in splits):
                return False
    return True


def _splits(first: list[int], then: list[int], n: int, kv_len: int, width: int) -> Iterator[Lists]:
    """What each of n programs visits: a stretch of the partial tiles, and from the other end one of the full ones."""
    share = math.ceil(math.ceil(kv_len / n) / width)
    for number in range(n):
        last = n - number - 1
        yield first[number * share : (number + 1) * share], then[last * share : (last + 1) * share]


def _sums(rows: Bools, visits: list[int], width: int) -> NDArray[np.float64]:
    """The running sums of exponentials of each query, where every score is 0 or masked, with no guard."""
    greatest, total = np.full(len(rows), -np.inf), np.zeros(len(rows))
    for start in visits:
        live = rows[:, start : start + width]
        scores = np.full((len(rows), width), -np.inf)  # past the end, keys are masked
        scores[:, : live.shape[1]][live] = 0.0
        new = np.maximum(greatest, scores.max(axis=1))
        with np.errstate(invalid="ignore"):
            total = total * np.exp2(greatest - new) + np.exp2(scores - new[:, None]).sum(axis=1)
        greatest = new
    return total
