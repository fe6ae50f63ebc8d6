"""Score maps: from q and k to scores of pairs of units."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import assert_never

import torch

from attnmask.errors import MaskError
from attnmask.ir.choices import is_diagonal
from attnmask.ir.domain import Domain
from attnmask.ir.nodes import Choice
from attnmask.ir.rules import (
    Antidiagonal,
    Blocks,
    Compressed,
    Exact,
    Given,
    Pool,
    Probe,
    ScoreMap,
)
from attnmask.ir.tables import TableData
from attnmask.lower.choose.distances import products_at
from attnmask.lower.choose.heads import joined, products, proxies, require_even, sets_after
from attnmask.lower.choose.pools import pooled, wide
from attnmask.lower.choose.token_scores import (
    antidiagonal_scores,
    compressed_scores,
    exact_scores,
    probe_scores,
)
from attnmask.lower.choose.units import Units, diagonal_units, units

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
            scores = inputs.given[name]
            if scores.dim() != 4 or scores.shape[1] not in (1, kv_heads, heads):
                of = _either(1, kv_heads, heads)
                raise MaskError(
                    f"'{name}' has shape {tuple(scores.shape)}, and scores are [batch, {of}, units of queries, units "
                    "of keys]"
                )
            return scores.shape[1]
        case Antidiagonal():
            return heads
        case Blocks() | Exact():
            require_even(heads, kv_heads, score.proxy)
            return sets_after(score.heads, heads // score.proxy, kv_heads)
        case Compressed() | Probe():
            return sets_after(score.heads, heads, kv_heads)
        case _:
            assert_never(score)


def scores_of(score: ScoreMap, at: tuple[Units, Units], inputs: Inputs) -> Scores:
    q, k, domain = inputs.q, inputs.k, inputs.domain
    match score:
        case Blocks():
            return block_scores(score, at, inputs)
        case Compressed():
            return Scores(*compressed_scores(score, q, k, at, domain))
        case Exact():
            return Scores(*exact_scores(score, q, k, at, domain))
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


def block_scores(
    score: Blocks, at: tuple[Units, Units], inputs: Inputs, distances: list[int] | None = None
) -> Scores:
    """Of all units of keys, or of single keys at these distances from each query."""
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
        if distances is None:
            found = products(part, keys) * scale
        else:
            found = products_at(part, keys, distances, inputs.domain.q_offset + rows.start) * scale
        return joined(found, score.heads)

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
            f"keys are [{_either(1, shape[0])}, {_either(*heads)}, {_either(1, shape[2])}, {shape[3]}]"
        )
    dtype = scores.dtype if scores.dtype == torch.float64 else torch.float32
    return scores.detach().to(dtype).expand(shape[0], -1, shape[2], -1)


def _either(*sizes: int) -> str:
    return " or ".join(map(str, sorted(set(sizes))))
