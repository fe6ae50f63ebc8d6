"""Mask: a predicate with its tables; what becomes of it (numbers, pictures, torch) stands here on one screen."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NoReturn, cast

import numpy as np
from numpy.typing import NDArray

from attnmask.choosable import Choosable
from attnmask.errors import MaskError, Place, did_you_mean
from attnmask.ir import predicate as laws
from attnmask.ir.check import check
from attnmask.ir.choices import with_amounts
from attnmask.ir.dense import dense
from attnmask.ir.domain import ANYWHERE, Domain, length
from attnmask.ir.formula import Formula
from attnmask.ir.nodes import Expr, Predicate, ScoreExpr
from attnmask.ir.pack import Packed, pack, unpack
from attnmask.ir.rule_names import names_given
from attnmask.ir.score import SCORE
from attnmask.ir.tables import TableData, fit, table_data
from attnmask.ir.text import one_line, to_text
from attnmask.ir.walk import substitute, table_names, variables
from attnmask.provable import Provable
from attnmask.score_mod import ScoreMod
from attnmask.tiles.build import Block
from attnmask.tiles.build import tiles as build_tiles
from attnmask.tiles.count import partial_counts
from attnmask.tiles.interval_form import interval_form
from attnmask.tiles.interval_map import IntervalMap, interval_map
from attnmask.tiles.tilemap import TileMap

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch.nn.attention.flex_attention import BlockMask

    from attnmask.lower.choose.choices import Choices
    from attnmask.lower.functions import MaskMod
    from attnmask.lower.functions import ScoreMod as ScoreModFunction
    from attnmask.plan.report import Report


@dataclass(frozen=True, slots=True, repr=False)
class Mask(Formula, Provable, Choosable):
    """Which query sees which key, for every batch row and head; and, optionally, a score modification.

    Masks are immutable and hashable, and combine with `& | ^ - ~`. `compile` and `library` make them.
    """

    predicate: Predicate
    score: ScoreExpr | None = None
    tables: tuple[tuple[str, TableData], ...] = ()
    origins: Mapping[Expr, Place] = field(default_factory=dict, compare=False, repr=False)
    # The limits within which the mask is what it was lifted from, or the interval form of.
    made_for: Domain = ANYWHERE

    # ---- tables and settings -------------------------------------------------------------------------

    def bind(self, /, **bindings: object) -> Mask:
        """This mask with tables (arrays over positions) and settings (integers) given by name.

        Tables are copied: a later change of the array does not change the mask. A table with one dimension
        more than its indices is taken per batch row. MaskError when a name does not occur in the mask (for
        integers that is allowed: a setting need not matter), or when a table does not fit its use.
        """
        named = self._names
        given = {name: table_data(name, value) for name, value in bindings.items()}
        for name, data in given.items():
            if name in dict(self.tables):
                raise MaskError(f"'{name}' is bound already", hint="bind the unbound mask anew")
            if data.array.ndim and name in names_given(self.predicate):
                raise MaskError(
                    f"'{name}' is what the mask chooses by",
                    hint=f"give it with q and k: choose(q, k, {name}=…)",
                )
            if name not in named and data.array.ndim:
                raise MaskError(f"the mask has no table '{name}'", hint=did_you_mean(name, named))
        numbers = {name: float(data.array) for name, data in given.items() if not data.array.ndim}
        predicate, places = fit(with_amounts(self.predicate, numbers), given, self.origins)
        score, more_places = (None, {}) if self.score is None else fit(self.score, given, self.origins)
        used = {name: data for name, data in given.items() if name in named and data.array.ndim}
        tables = tuple(sorted({**dict(self.tables), **used}.items()))
        return replace(
            self,
            predicate=predicate,
            score=score,
            tables=tables,
            origins={**self.origins, **places, **more_places},
        )

    # ---- algebra -------------------------------------------------------------------------------------

    def __and__(self, other: Mask) -> Mask:
        return self._combined(other, laws.and_) if isinstance(other, Mask) else NotImplemented

    def __or__(self, other: Mask) -> Mask:
        return self._combined(other, laws.or_) if isinstance(other, Mask) else NotImplemented

    def __xor__(self, other: Mask) -> Mask:
        return self._combined(other, laws.xor) if isinstance(other, Mask) else NotImplemented

    def __sub__(self, other: Mask) -> Mask:
        return self & ~other if isinstance(other, Mask) else NotImplemented

    def __invert__(self) -> Mask:
        return replace(self, predicate=laws.not_(self.predicate))

    def __reduce__(self) -> tuple[object, ...]:
        # Node by node, since pickle would recurse as deep as the expression. Places are left behind.
        score = None if self.score is None else pack(self.score)
        return _unpickled, (pack(self.predicate), score, self.tables, self.made_for)

    def __bool__(self) -> NoReturn:
        raise MaskError("a mask has no truth value", hint="combine masks with & | ~, not with and, or, not")

    def with_score(self, score: ScoreMod) -> Mask:
        """This mask with a further score modification, applied after those it has."""
        if not isinstance(score, ScoreMod):
            raise MaskError(
                f"a score modification is expected, not {type(score).__name__}",
                hint="library.softcap(30) makes one; compile('… with …') takes any",
            )
        before = SCORE if self.score is None else self.score
        combined = self._combined(Mask(laws.TRUE, None, score.tables, score.origins), laws.and_)
        return replace(combined, score=substitute(score.score, {SCORE: before}))

    def _combined(self, other: Mask, law: Callable[[Predicate, Predicate], Predicate]) -> Mask:
        mine, theirs = dict(self.tables), dict(other.tables)
        for name in mine.keys() & theirs.keys():
            if mine[name] != theirs[name]:
                hint = (
                    "frozen masks take a name: freeze(choices, name=…)" if name.startswith("chosen") else None
                )
                raise MaskError(f"the two masks bind '{name}' to different tables", hint=hint)
        if self.score is not None and other.score is not None and self.score is not other.score:
            raise MaskError("both masks modify scores", hint="combine the masks first, then use with_score")
        tables, origins = {**mine, **theirs}, {**other.origins, **self.origins}
        predicate, places = law(self.predicate, other.predicate), dict[Expr, Place]()
        score = self.score if self.score is not None else other.score
        if mine.keys() != theirs.keys():
            # A table that only one of them binds must fit its use in the other too.
            predicate, places = fit(predicate, tables, origins)
        if score is not None:
            score, more = fit(score, tables, origins)
            places.update(more)
        made_for = self.made_for.within(other.made_for)
        return Mask(predicate, score, tuple(sorted(tables.items())), {**origins, **places}, made_for)

    # ---- numbers -------------------------------------------------------------------------------------

    def dense(
        self,
        q_len: int,
        kv_len: int | None = None,
        *,
        batch: int | None = None,
        heads: int | None = None,
        q_offset: int = 0,
    ) -> NDArray[np.bool_]:
        """The definition of the mask: a truth value for every pair.

        Returns:
            bool [q_len, kv_len]; or [batch, heads, q_len, kv_len] when `batch` or `heads` is given or the mask
            depends on the batch row (then the number of rows is that of its tables).

        Raises:
            MaskError: when a table is missing or too short, a length is not positive, or a number overflows.
        """
        domain = self.domain(q_len, kv_len, batch=batch, heads=heads, q_offset=q_offset)
        check(self.predicate, domain, dict(self.tables), self.origins)
        full = dense(self.predicate, domain, {name: data.array for name, data in self.tables})
        return full[0, 0] if batch is None and heads is None and domain.batch == domain.heads == 1 else full

    def tiles(
        self,
        q_len: int,
        kv_len: int | None = None,
        *,
        block: Block = 128,
        batch: int | None = None,
        heads: int | None = None,
        q_offset: int = 0,
    ) -> TileMap:
        """The full and the partial tiles, exactly; needs no torch.

        Args:
            q_len, kv_len: number of queries and of keys (as many as queries unless given).
            block: tile size, one number or (query, key).
            batch, heads: number of batch rows and query heads, for masks that depend on them.
            q_offset: position of the first query, as with a KV cache.
        """
        domain = self.domain(q_len, kv_len, batch=batch, heads=heads, q_offset=q_offset)
        return build_tiles(self.predicate, domain, dict(self.tables), self.origins, block)

    def row_intervals(
        self,
        q_len: int,
        kv_len: int | None = None,
        *,
        batch: int | None = None,
        heads: int | None = None,
        q_offset: int = 0,
    ) -> IntervalMap:
        """The keys of every query as half-open intervals, exactly; needs no torch. MaskError past 2**27 of them.

        Quick where comparisons of q with k turn once or twice a row, as in causal, windows and sorted
        documents; other masks are looked at tile by tile.
        """
        domain = self.domain(q_len, kv_len, batch=batch, heads=heads, q_offset=q_offset)
        return interval_map(self.predicate, domain, dict(self.tables), self.origins)

    def interval_form(
        self,
        q_len: int,
        kv_len: int | None = None,
        *,
        batch: int | None = None,
        heads: int | None = None,
        q_offset: int = 0,
        most: int = 8,
    ) -> Mask:
        """A mask equal to this one on such a call, and written as bounds: `start[q] <= k & k < end[q]`.

        Bounds are numbers, distances from q, or tables that come bound. The mask refuses positions that the
        call does not have. MaskError where a query attends more than `most` intervals of keys; torch's
        FlashAttention path for FlexAttention takes 8.
        """
        found = self.row_intervals(q_len, kv_len, batch=batch, heads=heads, q_offset=q_offset)
        predicate, tables = interval_form(found, length("most", most), self._names)
        scored = () if self.score is None else table_names(self.score)
        return Mask(
            predicate,
            self.score,
            tuple(sorted({**tables, **{name: dict(self.tables)[name] for name in scored}}.items())),
            {} if self.score is None else self.origins,
            self.made_for.within(found.domain.limits(variables(self.predicate))),
        )

    def report(
        self,
        q_len: int,
        kv_len: int | None = None,
        *,
        batch: int | None = None,
        heads: int | None = None,
        head_dim: int = 128,
        block: Block = 128,
        q_offset: int = 0,
    ) -> Report:
        """Pairs, tiles, FLOPs, bytes and kernel promises of an attention call, exactly; prints as a table."""
        from attnmask.plan.report import report

        domain = self.domain(q_len, kv_len, batch=batch, heads=heads, q_offset=q_offset)
        tiles = build_tiles(self.predicate, domain, dict(self.tables), self.origins, block)
        return report(str(self), tiles, domain, head_dim, self.score)

    def show(
        self,
        q_len: int,
        kv_len: int | None = None,
        *,
        batch: int | None = None,
        heads: int | None = None,
        b: int = 0,
        h: int = 0,
        block: Block = 128,
        q_offset: int = 0,
    ) -> None:
        """Print a heatmap of batch row `b` and head `h`; a cell is an area of tiles, its shade the density."""
        from rich.console import Console

        from attnmask.view.terminal import Heatmap

        tiles = self.tiles(q_len, kv_len, block=block, batch=batch, heads=heads, q_offset=q_offset)
        Console(highlight=False, markup=False).print(Heatmap(tiles, partial_counts(tiles), str(self), b, h))

    def picture(
        self,
        path: str | Path,
        q_len: int,
        kv_len: int | None = None,
        *,
        batch: int | None = None,
        heads: int | None = None,
        b: int = 0,
        h: int = 0,
        block: Block = 128,
        q_offset: int = 0,
    ) -> None:
        """Draw the same as `show` into a .png or .svg file. Needs matplotlib (`attnmask[viz]`)."""
        from attnmask.view.picture import check_target, picture

        check_target(path)
        tiles = self.tiles(q_len, kv_len, block=block, batch=batch, heads=heads, q_offset=q_offset)
        picture(path, tiles, partial_counts(tiles), text=str(self), b=b, h=h)

    def block_mask(
        self,
        q_len: int,
        kv_len: int | None = None,
        *,
        batch: int | None = None,
        heads: int | None = None,
        block: Block = 128,
        device: torch.device | str = "cpu",
        q_offset: int = 0,
        choices: Choices | None = None,
    ) -> BlockMask:
        """A torch BlockMask with the same lists per row as torch's own builder, and its transpose.

        Its batch and head dimensions are 1 where the mask depends on neither. Equal calls share the index
        tensors, which are not to be written to. With `choices` (from `choose`) it lies on their device, and what
        depends on them is worked out there, without a synchronisation.
        """
        if choices is not None:
            from attnmask.lower.choose.lowered import call_of, lowered

            domain = call_of(self, q_len, kv_len, batch, heads, q_offset, choices)
            return lowered(self, domain, block, choices).block_mask()
        from attnmask.lower.prepare import prepared_call

        prepared = prepared_call(
            self, q_len, kv_len, batch=batch, heads=heads, block=block, device=device, q_offset=q_offset
        )
        # The caller may set attributes of its own object; the tensors are shared with the cache.
        own: BlockMask = copy.copy(prepared.block_mask)
        return own

    @property
    def mask_mod(self) -> MaskMod:
        """The FlexAttention function `mask_mod(b, h, q, k)`; tables are on the CPU.

        MaskError for a mask that depends on the lengths: take `block_mask(...).mask_mod` then.
        """
        from attnmask.lower.prepare import free_mask_mod

        return free_mask_mod(self)

    @property
    def score_mod(self) -> ScoreModFunction | None:
        """The FlexAttention function `score_mod(s, b, h, q, k)`, or None without scores."""
        from attnmask.lower.prepare import free_score_mod

        return free_score_mod(self)

    def emit(self) -> str:
        """A Python file with this mask's `mask_mod`, `score_mod` and `block_mask`; it needs torch only."""
        from attnmask.lower.standalone import standalone

        return standalone(self, str(self))

    # ---- text ----------------------------------------------------------------------------------------

    @property
    def _names(self) -> tuple[str, ...]:
        """The tables and settings of the text, those that simplification removed included."""
        return tuple(sorted({*table_names(*self._roots), *table_names(*self.origins)}))

    def __repr__(self) -> str:
        return f"Mask({one_line(str(self), 200)!r})"

    def __str__(self) -> str:
        text = to_text(self.predicate)
        return text if self.score is None else f"{text} with {to_text(self.score)}"


def _unpickled(
    predicate: Packed, score: Packed | None, tables: tuple[tuple[str, TableData], ...], made_for: Domain
) -> Mask:
    unpacked = None if score is None else cast(ScoreExpr, unpack(score))
    return Mask(cast(Predicate, unpack(predicate)), unpacked, tables, made_for=made_for)
