"""Tiles in closed form: which tiles are live and which are full, for every length at once.

An independent check on the search for tiles, which never looks at formulas.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce

import islpy as isl

from attnmask.algebra.capped import TooHardError, capped
from attnmask.algebra.facts import narrow
from attnmask.algebra.from_sets import to_predicate
from attnmask.algebra.presburger import SET, Sets
from attnmask.algebra.scope import Scope
from attnmask.errors import MaskError
from attnmask.ir.nodes import Predicate
from attnmask.ir.tables import TableData
from attnmask.ir.text import one_line, to_text

_CAP = 300_000
_NAMES = {"q": "I", "k": "J"}


@dataclass(frozen=True, slots=True)
class TileFormula:
    """Which tiles of (query, key) size `block` are live (some pair is attended) and full (all pairs are).

    The predicates read q as the tile's row I and k as its column J, both counted from 0; Q and K are the lengths,
    b and h the batch row and the head. They speak of tiles that exist: I * block[0] < Q, J * block[1] < K.
    A tile that reaches past the end is not full, as in torch.
    """

    block: tuple[int, int]
    live: Predicate
    full: Predicate

    def __str__(self) -> str:
        return f"live: {_named(self.live)}\nfull: {_named(self.full)}"


def tile_formula(
    root: Predicate, block: tuple[int, int], scope: Scope, tables: Mapping[str, TableData]
) -> TileFormula:
    """MaskError where a mask has no such formula, or where finding it would take too long."""
    try:
        with capped(_CAP):
            sets = Sets((root,), scope, tables, expand=True)
            if sets.atoms:
                raise MaskError(
                    f"tiles have no formula in lengths where a mask depends on {one_line(to_text(sets.atoms[0]), 60)}"
                )
            live, full = _sets(root, block, sets)
            grid = _grid(sets, block)
            formulas = [to_predicate(sets, found.gist(grid)) for found in (live, full)]
    except TooHardError:
        formulas = [None]
    if None in formulas:
        raise MaskError("the formula of the tiles is too long to be found or read", hint="ask tiles(q_len)")
    written = [formula for formula in formulas if formula is not None]
    return TileFormula(block, *written)


def _sets(root: Predicate, block: tuple[int, int], sets: Sets) -> tuple[isl.Set, isl.Set]:
    """Live and full tiles; the dimensions q and k are the tile's row and column."""
    domain = narrow(sets, (root,))
    to_tiles = _to_tiles(sets, block)
    live = domain.intersect(sets.of(root)).apply(to_tiles)
    broken = domain.intersect(sets.of(root, False)).apply(to_tiles)
    whole = domain.apply(to_tiles)
    for name, size, length in (("q", block[0], "Q"), ("k", block[1], "K")):
        end = sets.var(name).add(sets.const(1)).scale_val(sets.number(size))
        whole = whole.intersect(end.le_set(sets.var(length)))
    return live.coalesce(), whole.subtract(broken).coalesce()


def _to_tiles(sets: Sets, block: tuple[int, int]) -> isl.Map:
    """Positions to tiles: q to (q - offset) // block, k to k // block, all else as it is."""
    tiles = isl.MultiAff.identity(sets.space.map_from_set())
    offset = sets.affine("O") if "O" in sets.axis else None
    for name, size in zip("qk", block, strict=True):
        position = sets.affine(name)
        if name == "q" and offset is not None:
            position = position.sub(offset)
        tiles = tiles.set_aff(sets.axis[name], position.scale_down_val(sets.number(size)).floor())
    return isl.Map.from_multi_aff(tiles)


def _grid(sets: Sets, block: tuple[int, int]) -> isl.Set:
    """The tiles that exist, of calls that exist."""
    calls = sets.domain
    for name in ("q", "k"):
        calls = calls.project_out(SET, sets.axis[name], 1).insert_dims(SET, sets.axis[name], 1)
    parts = [calls]
    for name, size, length in (("q", block[0], "Q"), ("k", block[1], "K")):
        at = sets.var(name)
        parts += [sets.const(0).le_set(at), at.scale_val(sets.number(size)).lt_set(sets.var(length))]
    return reduce(isl.Set.intersect, parts)


def _named(formula: Predicate) -> str:
    return re.sub(r"\b[qk]\b", lambda found: _NAMES[found[0]], to_text(formula))
