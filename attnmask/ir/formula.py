"""Formulas with their tables: which names they lack, and which calls they are for. A mixin of all masks."""

from __future__ import annotations

from collections.abc import Mapping

from attnmask.errors import Place
from attnmask.ir.domain import Domain, call_domain
from attnmask.ir.nodes import Expr, Predicate, ScoreExpr
from attnmask.ir.tables import TableData
from attnmask.ir.walk import table_names


class Formula:
    """A mixin of dataclasses with these fields."""

    __slots__ = ()

    predicate: Predicate
    score: ScoreExpr | None
    tables: tuple[tuple[str, TableData], ...]
    origins: Mapping[Expr, Place]
    made_for: Domain

    @property
    def unbound(self) -> tuple[str, ...]:
        """Names of tables and settings that still need a value, sorted."""
        return tuple(name for name in table_names(*self._roots) if name not in dict(self.tables))

    def domain(
        self,
        q_len: int,
        kv_len: int | None = None,
        *,
        batch: int | None = None,
        heads: int | None = None,
        q_offset: int = 0,
    ) -> Domain:
        """The positions of a call. Raises MaskError for lengths that make no sense, and for missing ones."""
        tables = dict(self.tables)
        domain = call_domain(self._roots, tables, self.origins, q_len, kv_len, batch, heads, q_offset)
        domain.require_within(self.made_for)
        return domain

    @property
    def _roots(self) -> tuple[Expr, ...]:
        return (self.predicate,) if self.score is None else (self.predicate, self.score)
