"""What choices choose: pairs of units, pairs of positions, and predicates that hold choices."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnmask.ir import index, predicate
from attnmask.ir.choices import choices_of, closed, resolved
from attnmask.ir.chosen.antidiagonal import require_multiples
from attnmask.ir.chosen.call import Bools, Call, call_of
from attnmask.ir.chosen.clusters import memberships
from attnmask.ir.chosen.rule import Scored, scored, selected
from attnmask.ir.chosen.spans import spans
from attnmask.ir.chosen.units import Units, units_of
from attnmask.ir.dense import dense
from attnmask.ir.domain import Domain
from attnmask.ir.nodes import Choice, Predicate
from attnmask.ir.rules import Antidiagonal, Clusters, Selected, Spans, along_diagonals

Arrays = Mapping[str, NDArray[Any]]


def chosen(
    choice: Choice, q: NDArray[Any], k: NDArray[Any], domain: Domain, tables: Arrays, given: Arrays
) -> Bools:
    """Which pairs of units are chosen: bool [batch, sets, query units, key units].

    q is [B, Hq, Q, D] and k [B, Hkv, K, D]; the domain is that of the call, with all its batch rows and heads.
    Query units are counted from the smallest of the call; head h uses set h // (heads // sets). `tables` are
    those of the mask, `given` what the rule names. The choice is closed, and its rule selects by scores.

    MaskError where the arrays do not fit, hold numbers that are not finite, or the rule has no meaning here.
    """
    call = call_of(q, k, domain, tables, given)
    return selected(*_parts(choice, call))


def unit_scores(
    choice: Choice, q: NDArray[Any], k: NDArray[Any], domain: Domain, tables: Arrays, given: Arrays
) -> Scored:
    """What `chosen` chooses by: scores, candidates and counted units. Arguments and errors as there."""
    call = call_of(q, k, domain, tables, given)
    return scored(*_parts(choice, call))


def _parts(choice: Choice, call: Call) -> tuple[Selected, Call, Units, Bools, Bools]:
    rule = choice.rule.chosen if isinstance(choice.rule, Spans) else choice.rule
    assert isinstance(rule, Selected), "clusters have no units"
    assert choice.among is not None, "choices are closed beforehand"
    if isinstance(rule.score, Antidiagonal):
        require_multiples(rule.score, choice.q_unit, choice.k_unit)
    units = units_of(choice.q_unit, choice.k_unit, along_diagonals(rule.score), call)
    among, count = (dense(part, call.domain, call.tables) for part in (choice.among, choice.count))
    return rule, call, units, among, count


def clusters_of(
    rule: Clusters, q: NDArray[Any], k: NDArray[Any], domain: Domain, given: Arrays
) -> tuple[Bools, Bools]:
    """Which clusters each query and each key belongs to: [B, H, Q, clusters] and [B, H, K, clusters]."""
    return memberships(rule, call_of(q, k, domain, {}, given))


def meaning(
    choice: Choice, q: NDArray[Any], k: NDArray[Any], domain: Domain, tables: Arrays, given: Arrays
) -> Bools:
    """Whether each pair of positions is in the choice: bool [B, H, Q, K]. Arguments and errors as in `chosen`."""
    return _meaning(choice, call_of(q, k, domain, tables, given))


def _meaning(choice: Choice, call: Call) -> Bools:
    if isinstance(choice.rule, Clusters):
        of_q, of_k = memberships(choice.rule, call)
        return np.asarray((of_q[:, :, :, None] & of_k[:, :, None]).any(-1))
    parts = _parts(choice, call)
    taken, units = selected(*parts), parts[2]
    heads = call.domain.heads
    b, h = np.ogrid[: call.domain.batch, :heads]
    of_set = h // (heads // taken.shape[1])
    at = (b[..., None, None], of_set[..., None, None], units.rows[..., None], units.keys)
    pairs = np.asarray(taken[at]) & units.pairs
    return spans(choice.rule, call, units, pairs) if isinstance(choice.rule, Spans) else pairs


def dense_with_choices(
    root: Predicate, q: NDArray[Any], k: NDArray[Any], domain: Domain, tables: Arrays, given: Arrays
) -> Bools:
    """A predicate that holds choices on every pair of the call: bool [B, H, Q, K]. Arguments as in `chosen`."""
    call, root = call_of(q, k, domain, tables, given), closed(root)
    all_tables = dict(tables)
    names: dict[Choice, str] = {}
    for number, choice in enumerate(choices_of(root)):
        names[choice] = f"choice {number}"  # no name that a user can give
        all_tables[names[choice]] = _meaning(choice, call)
    row = index.sub(index.var("q"), index.const(domain.q_offset))
    at = (index.var("b"), index.var("h"), row, index.var("k"))
    return dense(resolved(root, lambda choice: predicate.bool_table(names[choice], at)), domain, all_tables)
