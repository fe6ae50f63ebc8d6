"""A mask made ready for a call: its tiles, its functions and its BlockMask, kept for the next equal call."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, Protocol

import torch
from torch.nn.attention.flex_attention import BlockMask

from attnmask.errors import MaskError
from attnmask.ir.check import check, fits_int32
from attnmask.ir.domain import Domain
from attnmask.ir.nodes import Expr, Predicate, ScoreExpr
from attnmask.ir.tables import Origins, TableData, require_bound
from attnmask.lower.block_mask import block_lists
from attnmask.lower.cache import ByteCache
from attnmask.lower.functions import MaskMod, ScoreMod, build, untraced
from attnmask.lower.in_kernel import kernel_predicate
from attnmask.lower.layout import layout
from attnmask.lower.source import Source, mask_source, score_source
from attnmask.tiles.build import Block, block_pair, tiles
from attnmask.tiles.promises import Promises, promises
from attnmask.tiles.tilemap import TileMap


class Lowerable(Protocol):
    """What lowering needs to know of a mask (the façade's `Mask` is one)."""

    @property
    def predicate(self) -> Predicate: ...
    @property
    def score(self) -> ScoreExpr | None: ...
    @property
    def tables(self) -> tuple[tuple[str, TableData], ...]: ...
    @property
    def origins(self) -> Origins: ...
    @property
    def unbound(self) -> tuple[str, ...]: ...
    @property
    def made_for(self) -> Domain: ...

    def domain(
        self,
        q_len: int,
        kv_len: int | None = None,
        *,
        batch: int | None = None,
        heads: int | None = None,
        q_offset: int = 0,
    ) -> Domain: ...


@dataclass(frozen=True, slots=True)
class Request:
    """What a call asks for; equal requests share one `Prepared`."""

    predicate: Predicate
    score: ScoreExpr | None
    tables: tuple[tuple[str, TableData], ...]
    domain: Domain
    block: tuple[int, int]
    device: torch.device
    origins: Origins = field(compare=False, repr=False)


def torch_device(device: torch.device | str) -> torch.device:
    """The device with its number ("cuda" becomes "cuda:0"). MaskError when there is none."""
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, TypeError) as error:
        raise MaskError(f"there is no device {str(device)!r} here", hint=str(error).split("\n")[0]) from None


def request(mask: Lowerable, domain: Domain, block: Block, device: torch.device | str) -> Request:
    where = torch_device(device)
    return Request(mask.predicate, mask.score, mask.tables, domain, block_pair(block), where, mask.origins)


_MOST_BYTES = 1 << 30  # kept for later calls; a single larger result is kept until the next


@dataclass(frozen=True, slots=True, eq=False)
class InKernel:
    """For kernels that go by the lists."""

    block_mask: BlockMask
    mask_mod: MaskMod
    mask_text: str


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """What a request becomes."""

    tiles: TileMap
    block_mask: BlockMask
    mask_mod: MaskMod
    score_mod: ScoreMod | None
    score_text: str | None
    # Worked out when first asked for: a block mask alone needs neither.
    in_kernel: Callable[[], InKernel]
    promises: Callable[[], Promises]

    @property
    def nbytes(self) -> int:
        """Bytes that the tiles and the lists of the BlockMask take."""
        return self.tiles.nbytes + layout(self.tiles).nbytes


def sources(
    predicate: Predicate, score: ScoreExpr | None, tables: Mapping[str, TableData], domain: Domain
) -> tuple[Source, Source | None]:
    """The source of the mask and of the score, in 32-bit integers where these are enough for the call."""
    mask = _fitted(mask_source, predicate, tables, domain)
    return mask, None if score is None else _fitted(score_source, score, tables, domain)


def _fitted(
    write: Callable[..., Source], root: Expr, tables: Mapping[str, TableData], domain: Domain
) -> Source:
    return write(root, wide=not fits_int32(root, domain, tables), offset=domain.q_offset != 0)


# Positions are below this where nobody says how long sequences are.
_ANY_LENGTH = Domain(1 << 26, 1 << 26, batch=1 << 16, heads=1 << 16)


def free_mask_mod(mask: Lowerable) -> MaskMod:
    """`mask_mod` of a mask that does not depend on the lengths, with tables on the CPU."""
    return _free(mask_source, mask.predicate, mask)  # type: ignore[no-any-return]  # generated code has no type


def free_score_mod(mask: Lowerable) -> ScoreMod | None:
    """`score_mod` likewise, or None for a mask without scores."""
    return None if mask.score is None else _free(score_source, mask.score, mask)


def _free(write: Callable[..., Source], root: Expr, mask: Lowerable) -> Any:
    tables = dict(mask.tables)
    require_bound(root, tables, mask.origins)
    source = _fitted(write, root, tables, _ANY_LENGTH)
    if source.sizes:
        raise MaskError(
            f"the mask depends on {', '.join(source.sizes)}, which only a call gives",
            hint="take block_mask(q_len, …).mask_mod",
        )
    return build(source, tables, None, torch.device("cpu"))


def _prepared(request: Request) -> Prepared:
    tables = dict(request.tables)
    mask, score = sources(request.predicate, request.score, tables, request.domain)
    if request.score is not None:
        check(request.score, request.domain, tables, request.origins)
    tile_map = tiles(request.predicate, request.domain, tables, request.origins, request.block)
    mask_mod: MaskMod = build(mask, tables, request.domain, request.device)
    score_mod = None if score is None else build(score, tables, request.domain, request.device)
    block_mask = block_lists(tile_map, request.device).block_mask(mask_mod)
    return Prepared(
        tile_map,
        block_mask,
        mask_mod,
        score_mod,
        None if score is None else score.text,
        cache(partial(_in_kernel, request, tile_map, block_mask)),
        cache(partial(promises, tile_map, request.score)),
    )


def _in_kernel(request: Request, tile_map: TileMap, block_mask: BlockMask) -> InKernel:
    tables = dict(request.tables)
    shorter = kernel_predicate(request.predicate, tile_map, request.domain, tables)
    source = _fitted(mask_source, shorter, tables, request.domain)
    mask_mod: MaskMod = build(source, tables, request.domain, request.device)
    with_shorter: BlockMask = copy.copy(block_mask)
    with_shorter.mask_mod = mask_mod
    return InKernel(with_shorter, mask_mod, source.text)


# Everything that a call needs, built once for equal requests. MaskError when the mask does not fit the call.
prepare = ByteCache(_prepared, lambda prepared: prepared.nbytes, _MOST_BYTES)


@untraced
def prepared_call(
    mask: Lowerable,
    q_len: int,
    kv_len: int | None,
    *,
    batch: int | None,
    heads: int | None,
    block: Block,
    device: torch.device | str,
    q_offset: int,
) -> Prepared:
    """What a call needs, from the cache where an equal call was made before."""
    domain = mask.domain(q_len, kv_len, batch=batch, heads=heads, q_offset=q_offset)
    return prepare(request(mask, domain, block, device))
