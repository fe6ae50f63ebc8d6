"""ScoreMod: a modification of attention scores, apart from any mask."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from attnmask.errors import Place
from attnmask.ir.nodes import Expr, ScoreExpr
from attnmask.ir.tables import TableData


@dataclass(frozen=True, slots=True)
class ScoreMod:
    """A modification of attention scores, such as `library.softcap(30)`; see `Mask.with_score`."""

    score: ScoreExpr
    tables: tuple[tuple[str, TableData], ...] = ()
    origins: Mapping[Expr, Place] = field(default_factory=dict, compare=False, repr=False)
