"""How many units are taken, and which: the selectors, one competition at a time."""

from __future__ import annotations

from dataclasses import dataclass
from math import floor, sqrt
from typing import assert_never

import numpy as np

from attnmask.errors import MaskError
from attnmask.ir.chosen.call import Bools, Floats
from attnmask.ir.chosen.scopes import scopes
from attnmask.ir.chosen.units import Integers
from attnmask.ir.rules import Above, Selector, Top, TopP


@dataclass(frozen=True, slots=True)
class Competition:
    """The units that compete, in the order of ties: all arrays are [n].

    `amounts` is that of the selector for the unit's row, `row` the number of the row.
    """

    scores: Floats
    exists: Bools
    candidates: Bools
    forced: Bools
    amounts: Floats
    row: Integers


def select(
    selector: Selector, scores: Floats, exists: Bools, candidates: Bools, forced: Bools, amounts: Floats
) -> Bools:
    """bool [B, sets, rows, keys], forced units included; `amounts` is [B, sets, rows]."""
    result = np.array(forced, order="C")
    heads, rows, keys = shape = scores.shape[1:]
    row_numbers = np.repeat(np.arange(heads * rows), keys)
    for b in range(len(scores)):
        row_amounts = np.repeat(amounts[b].ravel(), keys)
        for scope in scopes(selector.over, shape):
            competition = Competition(
                scores[b].ravel()[scope],
                exists[b].ravel()[scope],
                candidates[b].ravel()[scope],
                forced[b].ravel()[scope],
                row_amounts[scope],
                row_numbers[scope],
            )
            result[b].reshape(-1)[scope] |= _taken(selector, competition)
    return result


def _taken(selector: Selector, units: Competition) -> Bools:
    match selector:
        case Top():
            return _best(units, max(0, _budget(selector, units) - int(units.forced.sum())))
        case TopP():
            return _share(selector, units)
        case Above(_, quantile=False):
            return units.candidates & (units.scores > units.amounts)
        case Above():
            return _quantile(units)
        case _:
            assert_never(selector)


def _ranked(units: Competition) -> list[int]:
    """The candidates that are not forced, best first, ties by the lower place."""
    free = np.flatnonzero(units.candidates & ~units.forced)
    return sorted(free.tolist(), key=lambda place: -units.scores[place])


def _best(units: Competition, number: int) -> Bools:
    result = np.zeros_like(units.forced)
    result[_ranked(units)[:number]] = True
    return result


def _budget(selector: Top, units: Competition) -> int:
    n = int(units.exists.sum())
    match selector.of:
        case "number" if selector.over == "column":
            return int(units.amounts[0])
        case "number":
            # Each row that exists brings its amount once, with the first of its units.
            _, first = np.unique(units.row[units.exists], return_index=True)
            return int(units.amounts[units.exists][first].sum())
        case "ratio":
            return _at_least_one(_one(units) * n)
        case "ratio_causal":
            return _at_least_one((1 - sqrt(1 - _one(units))) * n)
        case _:
            assert_never(selector.of)


def _at_least_one(share: float) -> int:
    """A share of some units in whole units: rounded down, but for what floats lose, as in (1 - 0.8) * 10."""
    return max(1, floor(share + 1e-9))


def _one(units: Competition) -> float:
    """The amount of all rows that compete. MaskError where it differs."""
    if np.ptp(units.amounts) > 0:
        raise MaskError("heads that compete for one share must have the same share")
    return float(units.amounts[0])


def _share(selector: TopP, units: Competition) -> Bools:
    weights = units.scores
    if (weights[units.candidates | units.forced] < 0).any():
        raise MaskError("top_p adds up weights, and some of them are negative")
    p, ranked, n_forced = _one(units), _ranked(units), int(units.forced.sum())
    before = float(weights[units.forced].sum())
    total = before + sum(weights[place] for place in ranked)
    share, slack = p * total, 1e-9 * total  # for what floats lose, as in 0.1 + 0.2
    number = 0
    for place in ranked:
        upto = before + weights[place]
        if p < 1 and not (before < share - slack if selector.crossing == "keep" else upto <= share + slack):
            break
        number, before = number + 1, upto
    number = max(number, selector.least - n_forced)
    if selector.most is not None:
        number = min(number, max(0, selector.most - n_forced))
    return _best(units, max(0, number))


def _quantile(units: Competition) -> Bools:
    scores = np.sort(units.scores[units.candidates])[::-1]
    if not scores.size:
        return np.zeros_like(units.candidates)
    last = scores[_at_least_one((1 - _one(units)) * scores.size) - 1]
    return np.asarray(units.candidates & (units.scores >= last))
