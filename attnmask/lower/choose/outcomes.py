"""The tiles of a whole mask: static parts from the host, exactly and once; chosen parts from their sets."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import assert_never

import torch

from attnmask.ir import predicate
from attnmask.ir.choices import choices_of
from attnmask.ir.domain import Domain
from attnmask.ir.nodes import (
    And,
    BoolTable,
    Choice,
    Compare,
    Not,
    Or,
    Predicate,
    Truth,
    Xor,
)
from attnmask.ir.tables import TableData
from attnmask.ir.walk import table_names
from attnmask.lower.cache import ByteCache
from attnmask.lower.choose.choices import Choices
from attnmask.lower.choose.coarse import Outcomes, choice_outcomes
from attnmask.lower.device import planned
from attnmask.tiles.build import tiles

Tensor = torch.Tensor


@dataclass(frozen=True, slots=True)
class _Static:
    root: Predicate
    domain: Domain
    tables: tuple[tuple[str, TableData], ...]
    block: tuple[int, int]
    device: torch.device


def _static(request: _Static) -> Outcomes:
    found = tiles(request.root, request.domain, dict(request.tables), {}, request.block)
    kinds = torch.from_numpy(found.dense_planes()[found.plane_of]).to(request.device)
    return Outcomes(kinds == 0, kinds == 2)


_kept = ByteCache(_static, lambda found: found.never.nbytes + found.full.nbytes, 1 << 28)


@dataclass(frozen=True, slots=True)
class Tiler:
    """Works out the tiles of a mask for one call."""

    domain: Domain
    block: tuple[int, int]
    device: torch.device
    tables: Mapping[str, TableData]
    choices: Choices

    def of(self, root: Predicate) -> Outcomes:
        """The tiles of the mask, those past the end of either axis never full, as in torch."""
        found = self.part(root)
        rows, columns = -(-self.domain.q_len // self.block[0]), -(-self.domain.kv_len // self.block[1])
        inside_q = (torch.arange(1, rows + 1, device=self.device) * self.block[0]) <= self.domain.q_len
        inside_k = (torch.arange(1, columns + 1, device=self.device) * self.block[1]) <= self.domain.kv_len
        inside = inside_q[:, None] & inside_k
        shape = (*found.never.shape[:2], rows, columns)
        return Outcomes(found.never.expand(shape), found.full & inside)

    def part(self, node: Predicate) -> Outcomes:
        if not choices_of(node):
            return self.fixed(node)
        match node:
            case Choice():
                return choice_outcomes(node, self.choices.of(node), self.domain, self.tables, self.block)
            case Not(arg):
                found = self.part(arg)
                return Outcomes(found.full, found.never)
            case And(args):
                return self.joined(args, predicate.and_, torch.logical_or, torch.logical_and)
            case Or(args):
                return self.joined(args, predicate.or_, torch.logical_and, torch.logical_or)
            case Xor(lhs, rhs):
                one, other = self.part(lhs), self.part(rhs)
                return Outcomes(
                    one.never & other.never | one.full & other.full,
                    one.never & other.full | one.full & other.never,
                )
            case Truth() | Compare() | BoolTable():
                # A comparison of integers that depend on a choice: what it is, mask_mod tells.
                # What it depends on may differ from head to head.
                shape = (self.domain.batch, self.domain.heads, 1, 1)
                nothing = torch.zeros(shape, dtype=torch.bool, device=self.device)
                return Outcomes(nothing, nothing)
            case _:
                assert_never(node)

    def joined(
        self,
        args: tuple[Predicate, ...],
        join: Callable[..., Predicate],
        never: Callable[[Tensor, Tensor], Tensor],
        full: Callable[[Tensor, Tensor], Tensor],
    ) -> Outcomes:
        """The parts of a conjunction or disjunction, those without choices as one."""
        fixed = [arg for arg in args if not choices_of(arg)]
        parts = [self.part(arg) for arg in args if choices_of(arg)]
        if fixed:
            parts.append(self.fixed(join(*fixed)))
        return Outcomes(
            reduce(never, (part.never for part in parts)), reduce(full, (part.full for part in parts))
        )

    def fixed(self, node: Predicate) -> Outcomes:
        names = table_names(node)
        if all(name in self.tables for name in names):
            used = tuple((name, self.tables[name]) for name in names)
            return _kept(_Static(node, self.domain, used, self.block, self.device))
        given = {name: self.choices.tables[name] for name in names if name in self.choices.tables}
        bound = {name: self.tables[name].array for name in names if name in self.tables}
        known = {**given, **{name: torch.tensor(array, device=self.device) for name, array in bound.items()}}
        plan = planned(node, known, self.domain, self.block, self.device)
        offset = torch.full((1,), self.domain.q_offset, dtype=plan.dtype, device=self.device)
        return Outcomes(*plan.outcomes(known, offset, self.domain))
