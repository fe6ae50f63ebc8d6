"""From sets to predicates: what was chosen, as tables that `mask_mod` reads element by element."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from attnmask.errors import MaskError
from attnmask.ir import index, predicate
from attnmask.ir.choices import is_diagonal
from attnmask.ir.domain import Domain
from attnmask.ir.index import const, var
from attnmask.ir.nodes import Choice, FloorDiv, Index, Max, Predicate
from attnmask.ir.rules import Clusters
from attnmask.ir.tables import TableData
from attnmask.lower.choose.planes import extent
from attnmask.lower.choose.sets import Chosen, Intervals, Members, require_rows, with_units

Tensor = torch.Tensor
# Larger sets are packed, a bit each.
_MOST_BYTES = 1 << 24
_WORD = 32


@dataclass(frozen=True, slots=True)
class Gate:
    """Whether a pair of positions is in a set: a predicate over the tables that come with it."""

    holds: Predicate
    tables: Mapping[str, Tensor]


def gate(choice: Choice, found: Chosen, domain: Domain, tables: Mapping[str, TableData], name: str) -> Gate:
    """The gate of a choice; its tables have names that begin with `name`."""
    if isinstance(found, Members):
        return _cluster_gate(choice, found, domain, name)
    if isinstance(found, Intervals):
        return _span_gate(choice, found, domain, tables, name)
    first, queries, keys = extent(choice, domain, tables, found.taken.shape[1])
    taken = with_units(found.taken, queries, keys)
    _require_planes(taken, domain)
    given: dict[str, Tensor] = {}
    at = _plane_and_row(taken, choice.q_unit, first, domain, given, name)
    column = choice.k_unit
    if is_diagonal(choice) and not isinstance(column, FloorDiv | Max):
        column = index.minimum(column, const(taken.shape[3] - 1))  # as it is, which bounds alone do not tell
    if taken.nbytes <= _MOST_BYTES or taken.shape[3] < _WORD:
        given[name] = taken
        return Gate(predicate.bool_table(name, (*at, column)), given)
    given[name], given[f"{name}_bit"] = packed(taken), _bits(taken.device)
    word = index.table(name, (*at, index.floordiv(column, const(_WORD))))
    bit = index.table(f"{name}_bit", (index.mod(column, const(_WORD)),))
    return Gate(predicate.compare(index.bitop("&", word, bit), "!=", const(0)), given)


def _require_planes(taken: Tensor, domain: Domain) -> None:
    for what, number, of in (
        ("batch rows", taken.shape[0], domain.batch),
        ("heads", taken.shape[1], domain.heads),
    ):
        if number not in (1, of) and (what == "batch rows" or of % number):
            raise MaskError(f"the choices were made for {number} {what}, and the call has {of}")


def _head(sets: int, domain: Domain) -> Index:
    """The set that serves a query head."""
    return const(0) if sets == 1 else index.floordiv(var("h"), const(domain.heads // sets))


def packed(taken: Tensor) -> Tensor:
    """bool [..., n] → int32 [..., ceil(n / 32)], entry 32 w + i in bit i of word w."""
    padded = torch.nn.functional.pad(taken, (0, -taken.shape[-1] % _WORD))
    words = torch.zeros(*padded.shape[:-1], padded.shape[-1] // _WORD, dtype=torch.int32, device=taken.device)
    for bit in range(_WORD):
        words |= padded[..., bit::_WORD].to(torch.int32) << bit
    return words


def _bits(device: torch.device) -> Tensor:
    return torch.ones(_WORD, dtype=torch.int32, device=device) << torch.arange(
        _WORD, dtype=torch.int32, device=device
    )


def _plane_and_row(
    sets: Tensor, unit: Index, first: int, domain: Domain, given: dict[str, Tensor], name: str
) -> tuple[Index, Index, Index]:
    """Where the set of a query lies in `sets` [B or 1, heads, rows, …], whose rows are units from the first on."""
    row: Index = const(0) if sets.shape[2] == 1 else unit
    if sets.shape[2] > 1 and first:
        given[f"{name}_first"] = torch.full((), first, dtype=torch.int64, device=sets.device)
        row = index.sub(row, index.table(f"{name}_first", ()))
    return const(0) if sets.shape[0] == 1 else var("b"), _head(sets.shape[1], domain), row


def _span_gate(
    choice: Choice, found: Intervals, domain: Domain, tables: Mapping[str, TableData], name: str
) -> Gate:
    first, queries, _ = extent(choice, domain, tables, found.low.shape[1])
    require_rows(found.low.shape[2], domain.q_len if found.by_query else queries)
    _require_planes(found.low, domain)
    low, high = f"{name}_low", f"{name}_high"
    given = {low: found.low, high: found.high}
    unit, first = (var("q"), domain.q_offset) if found.by_query else (choice.q_unit, first)
    at = _plane_and_row(found.low, unit, first, domain, given, name)
    k, inside = var("k"), []
    for number in map(const, range(found.low.shape[3])):
        begun = predicate.compare(index.table(low, (*at, number)), "<=", k)
        inside.append(predicate.and_(begun, predicate.compare(k, "<=", index.table(high, (*at, number)))))
    return Gate(predicate.or_(*inside), given)


def _cluster_gate(choice: Choice, found: Members, domain: Domain, name: str) -> Gate:
    q_name, k_name = f"{name}_q", f"{name}_k"
    if found.q.shape[2] != domain.q_len or found.k.shape[2] != domain.kv_len:
        raise MaskError(
            f"the clusters are of {found.q.shape[2]} queries and {found.k.shape[2]} keys, and the call has "
            f"{domain.q_len} and {domain.kv_len}",
            hint="choose again",
        )
    _require_planes(found.q, domain)
    at = var("b"), _head(found.q.shape[1], domain)
    given: dict[str, Tensor] = {}
    row = _plane_and_row(found.q, var("q"), domain.q_offset, domain, given, name)[2]
    if isinstance(choice.rule, Clusters) and choice.rule.members is None:
        given[q_name], given[k_name] = (
            x.to(torch.int32).argmax(-1).to(torch.int32) for x in (found.q, found.k)
        )
        mine, theirs = index.table(q_name, (*at, row)), index.table(k_name, (*at, var("k")))
        return Gate(predicate.compare(mine, "==", theirs), given)
    given[q_name], given[k_name] = packed(found.q), packed(found.k)
    common = []
    for word in range(given[q_name].shape[-1]):
        mine = index.table(q_name, (*at, row, const(word)))
        theirs = index.table(k_name, (*at, var("k"), const(word)))
        common.append(predicate.compare(index.bitop("&", mine, theirs), "!=", const(0)))
    return Gate(predicate.or_(*common), given)
