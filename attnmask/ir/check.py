"""What must hold before a mask is evaluated at some lengths: indices in range, no zero divisor, no overflow.

One pass bounds every integer of the mask over all positions, with Python's unlimited integers. Bounds too
wide to decide are made exact by evaluation, where an integer depends on one position only.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from attnmask.errors import MaskError, UndecidedError
from attnmask.ir.domain import Bounds, Domain
from attnmask.ir.evaluate import evaluate
from attnmask.ir.index import add, const, is_affine
from attnmask.ir.interval import Intervals
from attnmask.ir.kinds import is_index
from attnmask.ir.nodes import (
    BoolTable,
    Compare,
    Const,
    Expr,
    FloorDiv,
    Index,
    Mod,
    RealTable,
    Table,
    Var,
    Where,
)
from attnmask.ir.tables import Origins, TableData
from attnmask.ir.walk import postorder, variables

_MOST_EVALUATED = 1 << 25
# The negation of every value is one too, so -2**63 is left out.
INT64 = range(-(2**63) + 1, 2**63)
_INT32 = range(-(2**31), 2**31)


def check(
    root: Expr,
    domain: Domain,
    tables: Mapping[str, TableData],
    origins: Origins,
    *,
    most: int = _MOST_EVALUATED,
) -> bool:
    """MaskError when evaluating `root` over the domain would go wrong; else whether int32 is enough for it.

    The error is an UndecidedError where bounds are too wide to tell and it may as well go right. What depends on
    `most` positions at most is evaluated at all of them to tell.
    """
    return _Check(domain, tables, origins, most).run(root)


def fits_int32(root: Expr, domain: Domain, tables: Mapping[str, TableData]) -> bool:
    """Whether int32 holds every integer on the way to `root` over the domain, as far as bounds can tell."""
    intervals = _intervals(domain, tables)
    return all(intervals.reach(cast(Index, node)) in _INT32 for node in postorder(root) if is_index(node))


def _intervals(domain: Domain, tables: Mapping[str, TableData]) -> Intervals:
    return Intervals(domain.bounds, lambda name: tables[name].bounds)


class _Check:
    def __init__(self, domain: Domain, tables: Mapping[str, TableData], origins: Origins, most: int) -> None:
        self.domain = domain
        self.most = most
        self.tables = tables
        self.origins = origins
        self.intervals = _intervals(domain, tables)
        self.sound: set[Expr] = set()  # integers that were looked at: nothing in them goes wrong

    def run(self, root: Expr) -> bool:
        narrow = True
        for node in postorder(root):
            self.require(node)
            if isinstance(node, Compare):
                self.require_difference(node)
            if is_index(node):
                low, high = self.intervals.of(cast(Index, node))
                if low not in INT64 or high not in INT64:
                    raise self.overflow(low if low not in INT64 else high, node)
                self.sound.add(node)
                narrow = narrow and self.intervals.reach(cast(Index, node)) in _INT32
        return narrow

    def require_difference(self, node: Compare) -> None:
        """Tiles are found from `lhs - rhs`, none of whose partial sums may overflow either."""
        reach = sum(self.intervals.reach(side) for side in (node.lhs, node.rhs))
        if reach not in INT64:
            raise self.overflow(reach, node, "the difference of the two sides")

    def overflow(self, value: int, node: Expr, what: str = "the value") -> MaskError:
        return self.fault(
            f"{what} can reach {_magnitude(value)}, which does not fit into 64 bits",
            node,
            "use smaller factors",
            certain=False,
        )

    def fault(self, message: str, node: Expr, hint: str | None = None, *, certain: bool) -> MaskError:
        kind = MaskError if certain else UndecidedError
        return kind(message, hint=hint, place=self.origins.get(node))

    def require(self, node: Expr) -> None:
        if isinstance(node, FloorDiv | Mod):
            low, high = self.intervals.of(node.rhs)
            if low <= 0 <= high and not self.never_zero(node.rhs):
                raise self.fault(
                    "division by zero"
                    if low == high
                    else f"the divisor can be zero: it lies in {low}…{high}",
                    node,
                    "keep it above zero with max(…, 1)",
                    certain=low == high or self.exact(node.rhs) is not None,
                )
        if isinstance(node, Table | BoolTable | RealTable):
            shape = self.tables[node.name].array.shape
            for axis, (item, size) in enumerate(zip(node.indices, shape, strict=True)):
                self.require_in_range(node, item, axis, size)

    def require_in_range(
        self, node: Table | BoolTable | RealTable, item: Index, axis: int, size: int
    ) -> None:
        item, least = _counted_from(item, size)
        low, high = self.intervals.of(item)
        if low >= least and high < size:
            return
        reached = (low, high) if is_affine(item) else self.exact(item)
        low, high = reached or (low, high)
        if low >= least and high < size:
            return
        asked = low if low < least else high
        along = f" along dimension {axis}" if len(node.indices) > 1 else ""
        what = "entry" if size == 1 else "entries"
        if isinstance(item, Var):
            hint = "a table over positions covers all of them: bind a longer one, or ask for fewer positions"
        else:
            hint = "clip the index, as in " + ("min(…, n - 1)" if asked >= size else "max(…, 0)")
        raise self.fault(
            f"the table '{node.name}' has {size} {what}{along} and entry {asked} is asked for",
            node,
            hint,
            certain=reached is not None,
        )

    def exact(self, node: Index) -> Bounds | None:
        """The least and largest value that is reached, where a small evaluation can tell."""
        names = variables(node) & {"q", "k", "b", "h"}
        sizes = {name: self.domain.bounds(name)[1] - self.domain.bounds(name)[0] + 1 for name in names}
        if {"q", "k"} <= names or int(np.prod(list(sizes.values()), dtype=object)) > self.most:
            return None
        if any(part not in self.sound for part in postorder(node) if is_index(part)):
            return None
        values = self.values(node)
        return int(values.min()), int(values.max())

    def values(self, node: Index) -> NDArray[Any]:
        arrays = {name: data.array for name, data in self.tables.items()}
        return evaluate(node, self.domain.arrays(variables(node)), arrays)

    def never_zero(self, node: Index) -> bool:
        names = variables(node) & {"q", "k", "b", "h"}
        if self.exact(node) is None or not names:
            return False
        values = self.values(node)
        return bool((values != 0).all())


def _counted_from(item: Index, size: int) -> tuple[Index, int]:
    """The index and its least allowed value: lifted functions count negative indices from the end."""
    match item:
        case Where(Compare(at, "<", Const(0)), then, other) if other is at and then is add(at, const(size)):
            return at, -size
    return item, 0


def _magnitude(value: int) -> str:
    return str(value) if abs(value) < 10**24 else f"{'-' if value < 0 else ''}10**{len(str(abs(value))) - 1}"
