"""What a rule selects: candidates, scores, amounts, and then the selector."""

from __future__ import annotations

from dataclasses import dataclass
from typing import assert_never

import numpy as np

from attnmask.errors import MaskError
from attnmask.ir.chosen.antidiagonal import antidiagonal_scores
from attnmask.ir.chosen.blocks import block_scores
from attnmask.ir.chosen.call import Bools, Call, Floats
from attnmask.ir.chosen.heads import given_scores, sets_of
from attnmask.ir.chosen.selecting import select
from attnmask.ir.chosen.tokens import compressed_scores, exact_scores, probe_scores
from attnmask.ir.chosen.units import Units
from attnmask.ir.rules import (
    Above,
    Amount,
    Antidiagonal,
    Blocks,
    Compressed,
    Counted,
    Exact,
    Given,
    Over,
    Probe,
    ScoreMap,
    Selected,
    Selector,
    Top,
    TopP,
    along_diagonals,
)


@dataclass(frozen=True, slots=True)
class Scored:
    """The pairs of units before any is taken: all arrays are [B, sets, rows, keys]."""

    scores: Floats
    exists: Bools
    candidates: Bools
    forced: Bools


def scored(rule: Selected, call: Call, units: Units, among: Bools, count: Bools) -> Scored:
    """`among` and `count` are [B, H, Q, K]."""
    _require_weights(rule)
    if along_diagonals(rule.score) != units.diagonal:
        raise MaskError("units of keys have no diagonals, and diagonals have no units of keys")
    sets = sets_of(rule.score, call)
    of_sets = units.shared(sets)
    exists = of_sets.any_pair(np.ones_like(of_sets.keys, np.bool_))
    if isinstance(rule.score, Probe):
        candidates = np.asarray(_by_sets(units.any_pair(among), sets).all(2))
    else:
        candidates = np.asarray(exists & ~_by_sets(units.any_pair(~among), sets).any(2))
    forced = np.asarray(_by_sets(units.any_pair(count), sets).any(2))
    scores = _scores(rule.score, call, of_sets, candidates, rule.selector.over)
    return Scored(scores, exists, candidates, forced)


def selected(rule: Selected, call: Call, units: Units, among: Bools, count: Bools) -> Bools:
    """bool [B, sets, rows, keys]: the pairs of units that are chosen. `among` and `count` are [B, H, Q, K]."""
    found = scored(rule, call, units, among, count)
    amounts = _amounts(rule.selector, call, units, found.exists.shape[:3])
    # Heads that share a ranking may each take as many as they need.
    each = amounts.shape[1] // found.scores.shape[1]
    exists, candidates, forced = (
        np.repeat(part, each, axis=1) for part in (found.exists, found.candidates, found.forced)
    )
    scores = np.repeat(found.scores, each, axis=1)
    return select(rule.selector, scores, exists, candidates, forced, amounts)


def _by_sets(of_heads: Bools, sets: int) -> Bools:
    """[B, sets, heads of a set, rows, keys]"""
    batch, heads, *rest = of_heads.shape
    return of_heads.reshape(batch, sets, heads // sets, *rest)


def _require_weights(rule: Selected) -> None:
    """MaskError where shares are taken of scores that do not add up."""
    match rule:
        case Selected(TopP(), Blocks(norm="none" | "rowmax" as norm) | Exact(norm="none" as norm)):
            raise MaskError(
                f"top_p adds up weights, and scores with norm={norm} are none", hint="norm=softmax"
            )


def _scores(score: ScoreMap, call: Call, units: Units, candidates: Bools, over: Over) -> Floats:
    """[B, sets, rows, keys]"""
    sets = candidates.shape[1]
    match score:
        case Blocks():
            return block_scores(score, call, units, candidates, over)
        case Compressed():
            return compressed_scores(score, call, units, sets)
        case Exact():
            return exact_scores(score, call, units, sets)
        case Antidiagonal():
            return antidiagonal_scores(score, call, units)
        case Probe():
            return probe_scores(score, call, units, sets)
        case Given(name):
            found, shape = given_scores(call, name), candidates.shape
            if any(size not in (1, wanted) for size, wanted in zip(found.shape[:3], shape[:3], strict=True)):
                raise MaskError(f"'{name}' has the shape {found.shape}, which does not fit {shape}")
            if found.shape[3] != shape[3]:
                raise MaskError(f"'{name}' scores {found.shape[3]} units of keys, and there are {shape[3]}")
            return np.broadcast_to(found, shape)
        case _:
            assert_never(score)


def _amounts(selector: Selector, call: Call, units: Units, shape: tuple[int, ...]) -> Floats:
    """The amount of the selector for every row: [B, sets, rows]."""
    match selector:
        case Top(Counted(rule), over="column"):
            raise MaskError("a number counted by rows says nothing about columns")
        case Top(Counted(rule)):
            return _counted(rule, call, units, shape)
        case Top(amount, "number"):
            return _amount(amount, call, shape, whole=True)
        case Top(amount) | TopP(amount):
            return _amount(amount, call, shape, share=True)
        case Above(threshold, quantile):
            return _amount(threshold, call, shape, share=quantile)
        case _:
            assert_never(selector)


def _amount(
    amount: Amount | Counted, call: Call, shape: tuple[int, ...], *, whole: bool = False, share: bool = False
) -> Floats:
    assert not isinstance(amount, Counted), "only numbers are counted"
    found = call.named(amount) if isinstance(amount, str) else np.asarray(amount, np.float64)
    if found.shape not in ((), (1,), (shape[1],)):
        raise MaskError(f"'{amount}' has the shape {found.shape}, not one number or {shape[1]}, one a head")
    if whole and ((found < 0) | (found != np.floor(found))).any():
        raise MaskError(f"'{amount}' must hold whole numbers from 0")
    if share and ((found < 0) | (found > 1)).any():
        raise MaskError(f"'{amount}' must lie between 0 and 1")
    if share and isinstance(amount, str) and np.asarray(call.given[amount]).dtype != np.float64:
        found = np.round(found, 7)  # as the digits of float32 say
    return np.broadcast_to(found.reshape(-1, 1), shape)


def _counted(rule: Selected, call: Call, units: Units, shape: tuple[int, ...]) -> Floats:
    everything = np.ones(units.keys.shape, np.bool_)
    taken = selected(rule, call, units, everything, ~everything).sum(-1)
    if taken.shape[1] % shape[1] == 0:
        return np.asarray(taken, np.float64)
    if shape[1] % taken.shape[1]:
        raise MaskError(f"{taken.shape[1]} numbers for as many heads do not fit {shape[1]} sets")
    return np.repeat(taken, shape[1] // taken.shape[1], axis=1).astype(np.float64)
