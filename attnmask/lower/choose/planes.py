"""Choices whose units differ between batch rows or heads: made apart for each of them, and put side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import assert_never

import torch

from attnmask.errors import MaskError
from attnmask.ir import index, predicate
from attnmask.ir.domain import Domain
from attnmask.ir.nodes import Choice, Expr
from attnmask.ir.rule_names import amount_of, weights
from attnmask.ir.rules import Blocks, Counted, Given, Rule, Selected, Spans, Top
from attnmask.ir.walk import substitute, variables
from attnmask.lower.choose.scores import Inputs, Tables, axes, given_scores, sets_of
from attnmask.lower.choose.sets import Chosen, Intervals, Members, Pairs, tensors
from attnmask.lower.choose.spans import reach_of
from attnmask.lower.choose.units import Units, require_few

Tensor = torch.Tensor


@dataclass(frozen=True, slots=True)
class Part:
    """A batch row, or all of them (None), and a run of heads that have the same units.

    `choice` and `domain` are theirs: in them heads and batch rows are counted from 0. `number`: which of the sets it
    is, or all of them (None).
    """

    choice: Choice
    domain: Domain
    row: int | None
    number: int | None
    at_q: Units
    at_k: Units


def differs(choice: Choice) -> frozenset[str]:
    """Which of "b" and "h" the units of a choice depend on."""
    return frozenset({"b", "h"} & (variables(choice.q_unit) | variables(choice.k_unit)))


def parts(choice: Choice, domain: Domain, tables: Tables, sets: int) -> Iterator[Part]:
    """The call in parts with units of their own; `sets`: how many sets its heads share."""
    by = differs(choice)
    rows = range(domain.batch) if "b" in by else (None,)
    numbers = range(sets) if "h" in by else (None,)
    for row in rows:
        for number in numbers:
            each = domain.heads if number is None else domain.heads // sets
            own = replace(domain, batch=domain.batch if row is None else 1, heads=each)
            found = [
                _of(choice, domain, row, 0 if number is None else number * each + head)
                for head in range(1 if number is None else each)
            ]
            at = [axes(head, own, tables) for head in found]
            if not all(_same(mine, first) for other in at for mine, first in zip(other, at[0], strict=True)):
                raise MaskError("heads that share one choice must have the same units")
            yield Part(found[0], own, row, number, *at[0])


def _same(a: Units, b: Units) -> bool:
    return (a.first, a.count) == (b.first, b.count) and bool((a.ids == b.ids).all())


def _of(choice: Choice, domain: Domain, row: int | None, head: int) -> Choice:
    """The choice as it is for a batch row (None: all) and the heads from this one on, with the units of this one."""
    sizes: dict[Expr, Expr] = {
        index.var("B"): index.const(domain.batch),
        index.var("H"): index.const(domain.heads),
    }
    if row is not None:
        sizes[index.var("b")] = index.const(row)
    here = {**sizes, index.var("h"): index.const(head)}
    there = {**sizes, index.var("h"): index.add(index.var("h"), index.const(head))}
    assert choice.among is not None, "choices are closed beforehand"
    q_unit, k_unit = (substitute(unit, here) for unit in (choice.q_unit, choice.k_unit))
    among, count = (substitute(part, there) for part in (choice.among, choice.count))
    return predicate.choice(choice.rule, q_unit, k_unit, among, count)


def extent(choice: Choice, domain: Domain, tables: Tables, sets: int) -> tuple[int, int, int]:
    """The first unit of queries of a call, how many there are from it on, and how many of keys."""
    if not differs(choice):
        at_q, at_k = axes(choice, domain, tables)
        return at_q.first, at_q.count, at_k.count
    every = tuple(parts(choice, domain, tables, sets))
    first = min(part.at_q.first for part in every)
    stop = max(part.at_q.first + part.at_q.count for part in every)
    # A single query has one unit, whatever its number in each batch row.
    queries = 1 if domain.q_len == 1 else stop - first
    require_few(queries, domain.q_len)
    return first, queries, max(part.at_k.count for part in every)


def _rows(part: Part, first: int) -> slice:
    """Where the units of queries of a part lie among those of the call, which are counted from `first`."""
    start = 0 if part.domain.q_len == 1 else part.at_q.first - first
    return slice(start, start + part.at_q.count)


def apart(choice: Choice, inputs: Inputs, one: Callable[[Choice, Inputs], Chosen]) -> Chosen:
    """What `one` chooses for each part, side by side. MaskError where parts would compete."""
    rule = choice.rule.chosen if isinstance(choice.rule, Spans) else choice.rule
    assert isinstance(rule, Selected), "clusters have no units"
    if "h" in differs(choice):
        _require_apart(rule)
    sets = sets_of(rule.score, inputs)
    whole = extent(choice, inputs.domain, inputs.tables, sets)
    found: list[list[Chosen]] = []
    for part in parts(choice, inputs.domain, inputs.tables, sets):
        mine = one(part.choice, _inputs(part, choice.rule, rule, inputs, sets, whole))
        if not part.number:
            found.append([])
        found[-1].append(_placed(mine, part, whole))
    return _joined([_joined(row, 1) for row in found], 0)


def _require_apart(rule: Selected) -> None:
    """MaskError where heads with units of their own would have to be looked at together."""
    if rule.selector.over in ("all", "row_heads"):
        raise MaskError("heads that compete together must have the same units")
    if isinstance(rule.selector, Top) and isinstance(rule.selector.amount, Counted):
        raise MaskError("a number that another rule counts needs units that are the same for all heads")
    if isinstance(rule.score, Blocks) and (weights(rule.score.pool) | weights(rule.score.q_pool)):
        raise MaskError("linear pools need units that are the same for all heads")


def _inputs(
    part: Part, rule: Rule, chosen: Selected, inputs: Inputs, sets: int, whole: tuple[int, int, int]
) -> Inputs:
    """The queries and keys of a part, and what is given for it; `whole` as `extent` gives it."""
    batch = slice(None) if part.row is None else slice(part.row, part.row + 1)
    heads = kept = number = slice(None)
    if part.number is not None:
        each, group = part.domain.heads, inputs.q.shape[1] // inputs.k.shape[1]
        number = slice(part.number, part.number + 1)
        heads = slice(part.number * each, (part.number + 1) * each)
        kept = slice(heads.start // group, -(-heads.stop // group))
    given = dict(inputs.given)
    if isinstance(chosen.score, Given):
        name = chosen.score.name
        scores = given_scores(name, inputs, whole[1:])
        given[name] = scores[batch, number, _rows(part, whole[0]), : part.at_k.count]
    amount = amount_of(chosen.selector)
    if isinstance(amount, str) and given[amount].shape == (sets,):
        given[amount] = given[amount][number]
    for reach in (rule.back, rule.ahead) if isinstance(rule, Spans) else ():
        if isinstance(reach, str):
            given[reach] = reach_of(reach, inputs.given, inputs.q).expand(*inputs.q.shape[:2], -1)[
                batch, heads
            ]
    return replace(inputs, q=inputs.q[batch, heads], k=inputs.k[batch, kept], domain=part.domain, given=given)


def _placed(found: Chosen, part: Part, whole: tuple[int, int, int]) -> Chosen:
    """The sets of a part with rows and columns for all units of the call."""
    first, queries, keys = whole
    rows = _rows(part, first)
    before, after = rows.start, queries - rows.stop
    match found:
        case Pairs(taken):
            return Pairs(torch.nn.functional.pad(taken, (0, keys - taken.shape[3], before, after)))
        case Intervals(low, high, unit, by_query, _):
            if not by_query:
                low, high, unit = (
                    torch.nn.functional.pad(x, (0, 0, before, after), value=nothing)
                    for x, nothing in ((low, 0), (high, -1), (unit, -1))
                )
            return Intervals(low, high, unit, by_query, keys)
        case Members():
            raise AssertionError("clusters have no units")
        case _:
            assert_never(found)


def _joined(found: Sequence[Chosen], dim: int) -> Chosen:
    match found[0]:
        case Pairs():
            return Pairs(torch.cat([each.taken for each in found if isinstance(each, Pairs)], dim=dim))
        case Intervals():
            every = [tensors(each) for each in found]
            low, high, unit = (torch.cat(parts, dim=dim) for parts in zip(*every, strict=True))
            return replace(found[0], low=low, high=high, unit=unit)
        case Members():
            raise AssertionError("clusters have no units")


def of_part(found: Chosen, part: Part, first: int) -> Chosen:
    """What was chosen for a part of a call, of which `first` is the first unit of queries."""
    batch = slice(None) if part.row is None else slice(part.row, part.row + 1)
    number = slice(None) if part.number is None else slice(part.number, part.number + 1)
    rows = _rows(part, first)
    match found:
        case Pairs(taken):
            return Pairs(taken[batch, number, rows, : part.at_k.count])
        case Intervals():
            rows = slice(None) if found.by_query else rows
            low, high, unit = (x[batch, number, rows] for x in tensors(found))
            return replace(found, low=low, high=high, unit=unit)
        case Members():
            raise AssertionError("clusters have no units")
        case _:
            assert_never(found)
