"""Masks that a program writes itself: the causal one, and a given mask asked about other rows."""

from __future__ import annotations

from dataclasses import dataclass, field

from attnmask.errors import MaskError
from attnmask.ir.domain import ANYWHERE, Domain
from attnmask.ir.formula import Formula
from attnmask.ir.index import add, const, mul, var
from attnmask.ir.nodes import Expr, Predicate, ScoreExpr
from attnmask.ir.predicate import compare
from attnmask.ir.tables import Origins, TableData
from attnmask.ir.walk import substitute, table_names
from attnmask.lower.prepare import Lowerable

Q, K = var("q"), var("k")
CAUSAL = compare(K, "<=", Q)


@dataclass(frozen=True, slots=True)
class Written(Formula):
    """A mask for `attention`; lowering cannot import the façade's `Mask`."""

    predicate: Predicate
    score: ScoreExpr | None = None
    tables: tuple[tuple[str, TableData], ...] = ()
    origins: Origins = field(default_factory=dict, compare=False, repr=False)
    made_for: Domain = ANYWHERE


def scored_like(mask: Lowerable, predicate: Predicate) -> Written:
    """Another set of pairs under the scores of `mask`."""
    names = () if mask.score is None else table_names(mask.score)
    if late := sorted(set(names) - dict(mask.tables).keys()):
        raise MaskError(
            f"the score reads '{late[0]}', which must be bound for a program of several calls",
            hint=f"mask.bind({late[0]}=…)",
        )
    tables = tuple((name, data) for name, data in mask.tables if name in names)
    return Written(predicate, mask.score, tables, mask.origins)


def strided_rows(mask: Lowerable, domain: Domain, first: int, step: int) -> tuple[Written, int]:
    """`mask` for the rows first, first + step, … of a call, and the query offset of a call of these rows alone.

    `domain` is that of the whole call.
    """
    offset = domain.q_offset + first
    # Whole steps of the offset stay out of the formula, so that calls at other offsets share its kernels.
    row = add(mul(const(step), Q), const(offset % step))
    change: dict[Expr, Expr] = {Q: row, var("Q"): const(domain.q_len)}
    score = None if mask.score is None else substitute(mask.score, change)
    return (
        Written(substitute(mask.predicate, change), score, mask.tables, mask.origins),
        offset // step,
    )
