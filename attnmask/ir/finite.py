"""Whether a score modification keeps scores finite: one of minus infinity hides a key, as a mask does."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, assert_never

from numpy.typing import NDArray

from attnmask.ir.nodes import Apply, Arith, FromIndex, Real, RealTable, Score, ScoreExpr, ScoreWhere
from attnmask.ir.walk import children, postorder

Interval = tuple[float, float]
# Scores are taken to be below this; single precision reaches 2**128.
_SCORE = 2.0**60
_MOST = 2.0**100
# A number of the text may be rounded to half precision, whose largest value this is.
_MOST_HALF = 65504.0
# Smaller divisors, and arguments of log, might be rounded to zero.
_LEAST = 2.0**-14
_KINDS = Score | Real | FromIndex | RealTable | Arith | Apply | ScoreWhere


def stays_finite(root: ScoreExpr, tables: Mapping[str, NDArray[Any]]) -> bool:
    """Whether every score below 2**60 becomes a finite number, on all ways to it. False where bounds do not tell."""
    found: dict[object, Interval | None] = {}
    for node in postorder(root):
        if isinstance(node, _KINDS):
            parts = [found[child] for child in children(node) if isinstance(child, _KINDS)]
            known = [part for part in parts if part is not None]
            interval = _interval(node, known, tables) if len(known) == len(parts) else None
            # NaN, which a table may hold, fails both comparisons.
            bounded = interval is not None and -_MOST <= interval[0] <= interval[1] <= _MOST
            found[node] = interval if bounded else None
    return found[root] is not None


def _interval(node: ScoreExpr, parts: list[Interval], tables: Mapping[str, NDArray[Any]]) -> Interval | None:
    match node:
        case Score():
            return -_SCORE, _SCORE
        case Real(value):
            return (value, value) if abs(value) <= _MOST_HALF else None
        case FromIndex():
            return -(2.0**63), 2.0**63
        case RealTable(name):
            entries = tables[name]
            return (float(entries.min()), float(entries.max())) if entries.size else None
        case Arith("+" | "-" as op, _, _):
            (low, high), (other_low, other_high) = parts
            return (low + other_low, high + other_high) if op == "+" else (low - other_high, high - other_low)
        case Arith("*", _, _):
            return _corners(*parts)
        case Arith(_, _, _):
            low, high = parts[1]
            return _corners(parts[0], (1 / high, 1 / low)) if low >= _LEAST or high <= -_LEAST else None
        case Apply("tanh", _):
            return -1.0, 1.0
        case Apply("exp", _):
            return (0.0, math.exp(parts[0][1])) if parts[0][1] <= math.log(_MOST) else None
        case Apply(_, _):
            low, high = parts[0]
            return (math.log(low), math.log(high)) if low >= _LEAST else None
        case ScoreWhere():
            return min(low for low, _ in parts), max(high for _, high in parts)
        case _:
            assert_never(node)


def _corners(left: Interval, right: Interval) -> Interval:
    products = [a * b for a in left for b in right]
    return min(products), max(products)
