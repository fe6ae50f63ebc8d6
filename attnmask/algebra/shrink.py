"""Counterexamples made smaller: shorter calls and earlier positions, each evaluated."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from attnmask.algebra.claims import NoneEmpty, Question
from attnmask.algebra.scope import Scope
from attnmask.algebra.search import Point, settled
from attnmask.ir.tables import TableData

# Small calls are looked at one and all before: what is found there needs no shrinking.
_SMALL = 16
_LEAST = {"K": "k", "Q": "q", "B": "b", "H": "h"}
_ROUNDS = 2


def shrunk(
    point: Point,
    claim: Question,
    scope: Scope,
    tables: Mapping[str, TableData],
    holds: Callable[[Point], bool],
) -> Point:
    """The point, or one of a smaller call that contradicts the claim too, as `holds` tells."""
    for _ in range(_ROUNDS):
        if max(point["Q"], point["K"]) <= _SMALL:
            break
        for smaller in (_shorter, _earlier):
            for name in ("K", "Q", "B", "H"):
                for values in smaller(point, name, claim, scope):
                    found = _settled(values, point, claim, scope, tables)
                    if found is not None and holds(found):
                        point = found
                        break
    return point


def _settled(
    values: dict[str, int],
    point: Point,
    claim: Question,
    scope: Scope,
    tables: Mapping[str, TableData],
) -> Point | None:
    """The point with these values and the tables as they are, cut to the call."""
    made = {name: data.array for name, data in point.tables.items()}
    try:
        return settled(values, claim, made, scope, tables)
    except IndexError:  # the smaller call asks for entries that the larger one did not
        return None


def _shorter(point: Point, size: str, claim: Question, scope: Scope) -> Iterator[dict[str, int]]:
    """The same place in calls of fewer keys (queries, batch rows, heads), smallest first."""
    names = ("Q", "K") if scope.square and size in "QK" else (size,)
    least = max(_needed(point, name, claim) for name in names)
    # Where a pair is asked both ways, a query's position has to be a key's too.
    marks = {least, least + 1, point["q"] + 1, point["k"] + 1 - point["O"]}
    for length in sorted(marks | {1 << power for power in range(31)}):
        if least <= length < point[size]:
            yield {**point.values, **dict.fromkeys(names, length)}


def _needed(point: Point, size: str, claim: Question) -> int:
    position = _LEAST[size]
    if isinstance(claim, NoneEmpty) and claim.along == position:
        return 1
    return point[position] + 1 - (point["O"] if size == "Q" else 0)


def _earlier(point: Point, size: str, claim: Question, scope: Scope) -> Iterator[dict[str, int]]:
    """Earlier positions in calls that are as short as these allow."""
    position = _LEAST[size]
    if isinstance(claim, NoneEmpty) and claim.along == position:
        return
    first = point["O"] if position == "q" else 0
    for at in (first, *(first + (1 << power) for power in range(31))):
        if at < point[position]:
            yield {**point.values, position: at}
