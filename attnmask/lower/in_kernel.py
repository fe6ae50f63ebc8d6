"""What kernels that go by the block lists run: the mask as short as it can be on partial tiles, and promises.

On other tiles the shorter function may say something else than the mask, so it is never given to eager
FlexAttention, which ignores the lists; `Mask.block_mask` has the whole function.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from attnmask.errors import MaskError
from attnmask.ir.check import check
from attnmask.ir.domain import Domain
from attnmask.ir.nodes import Predicate
from attnmask.ir.tables import TableData
from attnmask.tiles.specialise import on_partial_tiles
from attnmask.tiles.tilemap import TileMap


def kernel_predicate(
    root: Predicate, tiles: TileMap, domain: Domain, tables: Mapping[str, TableData]
) -> Predicate:
    """A predicate with the truth of `root` on partial tiles, in no more operations.

    It does not depend on what tables hold, so that other tables need no other kernel.
    """
    shorter = _simplified(on_partial_tiles(root, tiles, domain, tables))
    try:
        check(shorter, domain, tables, {})
    except MaskError:  # in another order, partial sums may leave 64 bits
        return root
    return shorter


@lru_cache(maxsize=512)
def _simplified(root: Predicate) -> Predicate:
    try:
        from attnmask.algebra.scope import Scope
        from attnmask.algebra.simplify import simplify
    except MaskError:  # there is no integer set library here
        return root
    return simplify(root, Scope(q_offset=None), {}).after
