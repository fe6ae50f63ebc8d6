"""Selectors: from scores of pairs of units to the set that is chosen."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import assert_never

import torch

from attnmask.errors import MaskError
from attnmask.ir.rules import Above, Amount, Counted, Over, Selector, Top, TopP

Tensor = torch.Tensor


@dataclass(frozen=True, slots=True)
class Scope:
    """Lays what competes side by side in the last dimension: [B, H, rows, units] → [..., cells], and back."""

    over: Over
    shape: tuple[int, ...]

    def flat(self, x: Tensor) -> Tensor:
        x = x.expand(self.shape)
        match self.over:
            case "row":
                return x
            case "head":
                return x.flatten(2)
            case "all":
                return x.flatten(1)
            case "row_heads":
                return x.permute(0, 2, 1, 3).flatten(2)
            case "column":
                return x.transpose(2, 3)
            case _:
                assert_never(self.over)

    def back(self, x: Tensor) -> Tensor:
        batch, heads, rows, units = self.shape
        match self.over:
            case "row":
                return x
            case "head" | "all":
                return x.reshape(self.shape)
            case "row_heads":
                return x.reshape(batch, rows, heads, units).permute(0, 2, 1, 3)
            case "column":
                return x.transpose(2, 3)
            case _:
                assert_never(self.over)

    def budget(self, each: Tensor) -> Tensor:
        """An amount for each row, [B or 1, H or 1, rows or 1], added up over the rows that compete: [..., 1]."""
        batch, heads, rows, _ = self.shape
        each = each.expand(batch, heads, rows)
        match self.over:
            case "row":
                return each[..., None]
            case "head":
                return each.sum(2, keepdim=True)
            case "all":
                return each.flatten(1).sum(1, keepdim=True)
            case "row_heads":
                return each.sum(1)[..., None]
            case "column":
                return each[:, :, :1, None]
            case _:
                assert_never(self.over)


@dataclass(frozen=True, slots=True)
class Field:
    """What is chosen from: bool tensors that broadcast to the scores. `exists` are the cells of existing units."""

    candidates: Tensor
    forced: Tensor | None
    exists: Tensor


def select(
    selector: Selector,
    scores: Tensor,
    field: Field,
    given: Mapping[str, Tensor],
    numbers: Tensor | None,
) -> Tensor:
    """bool [B, H, rows, units]: the chosen ones. `numbers`: as many as another rule would take, [B, H, rows]."""
    scope = Scope(selector.over, tuple(scores.shape))
    flat = scope.flat(scores)
    allowed = scope.flat(field.candidates)
    forced = None if field.forced is None else scope.flat(field.forced)
    free = allowed if forced is None else allowed & ~forced
    match selector:
        case Top():
            taken = _best(flat, free, _budget(selector, scope, field, forced, given, numbers))
        case TopP():
            taken = _mass(selector, flat, free, forced, _share(selector.p, scope, flat, given))
        case Above(threshold, quantile, _):
            each = _share(threshold, scope, flat, given, threshold=not quantile)
            taken = _quantile(flat, allowed, each) if quantile else free & (flat > each)
        case _:
            assert_never(selector)
    return scope.back(taken if forced is None else taken | forced)


def amount(value: Amount, given: Mapping[str, Tensor], like: Tensor) -> Tensor:
    """A number, or one for each head, as [1, 1 or H, 1]."""
    if not isinstance(value, str):
        return torch.full((1, 1, 1), value, dtype=torch.float64, device=like.device)
    named = given[value].to(torch.float64)
    if named.dim() > 1:
        raise MaskError(f"'{value}' is one number, or one for each head, not {tuple(named.shape)}")
    return named.reshape(1, -1, 1)


def _share(
    value: Amount, scope: Scope, flat: Tensor, given: Mapping[str, Tensor], *, threshold: bool = False
) -> Tensor:
    """A share, or a threshold, for each competition: [..., 1] of `flat`'s dimensions.

    A share in float32 is meant as its seven digits say: nine tenths of ten are nine.
    """
    each = amount(value, given, flat)
    if not threshold and isinstance(value, str) and given[value].dtype != torch.float64:
        each = each.round(decimals=7)
    if each.shape[1] == 1:
        return each.reshape((1,) * flat.dim())
    if scope.over in ("all", "row_heads"):
        raise MaskError(f"'{value}' has a number for each head, and the heads compete together")
    each = _for_heads(value, each, scope)
    return each if scope.over == "head" else each[..., None]


def _for_heads(value: Amount, each: Tensor, scope: Scope) -> Tensor:
    if each.shape[1] not in (1, scope.shape[1]):
        raise MaskError(
            f"'{value}' has {each.shape[1]} numbers, and there are {scope.shape[1]} heads of scores"
        )
    return each


def _budget(
    selector: Top,
    scope: Scope,
    field: Field,
    forced: Tensor | None,
    given: Mapping[str, Tensor],
    numbers: Tensor | None,
) -> int | Tensor:
    """How many of the free ones may be taken: a number, or one for each competition [..., 1]."""
    match selector.amount, selector.of:
        case Counted(), _:
            assert numbers is not None, "counted beforehand"
            each = numbers.to(torch.float64)
        case value, "number":
            if not isinstance(value, str) and forced is None and scope.over in ("row", "column"):
                return int(value)
            each = _for_heads(value, amount(value, given, field.candidates), scope)
        case value, of:
            cells = scope.flat(field.exists).sum(-1, keepdim=True)
            share = _share(value, scope, cells, given)
            share = 1 - (1 - share).sqrt() if of == "ratio_causal" else share
            total = (share * cells + 1e-9).floor().clamp(min=1)
            return _less(total, forced)
    if scope.over != "column":
        each = each * field.exists.any(-1)  # rows without queries have no amount
    return _less(scope.budget(each), forced)


def _less(total: Tensor, forced: Tensor | None) -> Tensor:
    left = total if forced is None else total - forced.sum(-1, keepdim=True)
    return left.clamp(min=0).to(torch.int64)


def _best(scores: Tensor, free: Tensor, budget: int | Tensor) -> Tensor:
    """The best free ones, as many as the budget allows; of equal ones the first."""
    cells = scores.shape[-1]
    masked = scores.masked_fill(~free, -torch.inf)
    if isinstance(budget, int):
        if budget >= cells:
            return free
        last = masked.topk(budget, dim=-1, sorted=False).values.amin(-1, keepdim=True)
    else:
        ordered = masked.sort(-1, descending=True).values
        last = ordered.gather(-1, (budget - 1).clamp(min=0, max=cells - 1).expand(*ordered.shape[:-1], 1))
    above, equal = free & (masked > last), free & (masked == last)
    left = budget - above.sum(-1, keepdim=True, dtype=torch.int32)
    taken = above | equal & (equal.cumsum(-1, dtype=torch.int32) <= left)
    return taken if isinstance(budget, int) else taken & (budget > 0)


def _mass(rule: TopP, scores: Tensor, free: Tensor, forced: Tensor | None, p: Tensor) -> Tensor:
    ordered, order = scores.masked_fill(~free, -torch.inf).sort(stable=True, dim=-1, descending=True)
    valid = free.gather(-1, order)
    weights = ordered.masked_fill(~valid, 0.0)
    before = weights.new_zeros(*weights.shape[:-1], 1)
    taken_before: Tensor = torch.zeros_like(before, dtype=torch.int64)
    if forced is not None:
        before = (scores * forced).sum(-1, keepdim=True)
        taken_before = forced.sum(-1, keepdim=True)
    total = before + weights.sum(-1, keepdim=True)
    held = before + weights.cumsum(-1)
    # What floats add up wrongly is no share: ten tenths of a half are five.
    slack = (1e-9 if scores.dtype == torch.float64 else 1e-6) * total
    kept = held - weights < p * total - slack if rule.crossing == "keep" else held <= p * total + slack
    rank = taken_before + torch.arange(1, scores.shape[-1] + 1, device=scores.device)
    kept = kept | (p >= 1) | (rank <= rule.least)
    if rule.most is not None:
        kept = kept & (rank <= rule.most)
    return torch.zeros_like(valid).scatter(-1, order, kept & valid)


def _quantile(scores: Tensor, free: Tensor, t: Tensor) -> Tensor:
    number = ((1 - t) * free.sum(-1, keepdim=True) + 1e-9).floor().clamp(min=1).to(torch.int64)
    ordered = scores.masked_fill(~free, -torch.inf).sort(-1, descending=True).values
    at = (number - 1).clamp(max=scores.shape[-1] - 1)
    return free & (scores >= ordered.gather(-1, at))


def normalised(scores: Tensor, norm: str, candidates: Tensor, over: Over) -> Tensor:
    """Scores over candidates: softmax and rowmax in each row, minmax among those that compete."""
    match norm:
        case "none":
            return scores
        case "softmax":
            weights = scores.masked_fill(~candidates, -torch.inf).softmax(-1)
            return weights.masked_fill(~candidates, 0.0)
        case "rowmax":
            highest = scores.masked_fill(~candidates, -torch.inf).amax(-1, keepdim=True)
            return (scores - highest).masked_fill(~candidates, -math.inf)
        case _:
            scope = Scope(over, tuple(scores.shape))
            flat, allowed = scope.flat(scores), scope.flat(candidates)
            low = flat.masked_fill(~allowed, torch.inf).amin(-1, keepdim=True)
            high = flat.masked_fill(~allowed, -torch.inf).amax(-1, keepdim=True)
            spread = (high - low).masked_fill(~(high > low), 1.0)
            return scope.back(((flat - low) / spread).masked_fill(~allowed, 0.0))
