"""Candidates at a few distances: single keys that lie on few diagonals are scored without looking at all pairs."""

from __future__ import annotations

import torch

from attnmask.ir import index
from attnmask.ir.domain import Domain
from attnmask.ir.nodes import Choice
from attnmask.ir.predicate import FALSE
from attnmask.ir.rules import Blocks, Counted, Pool, Selected, Spans, Top
from attnmask.ir.walk import table_names, variables
from attnmask.tiles.diagonals import by_distance, distances_of

Tensor = torch.Tensor
# Fewer than one key in so many.
_FEW = 8


def few_distances(choice: Choice, domain: Domain) -> list[int] | None:
    """The distances q - k of all candidates, descending; None where they are many, or where other units count."""
    rule = choice.rule.chosen if isinstance(choice.rule, Spans) else choice.rule
    if not isinstance(rule, Selected):
        return None
    amount = rule.selector.amount if isinstance(rule.selector, Top) else None
    plain = (
        isinstance(rule.score, Blocks)
        and rule.score.pool != Pool("bounds")
        and rule.selector.over == "row"
        and not isinstance(amount, Counted)
        and (not isinstance(rule.selector, Top) or rule.selector.of == "number")
        and choice.count is FALSE
        and (choice.q_unit, choice.k_unit) == (index.var("q"), index.var("k"))
    )
    among = choice.among
    if not plain or among is None or table_names(among) or variables(among) - {"q", "k"}:
        return None
    root = by_distance(among)
    if root is None:
        return None
    last = domain.q_offset + domain.q_len - 1
    found = distances_of(root, domain.q_offset - domain.kv_len + 1, last)
    if len(found) * _FEW >= domain.kv_len:
        return None
    return found[::-1].tolist() or [last + 1]  # a column without a key, where there are no candidates


def keys_at(distances: list[int], rows: slice, domain: Domain, device: torch.device) -> Tensor:
    """int64 [rows, distances]: the keys at these distances from some queries, of which some may not exist."""
    q = torch.arange(domain.q_offset + rows.start, domain.q_offset + rows.stop, device=device)
    return torch.stack([q - distance for distance in distances], dim=-1)


def products_at(q: Tensor, k: Tensor, distances: list[int], first: int) -> Tensor:
    """Products [B, Hq, n, distances] of q [B, Hq, n, D], of which `first` is the position of the first, with the keys
    [B, Hkv, K, D] at these distances; zero where there is none.
    """
    grouped = torch.unflatten(q, 1, (k.shape[1], -1))
    found = q.new_zeros(*grouped.shape[:4], len(distances))
    for column, distance in enumerate(distances):
        start, stop = max(distance - first, 0), min(k.shape[2] + distance - first, q.shape[2])
        if start < stop:
            keys = k[:, :, None, first + start - distance : first + stop - distance]
            found[..., start:stop, column] = (grouped[..., start:stop, :] * keys).sum(-1)
    return torch.flatten(found, 1, 2)
