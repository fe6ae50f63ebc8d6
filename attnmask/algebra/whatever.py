"""Rows that are empty whatever a mask chooses: in one call at a time, its candidates stand for what is chosen."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnmask.algebra.claims import NoneEmpty
from attnmask.algebra.scope import Scope
from attnmask.algebra.verdict import Counterexample, Verdict
from attnmask.errors import MaskError
from attnmask.ir import index, predicate
from attnmask.ir.check import check
from attnmask.ir.choices import choices_of, is_diagonal
from attnmask.ir.chosen.call import Bools, Call
from attnmask.ir.chosen.units import units_of
from attnmask.ir.dense import dense
from attnmask.ir.domain import Domain
from attnmask.ir.nodes import And, Choice, Not, Or, Predicate
from attnmask.ir.rules import Probe, Selected
from attnmask.ir.tables import TableData
from attnmask.ir.walk import table_names, variables

Arrays = Mapping[str, NDArray[Any]]
_SMALL = 12
_MOST_PAIRS = 1 << 18


def refuted_anyhow(
    root: Predicate, claim: NoneEmpty, scope: Scope, tables: Mapping[str, TableData]
) -> Verdict | None:
    """The claim refuted by a row that no choice fills, in a small call or the one that is given; None: not found.

    `root` is closed. Tables that are not bound may fill any row, and so may a choice in a place where more of it
    does not mean more of the mask.
    """
    if set(table_names(root)) - tables.keys():
        return None
    for domain in _calls(scope):
        place = _empty(root, claim.along, domain, tables)
        if place is None:
            continue
        b, h, at = place
        q, k = (domain.q_offset + at, None) if claim.along == "k" else (None, at)
        example = Counterexample(
            domain.q_len, domain.kv_len, domain.q_offset, domain.batch, domain.heads, b, h, q, k, (False,)
        )
        what = "the query has no key" if claim.along == "k" else "the key has no query"
        return Verdict(claim.text, "refuted", str(scope), example, f"{what}, whatever is chosen")
    return None


def _calls(scope: Scope) -> Iterator[Domain]:
    """Those of a scope with lengths up to 12, or as given; smaller ones first."""
    q_lens, kv_lens = ((range(1, _SMALL + 1) if n is None else (n,)) for n in (scope.q_len, scope.kv_len))
    sizes = sorted(((q, k) for q in q_lens for k in kv_lens), key=lambda size: (sum(size), size))
    for q_len, kv_len in sizes:
        domain = Domain(q_len, kv_len, scope.q_offset or 0, scope.batch or 1, scope.heads or 1)
        values = {"Q": q_len, "K": kv_len, "O": domain.q_offset, "B": domain.batch, "H": domain.heads}
        pairs = q_len * kv_len * domain.batch * domain.heads
        if scope.holds(values) and pairs <= _MOST_PAIRS:
            yield domain


def _empty(
    root: Predicate, along: str, domain: Domain, tables: Mapping[str, TableData]
) -> tuple[int, int, int] | None:
    """Batch row, head and row (or column) of a call that hold no pair, however the mask chooses."""
    arrays = {name: data.array for name, data in tables.items()}
    try:
        check(root, domain, dict(tables), {})
        known = dict(arrays)
        most = _most(root, domain, known, upward=True)
        if most is None:
            return None
        seen = dense(most, domain, known)
    except MaskError:  # a call that the mask refuses
        return None
    places = np.argwhere(~seen.any(axis=-1 if along == "k" else -2))
    if not len(places):
        return None
    b, h, at = places[0].tolist()
    return b, h, at


def _most(
    root: Predicate, domain: Domain, known: dict[str, NDArray[Any]], *, upward: bool
) -> Predicate | None:
    """A predicate that holds wherever the mask may (`upward`), or only where it must; tables are added to `known`."""
    if not choices_of(root):
        return root
    match root:
        case Choice() if not upward:
            return predicate.FALSE
        case Choice():
            name = f"candidates {len(known)}"  # no name that a user can give
            known[name] = _candidates(root, domain, known)
            row = index.sub(index.var("q"), index.const(domain.q_offset))
            return predicate.bool_table(name, (index.var("b"), index.var("h"), row, index.var("k")))
        case Not(arg):
            found = _most(arg, domain, known, upward=not upward)
            return None if found is None else predicate.not_(found)
        case And(args) | Or(args):
            parts = [_most(arg, domain, known, upward=upward) for arg in args]
            join = predicate.and_ if isinstance(root, And) else predicate.or_
            return None if None in parts else join(*(part for part in parts if part is not None))
    return None


def _candidates(choice: Choice, domain: Domain, tables: Arrays) -> Bools:
    """bool [B, H, Q, K]: every pair that may be chosen."""
    shape = (domain.batch, domain.heads, domain.q_len, domain.kv_len)
    rule = choice.rule
    # Heads that share a set must have the same units: calls in which they have not are refused.
    apart = "h" in variables(choice.q_unit) | variables(choice.k_unit)
    if not isinstance(rule, Selected) or isinstance(rule.score, Probe) or choice.among is None or apart:
        everything = np.ones(shape, np.bool_)
        below = domain.arrays()["k"] <= domain.arrays()["q"]
        return np.asarray(everything & below) if is_diagonal(choice) else everything
    nothing = np.zeros((*shape[:3], 0))
    call = Call(nothing, nothing, domain, tables, {})
    units = units_of(choice.q_unit, choice.k_unit, False, call)
    among, count = (dense(part, domain, tables) for part in (choice.among, choice.count))
    allowed = ~units.any_pair(~among) | units.any_pair(count)
    b, h = np.ogrid[: domain.batch, : domain.heads]
    return np.asarray(allowed[b[..., None, None], h[..., None, None], units.rows[..., None], units.keys])
