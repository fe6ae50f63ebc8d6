"""Opaque atoms: what integer sets cannot say, taken as an unknown integer of which some things are known.

Products of variables, entries of tables, divisions by variables and bits of two variables are atoms; equal
expressions are equal atoms. What holds for every value of its atoms holds for the mask, so proofs are sound.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attnmask.ir.index import split_coefficient
from attnmask.ir.nodes import (
    BitOp,
    BoolTable,
    Const,
    FloorDiv,
    Index,
    Mod,
    Mul,
    Predicate,
    Table,
)
from attnmask.ir.tables import TableData
from attnmask.ir.walk import postorder

Atom = Mul | FloorDiv | Mod | BitOp | Table | BoolTable
# A table is written out where it consists of at most this many stretches of constant slope.
_MOST_PIECES = 48
_MOST_ENTRIES = 4096
_LARGEST_ENTRY = 1 << 31
# Runs of ones in the constant of a bit operation.
_MOST_RUNS = 4


@dataclass(frozen=True, slots=True)
class Piece:
    """Entries first to last of a table: slope * position + offset."""

    first: int
    last: int
    slope: int
    offset: int


def atoms(
    roots: tuple[Index | Predicate, ...], expanded: Mapping[str, TableData] | None = None
) -> tuple[Atom, ...]:
    """The opaque parts of some expressions, inner ones first; entries of `expanded` tables are none where small."""
    found: dict[Atom, None] = {}
    for node in postorder(*roots):
        base = split_coefficient(node)[1] if isinstance(node, Mul) else node
        if isinstance(base, Atom) and is_opaque(base, expanded or {}):
            found[base] = None
    return tuple(found)


def is_opaque(node: Atom, expanded: Mapping[str, TableData]) -> bool:
    match node:
        case Mul():
            return len([factor for factor in node.factors if not isinstance(factor, Const)]) > 1
        case FloorDiv(_, rhs) | Mod(_, rhs):
            return not isinstance(rhs, Const)
        case BitOp(_, _, Const(value)):
            return runs_of_ones(value) is None
        case BitOp():
            return True
        case Table(name, (_,)) | BoolTable(name, (_,)) if name in expanded:
            return pieces(expanded[name]) is None
    return True


def runs_of_ones(value: int) -> list[tuple[int, int]] | None:
    """(lowest bit, number of bits) of each run of ones of a number >= 0, or of its complement; None if many."""
    bits = value if value >= 0 else ~value
    runs = []
    position = 0
    while bits >> position:
        if bits >> position & 1:
            start = position
            while bits >> position & 1:
                position += 1
            runs.append((start, position - start))
        position += 1
    return runs if len(runs) <= _MOST_RUNS else None


def pieces(data: TableData) -> list[Piece] | None:
    """A small vector as stretches of constant slope, or None where it is long or irregular."""
    array = data.array
    if array.ndim != 1 or not 0 < len(array) <= _MOST_ENTRIES or array.dtype.kind == "f":
        return None
    if max(map(abs, data.bounds)) > _LARGEST_ENTRY:  # steps and offsets could leave 64 bits
        return None
    values: NDArray[np.int64] = array.astype(np.int64)
    found: list[Piece] = []
    first = 0
    steps = np.diff(values)
    # Where the slope changes; a stretch ends there.
    while first < len(values):
        if len(found) == _MOST_PIECES:
            return None
        slope = int(steps[first]) if first < len(steps) else 0
        changes = np.flatnonzero(steps[first:] != slope)
        last = first + int(changes[0]) if len(changes) else len(values) - 1
        if last == first or (last == first + 1 and slope and _constant_ahead(steps, last)):
            slope, last = 0, first  # a jump to the next stretch, not a stretch of two
        found.append(Piece(first, last, slope, int(values[first]) - slope * first))
        first = last + 1
    return found


def _constant_ahead(steps: NDArray[np.int64], position: int) -> bool:
    return position < len(steps) and int(steps[position]) == 0
