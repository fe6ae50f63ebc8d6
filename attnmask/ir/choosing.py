"""The functions of the language that choose at run time: their parameters, and what calls of them make.

Score maps (`blocks`, `exact`, …) are values; selectors (`top`, `top_p`, `above`) make sets of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Any, cast, get_args

from attnmask.errors import MaskError, Source
from attnmask.ir import index, predicate
from attnmask.ir.nodes import Choice, Const, FloorDiv, Index, Predicate
from attnmask.ir.rules import (
    Above,
    Antidiagonal,
    Blocks,
    Clusters,
    Compressed,
    Counted,
    Exact,
    Given,
    Heads,
    Norm,
    Over,
    Pool,
    Probe,
    Reduce,
    Selected,
    Selector,
    Spans,
    Top,
    TopP,
    along_diagonals,
    has_bounds,
)
from attnmask.ir.values import UnitScores, Value
from attnmask.ir.walk import substitute
from attnmask.syntax import tree
from attnmask.syntax.parse import parse

MOST_SPANS = 64


class Takes(Enum):
    """What a parameter takes, and how messages say so."""

    UNITS = "a size, a token function that numbers the units, or all for one of all positions"
    SIZE = "a positive integer"
    AMOUNT = "a number, or the name of one that is given when the choice is made"
    COUNT = "a number, its name, or a choice whose number is taken"
    SHARE = "a number from 0 to 1, or the name of one that is given when the choice is made"
    SCALE = "none, sqrt or a number"
    FLAG = "true or false"
    NAME = "the name of an array that is given when the choice is made"
    POOL = "mean, max, min, first, scaled_sum, attention, bounds, concat(…) or linear(…)"
    SCORES = "a score map, such as blocks(64)"
    CHOICE = "a choice of a number of units in each row, such as top(3, blocks(1))"
    REACH = "a whole number from 0, or the name of such numbers that are given when the choice is made"
    MASK = "a mask"


@dataclass(frozen=True, slots=True)
class Words:
    """A parameter that takes one of a few words."""

    words: tuple[str, ...]


Kind = Takes | Words


Arguments = Mapping[str, Any]  # units as the pair of indices for q and for k, the others as their kinds say


@dataclass(frozen=True, slots=True)
class Operator:
    """A function that chooses or scores: its parameters as a definition has them, what they take, what it makes."""

    definition: tree.Def
    takes: Mapping[str, Kind]
    make: Callable[[Arguments], Value]


def _units(given: Arguments) -> tuple[Index, Index]:
    (q_unit, _), (_, k_unit) = given["q_block"], given["block"]
    return q_unit, k_unit


def _blocks(given: Arguments) -> Value:
    if has_bounds(given["q_pool"]) or (has_bounds(given["pool"]) and not isinstance(given["pool"], Pool)):
        raise MaskError("bounds are a pool of keys alone, and not a part of another", hint="pool=bounds")
    score = Blocks(
        given["pool"], given["q_pool"], given["scale"], given["heads"], given["norm"], given["proxy"]
    )
    return UnitScores(score, *_units(given))


def _compressed(given: Arguments) -> Value:
    return UnitScores(Compressed(given["kernel"], given["stride"], given["heads"]), *_units(given))


def _exact(given: Arguments) -> Value:
    score = Exact(
        given["reduce"], given["norm"], given["heads"], given["causal"], given["stride"], given["proxy"]
    )
    return UnitScores(score, *_units(given))


def _antidiag(given: Arguments) -> Value:
    q_unit, k_unit = given["block"]
    size = k_unit.rhs if isinstance(k_unit, FloorDiv) else k_unit
    if isinstance(size, Const) and size.value % given["stride"]:
        raise MaskError(f"blocks of {size.value} are no multiple of the stride {given['stride']}")
    scale = 1.0 if given["scale"] is None else given["scale"]
    return UnitScores(Antidiagonal(given["stride"], given["mode"], scale, given["causal"]), q_unit, k_unit)


def _probe(given: Arguments) -> Value:
    (at_q, at_k), along = given["block"], given["along"]
    if given["width"] % 2 == 0:
        raise MaskError(f"'width' must be odd, as many neighbours on either side, not {given['width']}")
    if given["width"] > 1 and along == "diagonals":
        raise MaskError("neighbours are averaged along keys; diagonals have none")
    # Later keys lie on no diagonal that is scored.
    distance = index.maximum(index.sub(index.var("q"), index.var("k")), index.const(0))
    unit = at_k if along == "keys" else _unit_of(at_q, distance)
    score = Probe(given["rows"], along, given["heads"], given["causal"], given["width"])
    return UnitScores(score, index.const(0), unit)


def _unit_of(at_q: Index, position: Index) -> Index:
    return substitute(at_q, {index.var("q"): position})


def _given(given: Arguments) -> Value:
    return UnitScores(Given(given["scores"]), *_units(given))


def _top(given: Arguments) -> Value:
    amounts = {"number": given["n"], "ratio": given["ratio"], "ratio_causal": given["ratio_causal"]}
    named = {of: amount for of, amount in amounts.items() if amount is not None}
    if len(named) != 1:
        raise MaskError("top takes one of n, ratio and ratio_causal")
    ((of, amount),) = named.items()
    return _selected(Top(amount, cast(Any, of), given["over"]), given)


def _top_p(given: Arguments) -> Value:
    return _selected(TopP(given["p"], given["over"], given["crossing"], given["least"], given["most"]), given)


def _above(given: Arguments) -> Value:
    return _selected(Above(given["t"], given["quantile"], given["over"]), given)


def _selected(selector: Selector, given: Arguments) -> Value:
    scores: UnitScores | None = given["score"]
    if scores is None:
        raise MaskError("there is no score to choose by", hint="give one: top(8, blocks(64))")
    count = given["count"]
    rule = Selected(selector, scores.score)
    return predicate.choice(rule, scores.q_unit, scores.k_unit, given["among"], count)


def _clusters(given: Arguments) -> Value:
    zero = index.const(0)
    return predicate.choice(Clusters(given["centroids"], given["members"]), zero, zero, predicate.TRUE)


def _spans(given: Arguments) -> Value:
    choice: Choice = given["units"]
    assert isinstance(choice.rule, Selected), "read as such"
    assert isinstance(choice.rule.selector, Top) and isinstance(choice.rule.selector.amount, float)
    if choice.rule.selector.amount > MOST_SPANS:
        raise MaskError(
            f"spans are of {MOST_SPANS} units at most, which every pair of positions is held against"
        )
    rule = Spans(choice.rule, given["back"], given["ahead"])
    return predicate.choice(rule, choice.q_unit, choice.k_unit, choice.among, predicate.FALSE)


def spannable(value: Predicate) -> Choice | None:
    """The value, where it is a choice that takes a number of units in each row, and counts none beforehand."""
    match value:
        case Choice(Selected(Top(float(), "number", "row"), score), count=predicate.FALSE):
            return None if along_diagonals(score) else value
    return None


def counted(value: Predicate) -> Counted | None:
    """As many as a choice would take, where the value is one. MaskError where it has candidates of its own."""
    match value:
        case Choice(Selected() as rule, among=None, count=predicate.FALSE):
            return Counted(rule)
        case Choice(Selected()):
            raise MaskError(
                "a choice whose number is taken has all units as candidates, and takes no 'among' and no 'count'"
            )
    return None


_HEADS = Words(get_args(Heads))
_SELECTING: dict[str, Kind] = {
    "score": Takes.SCORES,
    "over": Words(get_args(Over)),
    "among": Takes.MASK,
    "count": Takes.MASK,
}
_UNITS: dict[str, Kind] = {"block": Takes.UNITS, "q_block": Takes.UNITS}

# Signature, what the parameters take, and the maker. `none` is the absence of a value.
_OPERATORS: tuple[tuple[str, dict[str, Kind], Callable[[Arguments], Value]], ...] = (
    (
        "blocks(block=64, pool=mean, q_block=1, q_pool=mean, scale=none, norm=none, heads=each, proxy=1)",
        {
            **_UNITS,
            "pool": Takes.POOL,
            "q_pool": Takes.POOL,
            "scale": Takes.SCALE,
            "norm": Words(get_args(Norm)),
            "heads": _HEADS,
            "proxy": Takes.SIZE,
        },
        _blocks,
    ),
    (
        "compressed(block=64, kernel=32, stride=16, heads=group_sum, q_block=1)",
        {**_UNITS, "kernel": Takes.SIZE, "stride": Takes.SIZE, "heads": _HEADS},
        _compressed,
    ),
    (
        "exact(block=64, reduce=mean, q_block=1, norm=softmax, heads=each, causal=true, stride=1, proxy=1)",
        {
            **_UNITS,
            "reduce": Words(get_args(Reduce)),
            "norm": Words(("none", "softmax")),
            "heads": _HEADS,
            "causal": Takes.FLAG,
            "stride": Takes.SIZE,
            "proxy": Takes.SIZE,
        },
        _exact,
    ),
    (
        "antidiag(stride=8, block=128, mode=anti, scale=none, causal=true)",
        {
            "stride": Takes.SIZE,
            "block": Takes.UNITS,
            "mode": Words(("anti", "diag")),
            "scale": Takes.SCALE,
            "causal": Takes.FLAG,
        },
        _antidiag,
    ),
    (
        "probe(rows=64, along=keys, block=1, heads=each, width=1, causal=true)",
        {
            "rows": Takes.SIZE,
            "along": Words(("keys", "diagonals")),
            "block": Takes.UNITS,
            "heads": _HEADS,
            "width": Takes.SIZE,
            "causal": Takes.FLAG,
        },
        _probe,
    ),
    ("given(scores, block=64, q_block=64)", {**_UNITS, "scores": Takes.NAME}, _given),
    (
        "top(n=none, score=none, ratio=none, ratio_causal=none, over=row, among=none, count=none)",
        {**_SELECTING, "n": Takes.COUNT, "ratio": Takes.SHARE, "ratio_causal": Takes.SHARE},
        _top,
    ),
    (
        "top_p(p, score, over=row, crossing=keep, least=1, most=none, among=none, count=none)",
        {
            **_SELECTING,
            "p": Takes.SHARE,
            "crossing": Words(("keep", "drop")),
            "least": Takes.SIZE,
            "most": Takes.SIZE,
        },
        _top_p,
    ),
    (
        "above(t, score, quantile=false, over=row, among=none, count=none)",
        {**_SELECTING, "t": Takes.AMOUNT, "quantile": Takes.FLAG},
        _above,
    ),
    (
        "spans(units, back=0, ahead=0)",
        {"units": Takes.CHOICE, "back": Takes.REACH, "ahead": Takes.REACH},
        _spans,
    ),
    ("clusters(centroids, members=none)", {"centroids": Takes.NAME, "members": Takes.SIZE}, _clusters),
)


@lru_cache(maxsize=1)
def choosers() -> Mapping[str, Operator]:
    """The functions that choose, by name."""
    found = {}
    for signature, takes, make in _OPERATORS:
        source = Source(f"def {signature} = none")
        (definition,) = parse(source).statements
        assert isinstance(definition, tree.Def)
        found[definition.name] = Operator(definition, takes, make)
    return found
