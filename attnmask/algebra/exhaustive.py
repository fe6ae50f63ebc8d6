"""Claims decided by looking at every pair, where there are few: by lengths that are given, or that tables allow."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from attnmask.algebra.claims import Claim, NoneEmpty, Question
from attnmask.algebra.scope import Scope
from attnmask.errors import MaskError
from attnmask.ir.check import check
from attnmask.ir.dense import dense
from attnmask.ir.domain import Domain
from attnmask.ir.nodes import BoolTable, Predicate, Table, Var
from attnmask.ir.tables import TableData
from attnmask.ir.walk import postorder, table_names, variables

_MOST_PAIRS = 1 << 22


def contradicted(
    claim: Question, scope: Scope, tables: Mapping[str, TableData]
) -> dict[str, int] | bool | None:
    """Sizes and positions that contradict a claim; False where none do, None where there are too many pairs."""
    domain = _largest_call(claim.roots, claim.calls, scope, tables)
    if domain is None or domain.batch * domain.heads * domain.q_len * domain.kv_len > _MOST_PAIRS:
        return None
    if set(table_names(*claim.roots)) - tables.keys():
        return None
    if isinstance(claim, NoneEmpty) and (scope.q_len if claim.along == "q" else scope.kv_len) is None:
        return None  # a shorter row may be empty where a longer one is not
    try:
        for root in claim.roots:
            check(root, domain, tables, {})
    except MaskError:
        return None
    arrays = {name: data.array for name, data in tables.items()}
    if isinstance(claim, Claim):
        against = dense(claim.contradiction, domain, arrays)
    else:
        seen = dense(claim.mask, domain, arrays)
        against = np.asarray(~seen.any(axis=-1 if claim.along == "k" else -2, keepdims=True))
    places = np.argwhere(against)
    return _call(places[0].tolist(), domain, scope) if len(places) else False


def _call(place: list[int], domain: Domain, scope: Scope) -> dict[str, int]:
    """The place b, h, row, k in a call no longer than it needs to be."""
    b, h, row, k = place
    q_len = row + 1 if scope.q_len is None else domain.q_len
    kv_len = k + 1 if scope.kv_len is None else domain.kv_len
    if scope.square:
        q_len = kv_len = max(q_len, kv_len)
    sizes = {"Q": q_len, "K": kv_len, "B": domain.batch, "H": domain.heads, "O": domain.q_offset}
    return sizes | {"q": row + domain.q_offset, "k": k, "b": b, "h": h}


def _largest_call(
    roots: tuple[Predicate, ...],
    calls: tuple[Predicate, ...],
    scope: Scope,
    tables: Mapping[str, TableData],
) -> Domain | None:
    """The call that has every pair of every other in question, which see the same there; None without one."""
    used = frozenset[str]().union(*(variables(root) for root in roots))
    offset = scope.q_offset
    if offset is None:
        return None
    most = {
        "q": scope.limits.q_len,
        "k": scope.limits.kv_len,
        "b": scope.limits.batch,
        "h": scope.limits.heads,
    }
    for node in postorder(*calls):
        if isinstance(node, Table | BoolTable) and node.name in tables:
            for item, size in zip(node.indices, tables[node.name].array.shape, strict=True):
                if isinstance(item, Var) and item.name in most:
                    most[item.name] = min(most[item.name], size)
    sizes = {}
    for name, size, given, highest in (
        ("q", "Q", scope.q_len, most["q"] - offset),
        ("k", "K", scope.kv_len, most["k"]),
        ("b", "B", scope.batch, most["b"]),
        ("h", "H", scope.heads, most["h"]),
    ):
        if given is None and size in used:
            return None
        sizes[name] = given or (highest if name in used or name in "qk" else 1)
    if scope.square:
        sizes["q"] = sizes["k"] = min(sizes["q"], sizes["k"])
    if min(sizes.values()) < 1:
        return None
    return Domain(sizes["q"], sizes["k"], offset, sizes["b"], sizes["h"])
