"""Interval form: a mask written as bounds on k, `start[q] <= k & k < end[q]`, from the intervals of its queries.

Where queries have several intervals there is a slot for each; keys lie from the first start to the last end, and
in one of the slots. A bound that is a number, or a distance from q, on all rows is written as that, `q - 511 <= k`;
the others are tables.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from attnmask.errors import MaskError
from attnmask.ir import index
from attnmask.ir.nodes import Const, Index, Predicate
from attnmask.ir.predicate import FALSE, TRUE, and_, compare, or_
from attnmask.ir.tables import TableData, table_data
from attnmask.tiles.grid import Ints
from attnmask.tiles.interval_map import MOST_INTERVALS, IntervalMap
from attnmask.tiles.runs import joined

Bools = NDArray[np.bool_]
# Past every key and every position, of which there are less than 2**31.
_FAR = 1 << 40
_K, _Q = index.var("k"), index.var("q")


def interval_form(
    found: IntervalMap, most: int, taken: Collection[str]
) -> tuple[Predicate, dict[str, TableData]]:
    """A predicate that says on the call of `found` what that says, and its tables, under names not in `taken`.

    Tables are over positions, with zeros before `q_offset`, and per batch row and head where their entries depend
    on these. MaskError where a query has more than `most` intervals, or tables would not fit into memory.
    """
    if found.most > most:
        query = int(np.argmax(found.counts.max(axis=0))) + found.q_offset
        raise MaskError(
            f"query {query} attends {found.most} intervals of keys, and at most {most} are allowed",
            hint="interval_form(…, most=…) allows more; tokens in the order of their documents or blocks have fewer",
        )
    if found.most == 0:
        return FALSE, {}
    writer = _Writer(found, found.most, set(taken))
    bounds = _simplified(found)
    starts = [writer.written("start", slot, bound) for slot, bound in enumerate(bounds[::2])]
    ends = [writer.written("end", slot, bound) for slot, bound in enumerate(bounds[1::2])]
    above, below = [_above(start) for start in starts], [_below(end, found.kv_len) for end in ends]
    # Within the outermost bounds the first slot needs no start of its own, and the last no end.
    slots = zip([TRUE, *above[1:]], [*below[:-1], TRUE], strict=True)
    return and_(above[0], below[-1], or_(*(and_(*slot) for slot in slots))), writer.tables


def _above(start: Index) -> Predicate:
    return TRUE if isinstance(start, Const) and start.value <= 0 else compare(start, "<=", _K)


def _below(end: Index, kv_len: int) -> Predicate:
    if isinstance(end, Const):
        return TRUE if end.value >= kv_len else compare(_K, "<", end)
    return (
        compare(_K, "<=", index.sub(end, index.const(1))) if index.is_affine(end) else compare(_K, "<", end)
    )


@dataclass(frozen=True, slots=True, eq=False)
class _Bound:
    """slope * q + values: one value for each plane, or one for each row of each plane."""

    slope: int
    values: Ints

    def on(self, positions: Ints) -> Ints:
        """int64 [planes, rows]"""
        values = self.values if self.values.ndim == 2 else self.values[:, None]
        return values + self.slope * positions


@dataclass(frozen=True, slots=True, eq=False)
class _Wanted:
    """One bound of a slot, [planes, rows], and the rows on which it may not be lower and on which not higher.

    There may be a second choice of such rows, to be tried after the first.
    """

    values: Ints
    held: tuple[tuple[Bools, Bools], ...]

    def fits(self, positions: Ints, default: int) -> Iterator[_Bound]:
        """Numbers and distances from q, one a plane, that keep to this; `default` where any number does."""
        for below, above in self.held:
            for slope in (0, 1):
                distances = self.values - slope * positions
                least = np.where(below, distances, -_FAR).max(axis=1)
                most = np.where(above, distances, _FAR).min(axis=1)
                if (least <= most).all():
                    yield _Bound(slope, np.where(least > -_FAR, least, np.where(most < _FAR, most, default)))


def _wanted(found: IntervalMap) -> list[_Wanted]:
    """Start and end of every slot in turn; a query with fewer intervals has its last one in the slots left over.

    No key is below 0 or from kv_len on, so a start at 0 may as well be lower, and an end at kv_len higher. Where
    slots are left over, their bounds may do what the first start and the last end would.
    """
    counts = found.counts
    slots = int(counts.max())
    before = found.indptr[:-1].reshape(counts.shape)
    bounds = []
    for slot in range(slots):
        at = np.clip(before + np.minimum(slot, counts - 1), 0, len(found.start) - 1)
        start = np.where(counts > 0, found.start[at], found.kv_len).astype(np.int64)
        end = np.where(counts > 0, found.end[at], 0).astype(np.int64)
        # The last slot has the last end of every query.
        starts_here, ends_here = counts > slot, counts > (slot + 1) % slots
        starts = [(starts_here & (start > 0), starts_here)]
        ends = [(ends_here, ends_here & (end < found.kv_len))]
        if slot == 0:
            starts.append((starts[0][0] & (counts == slots), starts_here))
        if slot == slots - 1:
            ends.append((ends_here, ends[0][1] & (counts == slots)))
        bounds += [_Wanted(start, tuple(starts)), _Wanted(end, tuple(ends))]
    return bounds


def _simplified(found: IntervalMap) -> list[_Bound]:
    """The bounds of `_wanted`, each as simple as it may be beside the others."""
    wanted = _wanted(found)
    bounds = [_Bound(0, bound.values) for bound in wanted]
    positions = np.arange(found.q_len) + found.q_offset
    last = len(bounds) - 1
    # Those that others can stand in for come after these.
    for at in (*range(1, last, 2), *range(2, last, 2), 0, last):
        for fit in wanted[at].fits(positions, found.kv_len):
            tried = [*bounds[:at], fit, *bounds[at + 1 :]]
            if _says(tried, positions, found):
                bounds = tried
                break
    return bounds


def _says(bounds: Sequence[_Bound], positions: Ints, found: IntervalMap) -> bool:
    """Whether the slots between the bounds together are exactly the intervals found."""
    lowest = np.maximum(bounds[0].on(positions), 0)
    highest = np.minimum(bounds[-1].on(positions), found.kv_len)
    start = np.stack([np.maximum(bound.on(positions), lowest) for bound in bounds[::2]], axis=-1)
    end = np.stack([np.minimum(bound.on(positions), highest) for bound in bounds[1::2]], axis=-1)
    start[start >= end] = _FAR
    start, end = (array.reshape(-1, len(bounds) // 2) for array in (start, end))
    order = np.argsort(start, axis=1)
    start = np.take_along_axis(start, order, axis=1)
    end = np.maximum.accumulate(np.take_along_axis(end, order, axis=1), axis=1)
    kept = start < _FAR
    rows = np.repeat(np.arange(len(kept)), np.count_nonzero(kept, axis=1))
    runs = joined(0, len(kept), rows, start[kept], end[kept])
    pairs = ((runs.indptr, found.indptr), (runs.start, found.start), (runs.end, found.end))
    return all(np.array_equal(a, b) for a, b in pairs)


@dataclass(slots=True)
class _Writer:
    """Turns bounds into indices, and collects the tables that these read."""

    found: IntervalMap
    slots: int
    taken: set[str]
    tables: dict[str, TableData] = field(default_factory=dict)

    def written(self, side: str, slot: int, bound: _Bound) -> Index:
        indices, values = self.spread(bound.values)
        if bound.values.ndim == 2:
            indices.append(_Q)
            before = [(0, 0)] * (values.ndim - 1) + [(self.found.q_offset, 0)]
            values = np.pad(values, before)
        value: Index = index.const(int(values)) if not indices else self.table(side, slot, indices, values)
        return index.add(index.mul(index.const(bound.slope), _Q), value)

    def table(self, side: str, slot: int, indices: Sequence[Index], values: Ints) -> Index:
        name = side if self.slots == 1 else f"{side}{slot}"
        while name in self.taken:
            name += "_"
        self.tables[name] = table_data(name, values)
        return index.table(name, indices)

    def spread(self, values: Ints) -> tuple[list[Index], Ints]:
        """Values of planes as values of batch rows and heads, of those alone that make a difference."""
        known: dict[bytes, int] = {}
        same = np.array([known.setdefault(of_plane.tobytes(), len(known)) for of_plane in values])
        number = same[self.found.plane_of]
        by_row, by_head = bool((number != number[:1]).any()), bool((number != number[:, :1]).any())
        planes: NDArray[np.int64] = self.found.plane_of[
            slice(None) if by_row else 0, slice(None) if by_head else 0
        ]
        if planes.size * values[0].size > MOST_INTERVALS:
            raise MaskError(
                f"the interval form needs a table of {planes.size * values[0].size} entries, "
                "which would not fit into memory"
            )
        used = [(by_row, index.var("b")), (by_head, index.var("h"))]
        return [var for wanted, var in used if wanted], values[planes]
