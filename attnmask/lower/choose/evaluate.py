"""One choice: from q and k to the set of pairs of units that its rule takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

import torch

from attnmask.errors import MaskError
from attnmask.ir.choices import is_diagonal
from attnmask.ir.nodes import Choice
from attnmask.ir.predicate import TRUE
from attnmask.ir.rules import (
    Blocks,
    Counted,
    Exact,
    Norm,
    Probe,
    Selected,
    Top,
    TopP,
)
from attnmask.lower.choose.candidates import candidates, touched
from attnmask.lower.choose.distances import few_distances, keys_at
from attnmask.lower.choose.heads import reduced
from attnmask.lower.choose.scores import Inputs, Scores, axes, block_scores, scores_of, sets_of
from attnmask.lower.choose.select import Field, normalised, select
from attnmask.lower.choose.token_scores import (
    PORTION,
    portions,
)
from attnmask.lower.choose.units import Units, sizes_on

Tensor = torch.Tensor


# What some rows take, bool [B, heads, rows, columns], in another form. The columns are units of keys, or stand for
# the units [rows, columns] that are given, of which some may not exist; `count` of them there are.
Form = Callable[[Tensor, Tensor | None, int], Tensor]


def as_sets(taken: Tensor, of_columns: Tensor | None, count: int) -> Tensor:
    """bool [B, heads, rows, units]"""
    if of_columns is None:
        return taken
    at = torch.where((of_columns >= 0) & (of_columns < count), of_columns, torch.full_like(of_columns, count))
    found = taken.new_zeros(*taken.shape[:-1], count + 1)
    return found.scatter(-1, at.expand(taken.shape), taken)[..., :count]


@dataclass(frozen=True, slots=True)
class _Laid:
    """What is chosen from: columns of scores, and the units that they stand for where they are not all of them."""

    scores: Scores
    field: Field
    width: int
    of_columns: Callable[[slice], Tensor | None]


def chosen(choice: Choice, rule: Selected, inputs: Inputs, form: Form = as_sets) -> Tensor:
    """bool [B, heads, query units, key units]: the pairs of units that the rule takes.

    `form` gives the rows another form, some at a time, where those of all of them would be large.
    """
    at = axes(choice, inputs.domain, inputs.tables)
    sets = sets_of(rule.score, inputs)
    laid = _at_distances(choice, rule, at, inputs) or _Laid(
        scores_of(rule.score, at, inputs), _field(choice, rule, sets, inputs), at[1].count, lambda rows: None
    )
    scores, field = laid.scores, laid.field
    norm = _norm(rule)
    amount = rule.selector.amount if isinstance(rule.selector, Top) else None
    numbers = None
    if isinstance(amount, Counted):
        if rule.selector.over == "column":
            raise MaskError("a number counted by rows says nothing about columns")
        numbers = _counted(choice, amount, inputs).expand(inputs.q.shape[0], -1, at[0].count)
        if (fewer := sets // numbers.shape[1]) > 1:
            numbers = numbers.repeat_interleave(fewer, dim=1)

    def some(rows: slice) -> Tensor:
        part = _rows(field, rows)
        raw = scores.of_rows(rows)
        if inputs.check and not bool(torch.isfinite(raw).all()):
            raise MaskError("a score is NaN or infinite, and what is not a number cannot be ranked")
        if inputs.check and isinstance(rule.selector, TopP) and bool((raw < 0).any()) and norm == "none":
            raise MaskError("top_p adds up weights, and some of them are negative")
        # The candidates of a set are those of all of its heads.
        allowed = part.candidates
        if allowed.shape[1] not in (1, raw.shape[1]):
            allowed = allowed.repeat_interleave(raw.shape[1] // allowed.shape[1], dim=1)
        found = normalised(raw, norm, allowed, rule.selector.over)
        if isinstance(rule.score, Blocks):
            found = reduced(found, rule.score.heads, inputs.k.shape[1])
        if numbers is None:
            return select(rule.selector, found, part, inputs.given, None)
        if (each := numbers.shape[1] // found.shape[1]) > 1:
            # Heads that share a ranking take each as many as they need.
            found = found.repeat_interleave(each, dim=1)
            part = _more_heads(part, each)
        return select(rule.selector, found, part, inputs.given, numbers[:, :, rows])

    def formed(rows: slice) -> Tensor:
        return form(some(rows), laid.of_columns(rows), at[1].count)

    cells = inputs.q.shape[0] * scores.heads * laid.width
    if rule.selector.over in ("row", "row_heads") and cells * at[0].count > PORTION:
        return torch.cat([formed(rows) for rows in portions(at[0].count, cells)], dim=2)
    return formed(slice(0, at[0].count))


def _at_distances(choice: Choice, rule: Selected, at: tuple[Units, Units], inputs: Inputs) -> _Laid | None:
    """Single keys at few distances from each query, in ascending order."""
    distances = few_distances(choice, inputs.domain)
    if distances is None or not isinstance(rule.score, Blocks):
        return None

    def of_columns(rows: slice) -> Tensor:
        return keys_at(distances, rows, inputs.domain, inputs.q.device)

    keys = of_columns(slice(0, at[0].count))
    exists = ((keys >= 0) & (keys < at[1].count))[None, None]
    scores = block_scores(rule.score, at, inputs, distances)
    return _Laid(scores, Field(exists, None, exists), len(distances), of_columns)


def _norm(rule: Selected) -> Norm:
    norm = rule.score.norm if isinstance(rule.score, Blocks) else "none"
    score, none = rule.score, ("none", "rowmax")
    if isinstance(rule.selector, TopP) and isinstance(score, Blocks | Exact) and score.norm in none:
        raise MaskError("top_p needs scores that add up", hint="write norm=softmax")
    return norm


def _field(choice: Choice, rule: Selected, heads: int, inputs: Inputs) -> Field:
    units_of = choice.q_unit, choice.k_unit
    domain, tables, device = inputs.domain, inputs.tables, inputs.q.device
    diagonal, whole = is_diagonal(choice), not isinstance(rule.score, Probe)
    among = TRUE if choice.among is None else choice.among
    allowed = candidates(among, units_of, domain, tables, device, whole=whole, diagonal=diagonal)
    forced = touched(choice.count, units_of, domain, tables, device, diagonal=diagonal)
    exists = touched(TRUE, units_of, domain, tables, device, diagonal=diagonal)
    assert exists is not None, "all is somewhere"
    return _fewer_heads(Field(allowed, forced, exists), heads)


def _fewer_heads(field: Field, heads: int) -> Field:
    """For sets that groups of heads share: candidates for all of them, counted for any."""
    allowed, forced = field.candidates, field.forced
    if allowed.shape[1] not in (1, heads):
        allowed = torch.unflatten(allowed, 1, (heads, -1)).all(2)
    if forced is not None and forced.shape[1] not in (1, heads):
        forced = torch.unflatten(forced, 1, (heads, -1)).any(2)
    return Field(allowed, forced, field.exists)


def _more_heads(field: Field, each: int) -> Field:
    """The same for every head of those that shared a set."""
    parts = (
        None if part is None else part if part.shape[1] == 1 else part.repeat_interleave(each, dim=1)
        for part in (field.candidates, field.forced, field.exists)
    )
    return Field(*cast(tuple[Tensor, Tensor | None, Tensor], tuple(parts)))


def _rows(field: Field, rows: slice) -> Field:
    parts = (
        None if part is None else part if part.shape[2] == 1 else part[:, :, rows]
        for part in (field.candidates, field.forced, field.exists)
    )
    return Field(*cast(tuple[Tensor, Tensor | None, Tensor], tuple(parts)))


def _counted(choice: Choice, counted: Counted, inputs: Inputs) -> Tensor:
    """[B, H, rows or 1]: how many units the other rule takes in each row, all of them being candidates."""
    rule = counted.rule
    at = axes(choice, inputs.domain, inputs.tables)
    scores = scores_of(rule.score, at, inputs)
    every = (sizes_on(at[1], inputs.q.device) > 0)[None, None, None]
    found = normalised(scores.of_rows(slice(0, at[0].count)), _norm(rule), every, rule.selector.over)
    if isinstance(rule.score, Blocks):
        found = reduced(found, rule.score.heads, inputs.k.shape[1])
    selector = rule.selector
    amount = selector.amount if isinstance(selector, Top) else None
    numbers = _counted(choice, amount, inputs) if isinstance(amount, Counted) else None
    return select(selector, found, Field(every, None, every), inputs.given, numbers).sum(-1)
