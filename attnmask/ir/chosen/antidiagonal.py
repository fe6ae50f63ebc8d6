"""Scores along antidiagonals of strided cells (XAttention, arXiv:2503.16428)."""

from __future__ import annotations

from math import sqrt

import numpy as np

from attnmask.errors import MaskError
from attnmask.ir.chosen.call import Call, Floats
from attnmask.ir.chosen.pools import softmax
from attnmask.ir.chosen.units import Integers, Units
from attnmask.ir.nodes import Const, FloorDiv, Index
from attnmask.ir.rules import Antidiagonal


def antidiagonal_scores(score: Antidiagonal, call: Call, units: Units) -> Floats:
    """[B, H, rows, keys]. MaskError where a cell would lie in several units."""
    stride, (batch, heads, _, dim) = score.stride, call.q.shape
    if call.domain.q_offset % stride:
        raise MaskError(f"the queries begin at {call.domain.q_offset}, which is not a multiple of {stride}")
    q_cells, k_cells = _cells(call.q, stride), _cells(call.k, stride)
    if score.mode == "anti":
        q_cells = q_cells[:, :, :, ::-1]
    rows, keys = _unit_of_cells(units.rows, stride), _unit_of_cells(units.of_keys, stride)
    n_q, n_k = q_cells.shape[2], k_cells.shape[2]
    first = call.domain.q_offset // stride
    seen = np.arange(n_k) <= first + np.arange(n_q)[:, None]
    result = np.zeros((batch, heads, units.n_rows, units.n_keys))
    for b, h in np.ndindex(batch, heads):
        q, k = q_cells[b, h], k_cells[b, h // (heads // call.kv_heads)]
        cells = q.reshape(n_q, -1) @ k.reshape(n_k, -1).T * (score.scale / (stride * sqrt(dim)))
        weights = softmax(cells, seen if score.causal else True)
        np.add.at(result[b, h], (rows[b, h][:, None], keys[b, h][None, :]), weights)
    return result


def require_multiples(score: Antidiagonal, *indices: Index) -> None:
    """MaskError where units are blocks of a size that is not a multiple of the stride."""
    for index in indices:
        match index:
            case FloorDiv(_, Const(size)) if size % score.stride:
                raise MaskError(f"blocks of {size} are not made of whole cells of {score.stride}")


def _cells(vectors: Floats, stride: int) -> Floats:
    """[B, H, cells, stride, D], zeros past the end."""
    batch, heads, length, dim = vectors.shape
    padded = np.pad(vectors, ((0, 0), (0, 0), (0, -length % stride), (0, 0)))
    return padded.reshape(batch, heads, -1, stride, dim)


def _unit_of_cells(unit: Integers, stride: int) -> Integers:
    """[B, H, cells] from the units [B, H, n] of positions."""
    found = unit[:, :, ::stride]
    if (np.repeat(found, stride, axis=2)[:, :, : unit.shape[2]] != unit).any():
        raise MaskError(f"units must be made of whole cells of {stride} positions")
    return found
