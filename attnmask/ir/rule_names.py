"""The names that rules of choices read: arrays and numbers that are given with q and k."""

from __future__ import annotations

from typing import assert_never

from attnmask.ir.choices import choices_of
from attnmask.ir.nodes import Predicate
from attnmask.ir.rules import (
    Above,
    Amount,
    Blocks,
    Clusters,
    Concat,
    Counted,
    Given,
    Linear,
    Pooling,
    Rule,
    Selector,
    Spans,
    Top,
    TopP,
)


def names_given(root: Predicate) -> frozenset[str]:
    """The names that the rules of a mask's choices read."""
    return frozenset[str]().union(*(_names(choice.rule) for choice in choices_of(root)))


def _names(rule: Rule) -> set[str]:
    if isinstance(rule, Clusters):
        return {rule.centroids}
    if isinstance(rule, Spans):
        return _names(rule.chosen) | {reach for reach in (rule.back, rule.ahead) if isinstance(reach, str)}
    score, names = rule.score, set[str]()
    if isinstance(score, Given):
        names.add(score.name)
    if isinstance(score, Blocks):
        names |= weights(score.pool) | weights(score.q_pool)
    amount = amount_of(rule.selector)
    if isinstance(amount, str):
        names.add(amount)
    elif isinstance(amount, Counted):
        names |= _names(amount.rule)
    return names


def amount_of(selector: Selector) -> Amount | Counted:
    """The number, share or threshold of a selector."""
    match selector:
        case Top(amount):
            return amount
        case TopP(share):
            return share
        case Above(threshold):
            return threshold
        case _:
            assert_never(selector)


def weights(pool: Pooling) -> set[str]:
    """The names of the matrices of a pool."""
    match pool:
        case Linear(name, inner):
            return {name} | weights(inner)
        case Concat(pools):
            return set[str]().union(*map(weights, pools))
    return set()
