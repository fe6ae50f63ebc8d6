"""Tables that nobody has bound, made up for the search of counterexamples: an entry for every index."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from attnmask.ir.domain import Domain
from attnmask.ir.interval import Intervals
from attnmask.ir.nodes import BoolTable, Predicate, Table
from attnmask.ir.tables import TableData, table_data
from attnmask.ir.walk import postorder

Kind = Literal["runs", "few", "many", "same"]
KINDS: tuple[Kind, ...] = ("runs", "few", "many", "same")
_MOST_ENTRIES = 1 << 20
# Settings are often lengths or numbers of layers.
_SETTINGS = {"runs": 4, "few": 1, "many": 64, "same": 0}


@dataclass(frozen=True, slots=True)
class Guess:
    """A table without end: `runs` ascends in steps, `few` and `many` are scattered, `same` is constant."""

    kind: Kind
    seed: int
    truth: bool

    def __getitem__(self, at: tuple[NDArray[np.int64], ...]) -> NDArray[Any]:
        if not at:
            value = np.asarray(_SETTINGS[self.kind] + self.seed % 3)
            return value % 2 == 1 if self.truth else value
        mixed: Any = np.asarray(self.seed, np.uint32)
        for axis, index in enumerate(at):
            part = np.asarray(index).astype(np.uint32)
            if self.kind == "runs" and axis == len(at) - 1:
                return self._as_kind((part // 3).astype(np.int64) + self.seed % 2)
            mixed = (mixed ^ part) * np.uint32(2654435761)
            mixed = mixed ^ mixed >> np.uint32(15)
        most = {"runs": 4, "few": 2, "many": 97, "same": 1}[self.kind]
        return self._as_kind((mixed % np.uint32(most)).astype(np.int64))

    def _as_kind(self, values: NDArray[np.int64]) -> NDArray[Any]:
        return values % 2 == 1 if self.truth else values


def guesses(roots: tuple[Predicate, ...], bound: Mapping[str, Any]) -> list[dict[str, Guess]]:
    """Some ways to fill the tables that have no value; one empty way where all have."""
    names = {
        node.name: isinstance(node, BoolTable)
        for node in postorder(*roots)
        if isinstance(node, Table | BoolTable) and node.name not in bound
    }
    if not names:
        return [{}]
    return [
        {name: Guess(kind, 7 * number + turn, truth) for number, (name, truth) in enumerate(names.items())}
        for kind in KINDS
        for turn in (0, 1)
    ]


def written_out(
    guess: Mapping[str, Guess],
    roots: tuple[Predicate, ...],
    domain: Domain,
    bound: Mapping[str, TableData],
) -> dict[str, TableData] | None:
    """The guessed tables as arrays that cover a call, or None where an index may be negative or very large."""
    known = dict(bound)
    shapes: dict[str, tuple[int, ...]] = {}
    for node in postorder(*roots):
        if not isinstance(node, Table | BoolTable) or node.name not in guess:
            continue
        # Inner tables come first, and bound the indices of outer ones.
        intervals = Intervals(domain.bounds, lambda name: known[name].bounds)
        bounds = [intervals.of(item) for item in node.indices]
        if any(low < 0 for low, _ in bounds):
            return None
        shape = tuple(high + 1 for _, high in bounds)
        before = shapes.get(node.name, shape)
        if len(before) != len(shape):
            return None  # no table has both numbers of dimensions
        shapes[node.name] = shape = tuple(max(pair) for pair in zip(shape, before, strict=True))
        if int(np.prod(shape, dtype=object)) > _MOST_ENTRIES:
            return None
        known[node.name] = table_data(node.name, np.asarray(guess[node.name][tuple(np.indices(shape))]))
    return {name: known[name] for name in guess if name in known}
