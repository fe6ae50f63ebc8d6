"""Which pairs of units may be chosen, from static predicates: worked out once on the host, kept on the device."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray

from attnmask.errors import MaskError
from attnmask.ir import index
from attnmask.ir.check import check
from attnmask.ir.domain import Domain
from attnmask.ir.evaluate import evaluate
from attnmask.ir.nodes import Const, Expr, FloorDiv, Index, Predicate, Var
from attnmask.ir.predicate import FALSE, TRUE, not_
from attnmask.ir.tables import TableData, require_bound
from attnmask.ir.walk import substitute, table_names, variables
from attnmask.lower.cache import ByteCache
from attnmask.lower.choose.units import Units, diagonal_units, units
from attnmask.tiles.build import tiles
from attnmask.tiles.diagonals import by_distance, distances_of
from attnmask.tiles.tilemap import TileMap

Tensor = torch.Tensor
_MOST_PAIRS = 1 << 34
_PORTION = 1 << 22


@dataclass(frozen=True, slots=True)
class _Question:
    """Which pairs of units hold a pair of positions that satisfies the predicate."""

    root: Predicate
    q_unit: Index
    k_unit: Index
    diagonal: bool
    domain: Domain
    tables: tuple[tuple[str, TableData], ...]
    device: torch.device


def touched(
    root: Predicate,
    units_of: tuple[Index, Index],
    domain: Domain,
    tables: Mapping[str, TableData],
    device: torch.device,
    *,
    diagonal: bool = False,
) -> Tensor | None:
    """bool [B or 1, H or 1, query units, key units]: where some pair of positions satisfies `root`; None: nowhere.

    `diagonal`: units of keys are units of distances, and pairs those with k <= q.
    """
    if root is FALSE:
        return None
    require_bound(root, tables, {})
    used = {name: tables[name] for name in table_names(root, *units_of)}
    return _touched(_Question(root, *units_of, diagonal, domain, tuple(sorted(used.items())), device))


def _answer(question: _Question) -> Tensor:
    domain, tables = question.domain, dict(question.tables)
    check(question.root, domain, tables, {})
    at_q = units(question.q_unit, "q", domain, tables)
    at_k = (
        diagonal_units(question.k_unit, domain, tables)
        if question.diagonal
        else units(question.k_unit, "k", domain, tables)
    )
    if question.root is TRUE and not question.diagonal:
        found = (at_q.sizes > 0)[:, None] & (at_k.sizes > 0)
        return torch.from_numpy(found[None, None]).to(question.device)
    if at_q.run is not None and at_k.run is not None and not question.diagonal:
        found = _live(tiles(question.root, domain, tables, {}, (at_q.run, at_k.run)))
    else:
        quick = _by_distance(question, at_k) if question.diagonal else _from_the_middle(question, at_q, at_k)
        found = _looked_at(question, at_q, at_k) if quick is None else quick
    return torch.from_numpy(found).to(question.device)


_touched = ByteCache(_answer, lambda found: found.nbytes, 1 << 28)


def _live(found: TileMap) -> NDArray[np.bool_]:
    """bool [B or 1, H or 1, rows, columns]: the tiles that are not empty."""
    return np.asarray((found.dense_planes() > 0)[found.plane_of])


def _from_the_middle(question: _Question, at_q: Units, at_k: Units) -> NDArray[np.bool_] | None:
    """The same where units are runs of queries of which the first has begun before the call; None: they are not.

    The tiles are those of a call that begins with the unit, but for its first row, which is looked at.
    """
    domain = question.domain
    match question.q_unit:
        case FloorDiv(Var("q"), Const(size)) if at_k.run is not None:
            before = domain.q_offset % size
        case _:
            return None
    lengths: dict[Expr, Expr] = {index.var("Q"): index.const(domain.q_len)}
    earlier = replace(domain, q_len=domain.q_len + before, q_offset=domain.q_offset - before)
    root = substitute(question.root, lengths)
    tables = dict(question.tables)
    try:
        check(root, earlier, tables, {})
    except MaskError:  # a table, perhaps, that begins with the call
        return None
    found = _live(tiles(root, earlier, tables, {}, (size, at_k.run)))
    begun = replace(question, root=root, domain=replace(domain, q_len=min(size - before, domain.q_len)))
    first = _looked_at(begun, at_q, at_k)[:, :, :1]
    planes = np.broadcast_shapes(found.shape[:2], first.shape[:2])
    result = np.broadcast_to(found, (*planes, *found.shape[2:])).copy()
    result[:, :, :1] = first
    return result


def _by_distance(question: _Question, found: Units) -> NDArray[np.bool_] | None:
    """The same where pairs are told apart by their distance q - k alone, and units are those of distances."""
    domain, used = question.domain, variables(question.root)
    root = by_distance(question.root) if not used - {"q", "k"} and not table_names(question.root) else None
    if root is None:
        return None
    # Distances that some pair of the call has.
    nearest, furthest = max(domain.q_offset - domain.kv_len + 1, 0), domain.q_offset + domain.q_len - 1
    result = np.zeros((1, 1, 1, found.count), np.bool_)
    result[0, 0, 0, found.ids[distances_of(root, nearest, furthest)]] = True
    return result


def _looked_at(question: _Question, at_q: Units, at_k: Units) -> NDArray[np.bool_]:
    """The same for units that are no runs: every pair of positions is looked at, in portions."""
    domain = question.domain
    used = variables(question.root)
    b, h = (domain.batch if "b" in used else 1), (domain.heads if "h" in used else 1)
    if b * h * domain.q_len * domain.kv_len > _MOST_PAIRS:
        raise MaskError(
            f"candidates among {domain.q_len} × {domain.kv_len} pairs take too long for units of this shape",
            hint="number units by q // n and k // n, or leave 'among' to all",
        )
    variables_ = domain.arrays()
    variables_["b"], variables_["h"] = variables_["b"][:b], variables_["h"][:, :h]
    arrays = {name: data.array for name, data in question.tables}
    result = np.zeros((b, h, at_q.count, at_k.count), np.bool_)
    step = max(1, _PORTION // (b * h * domain.kv_len))
    for first in range(0, domain.q_len, step):
        rows = slice(first, first + step)
        q = variables_["q"][:, :, rows]
        holds = evaluate(question.root, {**variables_, "q": q}, arrays)
        holds = np.broadcast_to(holds, (b, h, q.shape[2], domain.kv_len))
        where = np.nonzero(holds)
        columns = where[3]
        if question.diagonal:
            distance = domain.q_offset + first + where[2] - where[3]
            past = distance >= 0
            where, columns = tuple(part[past] for part in where), distance[past]
        result[where[0], where[1], at_q.ids[rows][where[2]], at_k.ids[columns]] = True
    return result


def candidates(
    among: Predicate,
    units_of: tuple[Index, Index],
    domain: Domain,
    tables: Mapping[str, TableData],
    device: torch.device,
    *,
    whole: bool,
    diagonal: bool = False,
) -> Tensor:
    """bool [B or 1, H or 1, query units, key units]: existing pairs of units that lie in `among`.

    `whole`: with all of their pairs of positions, else with one.
    """
    if not whole:
        some = touched(among, units_of, domain, tables, device, diagonal=diagonal)
        return torch.zeros(1, 1, 1, 1, dtype=torch.bool, device=device) if some is None else some
    exists = touched(TRUE, units_of, domain, tables, device)
    assert exists is not None, "all is somewhere"
    outside = touched(not_(among), units_of, domain, tables, device)
    return exists if outside is None else exists & ~outside
