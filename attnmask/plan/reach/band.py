"""Layers that attend by distance: which distances, how many sinks, within which segments."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from attnmask.errors import MaskError
from attnmask.ir.nodes import And, Compare, Expr, Predicate
from attnmask.ir.predicate import and_, truth
from attnmask.ir.walk import children, postorder, rebuild
from attnmask.plan.reach.layer import Layer
from attnmask.tiles.diagonals import by_distance, distance_counts
from attnmask.tiles.grid import Grid, Ints
from attnmask.tiles.profile import Profiles
from attnmask.tiles.structure import Structure


@dataclass(frozen=True, slots=True, eq=False)
class Band:
    """A layer in which query q sees key k, within its own segment, if `q - k` is one of the distances or `k < sinks`.

    `distances` is bool [2 * length - 1] over q - k from 1 - length; 0 is always one of them, since a position
    keeps what it has seen. With `causal_sinks` a sink is seen by later positions only, and all distances are
    at least 0. `segments` numbers the segments, which are consecutive: int64 [length].
    """

    length: int
    distances: NDArray[np.bool_]
    sinks: int
    causal_sinks: bool
    segments: Ints

    @property
    def looks_ahead(self) -> bool:
        return bool(self.distances[: self.length - 1].any())

    @property
    def looks_back(self) -> bool:
        return bool(self.distances[self.length :].any())


@dataclass(frozen=True, slots=True)
class Progression:
    """The distances -ahead * unit, …, -unit, 0, unit, …, behind * unit. The unit of 0 alone is 0."""

    unit: int
    ahead: int
    behind: int


def progression(band: Band) -> Progression | None:
    """The distances of a band as a progression, or None where they are none."""
    distances = np.flatnonzero(band.distances) - (band.length - 1)
    first, last = int(distances[0]), int(distances[-1])
    unit = int(np.gcd.reduce(distances))
    if not unit:
        return Progression(0, 0, 0)
    if len(distances) != (last - first) // unit + 1:
        return None
    return Progression(unit, -first // unit, last // unit)


def band(layer: Layer) -> Band | None:
    """The layer as a band, or None where it is not one, or is written so that this does not show."""
    profiles = Profiles(Grid(layer.length, layer.length, 1, 1), layer.arrays)
    structure = Structure()
    try:
        rest, segments = _segments(layer.root, profiles, structure)
        return _band(rest, segments, profiles, structure)
    except MaskError:  # parts put together anew may come out too long
        return None


def _band(rest: Predicate, segments: Ints, profiles: Profiles, structure: Structure) -> Band | None:
    length = len(segments)
    truths = {
        node: profiles.values(node, "q" if structure.side(node) == "q" else "k")
        for node in postorder(rest)
        if isinstance(node, Predicate) and structure.side(node) in ("q", "k")
    }
    changes = {
        int(place) for values in truths.values() for place in np.flatnonzero(values[1:] != values[:-1]) + 1
    }
    constant_rows = all(
        values.all() or not values.any() for node, values in truths.items() if structure.side(node) == "q"
    )
    if len(changes) > 1 or not constant_rows:
        return None
    sinks = changes.pop() if changes else 0
    distances = _distances(_fixed(rest, truths, sinks), profiles)
    if distances is None:
        return None
    distances[length - 1] = True
    if not sinks:
        return Band(length, distances, 0, False, segments)
    distances[2 * length - 1 - sinks :] = False  # further back there are sinks only
    to_sinks = _distances(_fixed(rest, truths, 0), profiles)
    if to_sinks is None or not to_sinks[length - 1 :].all():
        return None
    later = to_sinks[length - sinks : length - 1]  # sinks as seen by queries before them
    if later.all():
        return Band(length, distances, sinks, False, segments)
    found = Band(length, distances, sinks, True, segments)
    return None if later.any() or found.looks_ahead else found


def _fixed(root: Predicate, truths: dict[Predicate, NDArray[np.bool_]], at: int) -> Predicate:
    """`root` with what depends on one position alone as it is at position `at`."""
    done: dict[Expr, Expr] = {}
    for node in postorder(root):
        if node in truths:
            done[node] = truth(bool(truths[node][at]))
        else:
            done[node] = rebuild(node, [done[child] for child in children(node)])
    return done[root]  # type: ignore[return-value]  # a predicate stays one


def _distances(root: Predicate, profiles: Profiles) -> NDArray[np.bool_] | None:
    """Whether it holds at each distance, bool [2 * length - 1]; None where q and k matter apart."""
    distance = by_distance(root)
    if distance is None:
        return None
    held: NDArray[np.bool_] = np.diff(distance_counts(distance, profiles.grid, profiles.tables).sums) > 0
    return held


def _segments(root: Predicate, profiles: Profiles, structure: Structure) -> tuple[Predicate, Ints]:
    """The conjuncts that say no more than "in the same segment" taken off; and the number of each position's."""
    others: list[Predicate] = []
    first = np.zeros(profiles.grid.q_len, np.bool_)
    for part in root.args if isinstance(root, And) else (root,):
        starts = _starts(part, profiles, structure)
        if starts is None:
            others.append(part)
        else:
            first |= starts
    return and_(*others), np.cumsum(first)


def _starts(part: Predicate, profiles: Profiles, structure: Structure) -> NDArray[np.bool_] | None:
    """Where the segments of `f(q) == f(k)` start, bool [length]; None for anything else.

    Each value of f must stand at consecutive positions: only then does what lies between two positions of a
    segment belong to it.
    """
    if not isinstance(part, Compare) or part.op != "==":
        return None
    sides = structure.parts(structure.difference(part))
    if sides.q is None or sides.k is None or sides.mixed:
        return None
    values = profiles.values(sides.q, "q") + sides.constant
    if not np.array_equal(values, -profiles.values(sides.k, "k")):
        return None
    starts = np.ones(len(values), np.bool_)
    np.not_equal(values[1:], values[:-1], out=starts[1:])
    return starts if int(starts.sum()) == len(np.unique(values)) else None
