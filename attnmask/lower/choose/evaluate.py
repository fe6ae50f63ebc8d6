"""One choice: from q and k to the set of pairs of units that its rule takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import assert_never, cast

import torch

from attnmask.errors import MaskError
from attnmask.ir.choices import is_diagonal
from attnmask.ir.domain import Domain
from attnmask.ir.nodes import Choice
from attnmask.ir.predicate import TRUE
from attnmask.ir.rules import (
    Antidiagonal,
    Blocks,
    Compressed,
    Counted,
    Exact,
    Given,
    Norm,
    Pool,
    Probe,
    ScoreMap,
    Selected,
    Top,
    TopP,
)
from attnmask.ir.tables import TableData
from attnmask.lower.choose.candidates import candidates, touched
from attnmask.lower.choose.heads import products, proxies, reduced
from attnmask.lower.choose.pools import pooled, wide
from attnmask.lower.choose.select import Field, normalised, select
from attnmask.lower.choose.token_scores import (
    PORTION,
    antidiagonal_scores,
    compressed_scores,
    exact_scores,
    portions,
    probe_scores,
)
from attnmask.lower.choose.units import Units, diagonal_units, sizes_on, units

Tensor = torch.Tensor
Tables = Mapping[str, TableData]


@dataclass(frozen=True, slots=True)
class Inputs:
    """What is chosen from: q [B, Hq, Q, D], k [B, Hkv, K, D], their call, bound tables, and what is given by name.

    `check`: scores are looked at for NaN and infinity, for which the host waits.
    """

    q: Tensor
    k: Tensor
    domain: Domain
    tables: Tables
    given: Mapping[str, Tensor]
    check: bool


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of pairs of units, some rows at a time: [B, heads, rows, units]."""

    heads: int
    of_rows: Callable[[slice], Tensor]


def axes(choice: Choice, domain: Domain, tables: Tables) -> tuple[Units, Units]:
    """The units of a choice along the queries and along the keys (or distances)."""
    at_q = units(choice.q_unit, "q", domain, tables)
    if is_diagonal(choice):
        return at_q, diagonal_units(choice.k_unit, domain, tables)
    return at_q, units(choice.k_unit, "k", domain, tables)


def sets_of(score: ScoreMap, inputs: Inputs) -> int:
    """How many sets are chosen, each for as many query heads."""
    heads, kv_heads = inputs.q.shape[1], inputs.k.shape[1]
    match score:
        case Given(name):
            return inputs.given[name].shape[1] if inputs.given[name].dim() == 4 else heads
        case Antidiagonal():
            return heads
        case Blocks(heads="concat"):
            return 1
        case Blocks() | Exact():
            return reduced(inputs.q.new_empty(0, heads // score.proxy, 0), score.heads, kv_heads).shape[1]
        case Compressed() | Probe():
            return reduced(inputs.q.new_empty(0, heads, 0), score.heads, kv_heads).shape[1]
        case _:
            assert_never(score)


def _as_they_are(taken: Tensor) -> Tensor:
    return taken


def chosen(
    choice: Choice, rule: Selected, inputs: Inputs, form: Callable[[Tensor], Tensor] = _as_they_are
) -> Tensor:
    """bool [B, heads, query units, key units]: the pairs of units that the rule takes.

    `form` gives the rows another form, some at a time, where those of all of them would be large.
    """
    at = axes(choice, inputs.domain, inputs.tables)
    scores = _scores(rule.score, at, inputs)
    sets = sets_of(rule.score, inputs)
    field = _field(choice, rule, sets, inputs)
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

    cells = inputs.q.shape[0] * scores.heads * at[1].count
    if rule.selector.over in ("row", "row_heads") and cells * at[0].count > PORTION:
        return torch.cat([form(some(rows)) for rows in portions(at[0].count, cells)], dim=2)
    return form(some(slice(0, at[0].count)))


def _scores(score: ScoreMap, at: tuple[Units, Units], inputs: Inputs) -> Scores:
    q, k, domain = inputs.q, inputs.k, inputs.domain
    match score:
        case Blocks():
            return _block_scores(score, at, inputs)
        case Compressed():
            return Scores(*compressed_scores(score, q, k, at, domain))
        case Exact():
            return _whole(exact_scores(score, q, k, at, domain))
        case Antidiagonal():
            return _whole(antidiagonal_scores(score, q, k, at, domain))
        case Probe():
            return _whole(probe_scores(score, q, k, at[1], domain))
        case Given(name):
            return _whole(given_scores(name, inputs, (at[0].count, at[1].count)))
        case _:
            assert_never(score)


def _whole(scores: Tensor) -> Scores:
    return Scores(scores.shape[1], lambda rows: scores[:, :, rows])


def _block_scores(score: Blocks, at: tuple[Units, Units], inputs: Inputs) -> Scores:
    q, k = proxies(inputs.q, inputs.k, score.proxy)
    bounds = score.pool == Pool("bounds")
    keys = pooled(k, at[1], score.pool, inputs.given)
    per_token = at[0].run == 1
    queries = (
        None if per_token and score.q_pool == Pool("mean") else pooled(q, at[0], score.q_pool, inputs.given)
    )

    def of_rows(rows: slice) -> Tensor:
        part = wide(q[:, :, rows]) if queries is None else queries[:, :, rows]
        channels = part.shape[-1]
        if bounds:  # the largest product that the box allows, channel by channel
            part = torch.cat([part.clamp(min=0), part.clamp(max=0)], dim=-1)
        if part.shape[-1] != keys.shape[-1]:
            raise MaskError(
                f"pooled queries have {part.shape[-1]} channels and pooled keys {keys.shape[-1]}",
                hint="q_pool must make as many channels as pool",
            )
        scale = 1 / math.sqrt(channels) if score.scale is None else score.scale
        found = products(part, keys) * scale
        return found.sum(1, keepdim=True) if score.heads == "concat" else found

    return Scores(1 if score.heads == "concat" else q.shape[1], of_rows)


def given_scores(name: str, inputs: Inputs, units_of: tuple[int, int]) -> Tensor:
    """[B, 1 or key heads or heads, query units, key units]; MaskError where they are not so many."""
    scores = inputs.given[name]
    shape = (*inputs.q.shape[:2], *units_of)
    heads = (1, inputs.k.shape[1], inputs.q.shape[1])
    fits = (
        scores.dim() == 4
        and scores.shape[0] in (1, shape[0])
        and scores.shape[1] in heads
        and scores.shape[2] in (1, shape[2])
        and scores.shape[3] == shape[3]
    )
    if not fits:
        raise MaskError(
            f"'{name}' has shape {tuple(scores.shape)}, and scores of {shape[2]} units of queries and {shape[3]} of "
            f"keys are [{shape[0]} or 1, {' or '.join(map(str, sorted(set(heads))))}, {shape[2]} or 1, {shape[3]}]"
        )
    dtype = scores.dtype if scores.dtype == torch.float64 else torch.float32
    return scores.detach().to(dtype).expand(shape[0], -1, shape[2], -1)


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
    scores = _scores(rule.score, at, inputs)
    every = (sizes_on(at[1], inputs.q.device) > 0)[None, None, None]
    found = normalised(scores.of_rows(slice(0, at[0].count)), _norm(rule), every, rule.selector.over)
    if isinstance(rule.score, Blocks):
        found = reduced(found, rule.score.heads, inputs.k.shape[1])
    selector = rule.selector
    amount = selector.amount if isinstance(selector, Top) else None
    numbers = _counted(choice, amount, inputs) if isinstance(amount, Counted) else None
    return select(selector, found, Field(every, None, every), inputs.given, numbers).sum(-1)
