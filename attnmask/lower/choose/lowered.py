"""A mask with its choices made: functions, block lists, tiles; what kernels need of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.attention.flex_attention import BlockMask

from attnmask.errors import MaskError
from attnmask.ir.check import fits_int32
from attnmask.ir.choices import choices_of, resolved
from attnmask.ir.domain import Domain, length, offset
from attnmask.ir.nodes import Choice, Const, Expr, Predicate, ScoreExpr
from attnmask.ir.rules import Clusters, Spans
from attnmask.ir.tables import TableData, fit
from attnmask.ir.walk import table_names, variables
from attnmask.lower.block_mask import Lists
from attnmask.lower.choose.choices import Choices, checked, closing
from attnmask.lower.choose.coarse import Outcomes
from attnmask.lower.choose.gates import Gate, gate
from attnmask.lower.choose.given import require_tables
from attnmask.lower.choose.outcomes import Tiler
from attnmask.lower.device_plan import ordered
from attnmask.lower.functions import MaskMod, ScoreMod, build
from attnmask.lower.prepare import Lowerable
from attnmask.lower.source import Source, mask_source, score_source
from attnmask.tiles.build import Block, block_pair
from attnmask.tiles.grid import Grid
from attnmask.tiles.tilemap import Area, TileMap, compressed

Tensor = torch.Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Lowered:
    """A mask for one call, with its choices made."""

    domain: Domain
    block: tuple[int, int]
    outcomes: Outcomes
    mask_mod: MaskMod
    mask_text: str
    score_mod: ScoreMod | None
    score_text: str | None

    def block_mask(self) -> BlockMask:
        """The lists, on the device; every plane has its own. Nothing is read back."""
        never, full = self.outcomes.never, self.outcomes.full
        partial = ~(never | full)
        shape = (never.shape[0], never.shape[1])
        (kv, q), (full_kv, full_q) = (
            (ordered(kind, shape), ordered(kind.mT, shape)) for kind in (partial, full)
        )
        lengths = self.domain.q_len, self.domain.kv_len
        return Lists(lengths, self.block, kv, full_kv, q, full_q).block_mask(self.mask_mod)

    def tiles(self) -> TileMap:
        """The same on the host; waits for the device."""
        never, full = (x.cpu().numpy() for x in (self.outcomes.never, self.outcomes.full))
        batch, heads, rows, columns = never.shape
        grid = Grid(self.domain.q_len, self.domain.kv_len, *self.block, self.domain.q_offset)
        kinds = {
            "full": full.reshape(-1, rows, columns),
            "partial": ~(never | full).reshape(-1, rows, columns),
        }
        lists = {}
        for name, planes in kinds.items():
            areas = [Area(singles=[tuple(x.astype(np.int32) for x in np.nonzero(plane))]) for plane in planes]  # type: ignore[list-item]  # two
            lists[name] = compressed(areas, rows, columns)
            lists[f"{name}_t"] = compressed([area.transposed for area in areas], columns, rows)
        plane_of = np.arange(batch * heads, dtype=np.int64).reshape(batch, heads)
        return TileMap(grid, plane_of, **lists, planes=(), tables={})


def call_of(
    mask: Lowerable,
    q_len: int,
    kv_len: int | None,
    batch: int | None,
    heads: int | None,
    q_offset: int,
    choices: Choices,
) -> Domain:
    """The call that a mask with these choices is lowered for; batch rows and heads are those of the choices."""
    choices = checked(choices)
    q_len = length("q_len", q_len)
    kv_len = q_len if kv_len is None else length("kv_len", kv_len)
    q_offset = offset(q_offset, q_len)
    domain = Domain(
        q_len,
        kv_len,
        q_offset,
        choices.call.batch if batch is None else length("batch", batch),
        choices.call.heads if heads is None else length("heads", heads),
    )
    domain.require_within(mask.made_for)
    if choices.sets and not choices_of(mask.predicate):
        raise MaskError("the mask chooses nothing, and choices are given", hint="leave them out")
    made = choices.call
    if made.q_offset > q_offset or made.kv_len > kv_len:
        raise MaskError(
            f"the choices were made for queries from {made.q_offset} and {made.kv_len} keys, and the call has fewer: "
            f"{q_offset} and {kv_len}",
            hint="choices serve the call that they were made for, and later ones",
        )
    return domain


def lowered(mask: Lowerable, domain: Domain, block: Block, choices: Choices) -> Lowered:
    """The mask with these choices, on the device where they are. MaskError where they do not fit the call."""
    root, pair, tables = closing(mask), block_pair(block), dict(mask.tables)
    if domain != choices.call and choices.tables and choices.device.type == "cpu":
        require_tables(mask, root, choices.tables, domain)
    whole, tensors = element_wise(mask, domain, choices)
    known = {**tables, **{name: _stand_in(tensor) for name, tensor in tensors.items()}}
    whole, _ = fit(whole, _dimensioned(known), {})
    outcomes = Tiler(domain, pair, choices.device, tables, choices).of(root)
    wide = not fits_int32(whole, domain, known)
    source = mask_source(whole, wide=wide, offset=domain.q_offset != 0)
    mask_mod: MaskMod = build(source, tables, domain, choices.device, _wide(tensors, choices, source))
    score = _score(mask.score, known, domain)
    return Lowered(
        domain,
        pair,
        outcomes,
        mask_mod,
        source.text,
        None
        if score is None
        else build(score, tables, domain, choices.device, _wide(tensors, choices, score)),
        None if score is None else score.text,
    )


def _wide(tensors: Mapping[str, Tensor], choices: Choices, source: Source) -> dict[str, Tensor]:
    """The tensors with integers that came with q and k as wide as the function computes: they never wrap."""
    kind = torch.int64 if source.wide else torch.int32
    return {
        name: x.to(kind)
        if name in choices.tables and not (x.is_floating_point() or x.dtype == torch.bool)
        else x
        for name, x in tensors.items()
    }


def _require_rules(
    root: Predicate, domain: Domain, tables: Mapping[str, TableData], choices: Choices
) -> None:
    """MaskError where the rules of the mask mean something else than those that the choices were made by."""
    for name, made in choices.bound.items():
        now = tables.get(name)
        if now is not None and now != made and not _longer(now.array, made.array):
            raise MaskError(f"the choices were made with another '{name}'", hint="choose again")
    # Units of each batch row or head are those of the rows and heads that there were.
    of_size = {"Q": "Q", "K": "K", "B": "Bb", "H": "Hh"}
    changed = {name for name in of_size if domain.bounds(name) != choices.call.bounds(name)}
    for choice in choices_of(root):
        used = variables(choice.q_unit) | variables(choice.k_unit)
        for size in sorted(changed):
            if used & set(of_size[size]):
                raise MaskError(
                    f"the units of the choices depend on {size}, which is another in this call",
                    hint="choose again",
                )


def _longer(now: NDArray[Any], made: NDArray[Any]) -> bool:
    """Whether a table goes on from another, as that of a longer text does."""
    if now.ndim != made.ndim or any(n < m for n, m in zip(now.shape, made.shape, strict=True)):
        return False
    return bool((now[tuple(map(slice, made.shape))] == made).all())


def _require_rows(root: Predicate, domain: Domain, choices: Choices) -> None:
    """MaskError where queries would read the choice of others: rows are those of the call that they were made for.

    A single query may read that of an earlier one, as decoding steps do that keep a choice.
    """
    made = choices.call
    same = made.q_len == domain.q_len and (made.q_offset == domain.q_offset or made.q_len == 1)
    rows = [choice for choice in choices_of(root) if _has_rows(choice)]
    if not same and rows:
        raise MaskError(
            f"the choices were made for {made.q_len} queries from {made.q_offset}, and the call has {domain.q_len} "
            f"from {domain.q_offset}",
            hint="choose again"
            if all(isinstance(choice.rule, Clusters) for choice in rows)
            else "choose again, or with one unit for all queries: q_block=all",
        )


def _has_rows(choice: Choice) -> bool:
    """Whether queries have a choice each, and not one for all of them."""
    if isinstance(choice.rule, Clusters):
        return True
    named = isinstance(choice.rule, Spans) and isinstance(choice.rule.back, str) | isinstance(
        choice.rule.ahead, str
    )
    return named or not isinstance(choice.q_unit, Const)


def element_wise(
    mask: Lowerable, domain: Domain, choices: Choices, prefix: str = "chosen"
) -> tuple[Predicate, dict[str, Tensor]]:
    """The mask over the tables of what was chosen, and those and the other tables that lie on the device.

    `prefix`: what the names of the first begin with.
    """
    root = closing(mask)
    _require_rows(root, domain, choices)
    _require_rules(root, domain, dict(mask.tables), choices)
    gates = _gates(root, domain, dict(mask.tables), choices, mask, prefix)
    tensors = {name: x for found in gates.values() for name, x in found.tables.items()}
    return resolved(root, lambda choice: gates[choice].holds), {**choices.tables, **tensors}


def _score(root: ScoreExpr | None, known: Mapping[str, TableData], domain: Domain) -> Source | None:
    if root is None:
        return None
    root, _ = fit(root, _dimensioned(known), {})
    return score_source(root, wide=not fits_int32(root, domain, known), offset=domain.q_offset != 0)


def _gates(
    root: Predicate,
    domain: Domain,
    tables: Mapping[str, TableData],
    choices: Choices,
    mask: Lowerable,
    prefix: str,
) -> dict[Choice, Gate]:
    roots: tuple[Expr, ...] = (root,) if mask.score is None else (root, mask.score)
    taken = set(table_names(*roots))
    gates = {}
    for number, choice in enumerate(choices_of(root)):
        name = f"{prefix}{number}"
        while any(other.startswith(name) for other in taken):
            name += "_"
        gates[choice] = gate(choice, choices.of(choice), domain, tables, name)
    return gates


def _dimensioned(known: Mapping[str, TableData]) -> dict[str, TableData]:
    """Without single numbers, whose values stay on the device."""
    return {name: data for name, data in known.items() if data.array.ndim}


def _stand_in(tensor: Tensor) -> TableData:
    """A table of zeros of the tensor's shape that takes no memory; its bounds are those of the type."""
    kind: type[np.generic]
    if tensor.dtype == torch.bool:
        kind, bounds = np.bool_, (0, 1)
    elif tensor.is_floating_point():
        kind, bounds = np.float64, (0, 0)
    else:
        limits = torch.iinfo(tensor.dtype)
        kind, bounds = np.int64, (limits.min, limits.max)
    return TableData(np.broadcast_to(np.zeros((), kind), tuple(tensor.shape)), "", bounds)
