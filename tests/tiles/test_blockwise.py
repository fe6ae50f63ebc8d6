"""Predicates over tiles against the exact tiles: sound always, exact for common masks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import attnmask as am
from attnmask.ir.domain import Domain
from attnmask.ir.evaluate import evaluate
from attnmask.ir.index import add, bitop, const, mod, mul, table, var
from attnmask.ir.nodes import BitOpName, CompareOp, Index, Predicate
from attnmask.ir.predicate import compare
from attnmask.ir.walk import postorder
from attnmask.mask import Mask
from attnmask.tiles.blockwise import Blockwise, Tiling, blockwise
from attnmask.tiles.blockwise_bounds import floor_div
from attnmask.tiles.blockwise_tables import BlockTable, TableSize
from tests.strategies import ARRAYS, Call, Case, cases

Array = NDArray[Any]
Arrays = Mapping[str, Array]
RNG = np.random.default_rng(11)


# ---- a plain reading of what is written ---------------------------------------------------------------


def block_table(table: BlockTable, call: Call, arrays: Arrays) -> Array:
    """[B, H, rows, 1] or [B, H, 1, columns], block by block."""
    along_q = table.axis == "q"
    variables = call.domain.arrays()
    shape = [1 if variables[name].size == 1 else variables[name].size for name in "bhqk"]
    shape[3 if along_q else 2] = 1
    values = np.broadcast_to(evaluate(table.root, variables, arrays), shape)
    length, block = (shape[2], call.block[0]) if along_q else (shape[3], call.block[1])
    join: Any = {"min": np.min, "max": np.max, "any": np.any, "all": np.all}[table.reduction]
    axis = 2 if along_q else 3
    parts = np.split(values, range(block, length, block), axis=axis)
    return np.concatenate([join(part, axis=axis, keepdims=True) for part in parts], axis=axis)


def over_tiles(found: Blockwise, call: Call, arrays: Arrays) -> tuple[Array, Array]:
    """`never` and `full`, bool [B, H, rows, columns]."""
    tables: dict[str, Array] = dict(arrays)
    for name, derived in found.derived:
        match derived:
            case BlockTable():
                tables[name] = block_table(derived, call, tables)
            case TableSize(table, dimension):
                tables[name] = np.asarray(arrays[table].shape[dimension])
            case _:
                tables[name] = {"min": np.min, "max": np.max}[derived.reduction](arrays[derived.table])
    if found.offset is not None:
        tables[found.offset] = np.asarray(call.domain.q_offset)
    domain = call.domain
    rows, columns = -(-domain.q_len // call.block[0]), -(-domain.kv_len // call.block[1])
    variables = domain.arrays() | {"q": np.arange(rows)[:, None], "k": np.arange(columns)}
    shape = (domain.batch, domain.heads, rows, columns)
    never, full = (
        np.broadcast_to(evaluate(root, variables, tables), shape) for root in (found.never, found.full)
    )
    return never, full


def both(mask: Mask, call: Call, arrays: Arrays = ARRAYS) -> tuple[Array, Array]:
    """Tiles as the predicates tell them and as they are: 0 empty, 1 partial, 2 full."""
    found = blockwise(mask.predicate, Tiling.of(call.domain, call.block))
    never, full = over_tiles(found, call, arrays)
    tiles = mask.tiles(*call.lengths, block=call.block, **call.options)
    exact = np.stack(
        [[tiles.dense(b, h) for h in range(call.domain.heads)] for b in range(call.domain.batch)]
    )
    return np.where(full, 2, np.where(never, 0, 1)), exact


def case(text: str, q_len: int, kv_len: int, block: tuple[int, int], offset: int = 0, heads: int = 1) -> Case:
    return Case(am.compile(text), Call(Domain(q_len, kv_len, offset, 1, heads), block))


# ---- sound --------------------------------------------------------------------------------------------


@settings(max_examples=600)
@given(cases())
@example(case("causal", 1, 1, (128, 128)))
@example(case("all", 5, 9, (5, 3)))
@example(case("(q - k) // 7 % 3 == 1 ^ (q * k) % 5 < 2 ^ abs(q - k) * (q - k) <= 40", 60, 50, (3, 4)))
@example(case("((q // 4) ^ (k // 4)) == 4 | ((q - k) & (k - 9)) > 11", 60, 50, (4, 4)))
@example(case("(q - k) % (h - 3) == -1 & (k - 2 * q) // (k + 1) < h", 60, 50, (4, 3), heads=3))
@example(case("where(k < q, q * k, k - q) < 100", 60, 50, (4, 3)))
@example(case("(q - k) * (q - k) < 4 | (q - k - 20) * (q - k - 20) <= 1", 60, 50, (4, 5)))
def test_what_is_decided_is_so(case: Case) -> None:
    found, exact = both(case.mask, case.call)
    decided = found != 1
    np.testing.assert_array_equal(found[decided], exact[decided])


@given(st.integers(-40, 40), st.integers(-9, 9), st.integers(-9, 9), st.integers(-30, 30), st.integers(1, 9))
def test_division_sees_through_multiples(q: int, a: int, b: int, c: int, divisor: int) -> None:
    value: Index = add(mul(const(a), var("q")), mul(const(b), mod(var("q"), const(3))), const(c))
    arrays = {"q": np.asarray(q)}
    found = evaluate(floor_div(value, const(divisor)), arrays, {})
    assert found == evaluate(value, arrays, {}) // divisor
    assert floor_div(add(mul(const(64), var("q")), const(63)), const(64)) is var("q")


def test_an_expression_past_all_limits_is_left_undecided() -> None:
    """Ends are limited in size like any expression; here constants would not fit into 64 bits."""
    huge = compare(mul(const(2**62), var("q")), "<", var("k"))
    found = blockwise(huge, Tiling(128, 128))
    assert found.never is found.full is am.compile("none").predicate


# ---- exact --------------------------------------------------------------------------------------------

N = 96
DOC = np.sort(RNG.integers(0, 7, (2, N)), axis=1)
START = np.maximum.accumulate(RNG.integers(0, 2, (2, N)) * np.arange(N), axis=1)
SELECTED = RNG.integers(0, 2, (2, 3, N // 8, N // 8)) > 0
WINDOWS = np.array([3, 17, 40])
COMMON = {
    "all": {},
    "none": {},
    "causal": {},
    "causal & window(9)": {},
    "window(20) & ~causal": {},
    "causal & (window(13) | sink(8))": {},
    "prefix(21)": {},
    "chunk(8) & causal": {},
    "chunk(24)": {},
    "band(-30, 5)": {},
    "tail(3)": {},
    "k < 9 | q // 8 % 2 == 1": {},
    "k * 2 != 41 & causal": {},
    "q - q // 16 * 16 < 8": {},
    "causal & q - k < n[h]": {"n": WINDOWS},
    "heads(:2) & causal | heads(2:) & window(11)": {},
    "same(doc) & causal": {"doc": DOC},
    "start[q] <= k & causal": {"start": START},
    "causal & k < length[b]": {"length": np.array([31, 96])},
    "causal & live[k]": {"live": RNG.integers(0, 4, (2, N)) > 0},
    "sel[b, h, q // 8, k // 8]": {"sel": SELECTED},
    "linked[q // 8, k // 8] == 3": {"linked": RNG.integers(2, 4, (N // 8, N // 8))},
}


@pytest.mark.parametrize("text", COMMON)
@pytest.mark.parametrize(
    ("q_len", "kv_len", "block", "offset"),
    [
        (N, N, (8, 8), 0),
        (N, N, (16, 16), 0),
        (24, N, (16, 8), 72),
        (91, 93, (8, 16), 3),
        (1, N, (128, 8), 95),
    ],
)
def test_common_masks_are_exact(
    text: str, q_len: int, kv_len: int, block: tuple[int, int], offset: int
) -> None:
    mask = am.compile(text, **COMMON[text])
    call = Call(Domain(q_len, kv_len, offset, 2, 3), block)
    found, exact = both(mask, call, {name: data.array for name, data in mask.tables})
    np.testing.assert_array_equal(found, exact)


def test_chosen_blocks_of_the_size_of_tiles() -> None:
    mask = am.compile("sel[b, h, q // 8, k // 8] & causal", sel=SELECTED)
    found, exact = both(mask, Call(Domain(N, N, 0, 2, 3), (8, 8)), {"sel": SELECTED})
    np.testing.assert_array_equal(found, exact)


def test_settings_without_a_value_are_read_by_name() -> None:
    unbound, bound = am.compile("k <= q + shift & q - k < n"), {"shift": 30, "n": 50}
    found = blockwise(unbound.predicate, Tiling(8, 16))
    call = Call(Domain(64, 96), (8, 16))
    never, full = over_tiles(found, call, {name: np.asarray(value) for name, value in bound.items()})
    exact = am.compile("k <= q + shift & q - k < n", **bound).tiles(64, 96, block=(8, 16)).dense()
    np.testing.assert_array_equal(np.where(full, 2, np.where(never, 0, 1))[0, 0], exact)


# ---- tables that nobody looked at -----------------------------------------------------------------------


def tables_of(found: Blockwise) -> list[Predicate | Index]:
    return [derived.root for _, derived in found.derived if isinstance(derived, BlockTable)]


def test_positions_alone_need_no_tables() -> None:
    text = "causal & (window(512) | sink(4)) & chunk(256) & (h < 3 | q >= 100) ^ abs(q - k) * 3 < Q"
    assert blockwise(am.compile(text).predicate, Tiling(128, 128, True, True, True)).derived == ()


def test_derived_tables_do_not_take_the_names_of_others() -> None:
    text = "same(min0) & max1[q] < k & offset[k] == 1"
    found = blockwise(am.compile(text).predicate, Tiling(4, 4, offset=True))
    names = [name for name, _ in found.derived]
    assert len(set(names)) == len(names) and not {"min0", "max1", "offset", found.offset} & set(names)
    assert found.offset != "offset"


def test_sentinels_do_not_overflow() -> None:
    """Sides of their own are compared as they are, and not by their difference."""
    limit = np.array([-(2**63), 2**63 - 1, 5, 9])
    found = blockwise(am.compile("limit[q] <= k").predicate, Tiling(1, 4))
    never, full = over_tiles(found, Call(Domain(4, 8), (1, 4)), {"limit": limit})
    assert np.where(full, 2, np.where(never, 0, 1))[0, 0].tolist() == [[2, 2], [0, 0], [0, 1], [0, 0]]


def test_negative_indices_from_tables_count_from_the_end() -> None:
    """As in `mask_mod`: torch reads linked[-1, …] where a node is -1."""
    node = np.array([-1, -1, 0, 0, 1, 1, -3, 2])
    linked = RNG.integers(0, 2, (3, 3)) > 0
    found = blockwise(am.compile("linked[node[q], node[k]]").predicate, Tiling(2, 2))
    never, full = over_tiles(found, Call(Domain(8, 8), (2, 2)), {"node": node, "linked": linked})
    dense = linked[node[:, None], node].reshape(4, 2, 4, 2)
    assert not (never & dense.any(axis=(1, 3))).any() and not (full & ~dense.all(axis=(1, 3))).any()
    assert (never | full)[0, 0, 1:3, 1:3].all()


@pytest.mark.parametrize(("op", "comparison"), [("&", "!="), ("|", "<"), ("^", "<=")])
def test_64_bit_patterns(op: BitOpName, comparison: CompareOp) -> None:
    words = np.array([2**62, 2**62, -1, -1, -(2**63), 5, 0, 2**63 - 1])
    both = bitop(op, table("x", [var("q")]), table("x", [var("k")]))
    root = compare(both, comparison, const(0))
    never, full = over_tiles(blockwise(root, Tiling(2, 2)), Call(Domain(8, 8), (2, 2)), {"x": words})
    pairs = evaluate(root, {"q": np.arange(8)[:, None], "k": np.arange(8)}, {"x": words})
    dense = pairs.reshape(4, 2, 4, 2)
    assert not (never & dense.any(axis=(1, 3))).any() and not (full & ~dense.all(axis=(1, 3))).any()
    assert (never | full)[0, 0, :2, :2].all()


def test_work_is_linear_in_the_mask() -> None:
    text = " ^ ".join(f"q - k < {n * n} & k % {n + 1} == q % {n + 1}" for n in range(40))
    found = blockwise(am.compile(text).predicate, Tiling(128, 128, True, True, True))
    assert len(postorder(found.never, found.full)) < 40 * 60
