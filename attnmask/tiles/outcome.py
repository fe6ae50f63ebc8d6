"""Sets of outcomes: what may still be true of a tile, in three bits, and the logic on such sets.

A predicate on a tile is empty (no pair attended), partial (some are) or full (all are). An unsigned byte holds
the set of outcomes that are still possible.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
from numpy.typing import NDArray

EMPTY, PARTIAL, FULL = 1, 2, 4
ANY = EMPTY | PARTIAL | FULL

Outcomes = NDArray[np.uint8]


def _and(a: int, b: int) -> int:
    if EMPTY in (a, b):
        return EMPTY
    if FULL in (a, b):
        return b if a == FULL else a
    return EMPTY | PARTIAL  # two partial sets may miss each other


def _xor(a: int, b: int) -> int:
    if PARTIAL not in (a, b):
        return EMPTY if a == b else FULL
    return ANY if a == b else PARTIAL


def _and_independent(a: int, b: int) -> int:
    """When one side depends on q alone and the other on k alone, two partial sets always meet."""
    return PARTIAL if a == b == PARTIAL else _and(a, b)


def _members(outcomes: int) -> list[int]:
    return [outcome for outcome in (EMPTY, PARTIAL, FULL) if outcomes & outcome]


def _complement(outcomes: int) -> int:
    """The set of outcomes with empty and full exchanged."""
    return outcomes & PARTIAL | (FULL if outcomes & EMPTY else 0) | (EMPTY if outcomes & FULL else 0)


def _lifted(rule: Callable[[int, int], int]) -> NDArray[np.uint8]:
    """The rule on single outcomes, as a table on sets of outcomes: at [a * 8 + b] the union over members."""
    table = np.zeros(64, np.uint8)
    for a, b in product(range(8), repeat=2):
        for x, y in product(_members(a), _members(b)):
            table[a * 8 + b] |= rule(x, y)
    return table


def _or(rule: Callable[[int, int], int]) -> Callable[[int, int], int]:
    """The disjunction that goes with a conjunction."""
    return lambda a, b: _complement(rule(_complement(a), _complement(b)))


_AND = _lifted(_and)
_OR = _lifted(_or(_and))
_XOR = _lifted(_xor)
_AND_INDEPENDENT = _lifted(_and_independent)
_OR_INDEPENDENT = _lifted(_or(_and_independent))
_EIGHT = np.uint8(8)
_NOT = np.array([_complement(a) for a in range(8)], np.uint8)


def and_(a: Outcomes, b: Outcomes) -> Outcomes:
    return np.take(_AND, a * _EIGHT + b)


def and_independent(a: Outcomes, b: Outcomes) -> Outcomes:
    return np.take(_AND_INDEPENDENT, a * _EIGHT + b)


def xor(a: Outcomes, b: Outcomes) -> Outcomes:
    return np.take(_XOR, a * _EIGHT + b)


def not_(a: Outcomes) -> Outcomes:
    return np.take(_NOT, a)


def or_(a: Outcomes, b: Outcomes) -> Outcomes:
    return np.take(_OR, a * _EIGHT + b)


def or_independent(a: Outcomes, b: Outcomes) -> Outcomes:
    return np.take(_OR_INDEPENDENT, a * _EIGHT + b)
