"""One layer of self-attention: what its mask lets flow, as one predicate in q and k."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnmask.errors import MaskError
from attnmask.ir import index
from attnmask.ir.check import check
from attnmask.ir.dense import dense
from attnmask.ir.domain import Domain
from attnmask.ir.nodes import And, Expr, Predicate
from attnmask.ir.predicate import and_, or_
from attnmask.ir.tables import Origins, TableData
from attnmask.ir.walk import substitute, table_names, variables
from attnmask.tiles.build import planes, tiles
from attnmask.tiles.tilemap import TileMap


@dataclass(frozen=True, slots=True)
class Layer:
    """Query q sees key k where `root`, a predicate in q and k alone, holds; both run over `length` positions.

    Equal layers are equal, whatever masks they came from.
    """

    root: Predicate
    length: int
    tables: tuple[tuple[str, TableData], ...]

    @property
    def arrays(self) -> Mapping[str, NDArray[Any]]:
        return {name: data.array for name, data in self.tables}

    def dense(self) -> NDArray[np.bool_]:
        """bool [length, length]."""
        found: NDArray[np.bool_] = dense(self.root, Domain(self.length, self.length), self.arrays)[0, 0]
        return found

    def tiles(self, block: int) -> TileMap:
        """The tiles of the one plane that the layer has."""
        return tiles(self.root, Domain(self.length, self.length), dict(self.tables), {}, block)


def layer(
    root: Predicate,
    domain: Domain,
    tables: Mapping[str, TableData],
    origins: Origins,
    b: int,
    h: int | None,
) -> Layer:
    """A mask as a layer: of batch row `b`, and of head `h`, or of all heads together when that is None.

    What one head has seen all of them read in the next layer, so heads are united.

    Raises:
        MaskError: when the mask cannot be evaluated on the domain, or has no such batch row or head.
    """
    check(root, domain, tables, origins)
    _require_place("batch row", b, domain.batch, "b" in variables(root))
    at: dict[Expr, Expr] = {index.var("b"): index.const(b), index.var("B"): index.const(domain.batch)}
    if h is not None:
        _require_place("head", h, domain.heads, "h" in variables(root))
        at[index.var("h")] = index.const(h)
    distinct, _ = planes(substitute(root, at), domain, tables)
    whole = union(distinct)
    return Layer(whole, domain.q_len, tuple((name, tables[name]) for name in table_names(whole)))


def _require_place(what: str, number: int, count: int, matters: bool) -> None:
    # A mask that is the same for all heads says nothing about how many there are.
    if number < 0 or (number >= count and (matters or count > 1)):
        raise MaskError(f"there is no {what} {number}", hint=f"of {count}, the last is {count - 1}")


def union(roots: Sequence[Predicate]) -> Predicate:
    """Where any of the predicates holds; what they all ask for stays outside: `a & b | a & c` is `a & (b | c)`."""
    parts = [root.args if isinstance(root, And) else (root,) for root in roots]
    common = [part for part in parts[0] if all(part in others for others in parts[1:])]
    rests = [and_(*(part for part in own if part not in common)) for own in parts]
    return and_(*common, or_(*rests))
