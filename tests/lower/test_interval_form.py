"""Masks in interval form, lowered: functions, block masks, files, and what torch's search for intervals makes of it.

That search serves FlexAttention's FlashAttention kernels, and runs without a GPU.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from numpy.typing import NDArray
from torch.nn.attention.flex_attention import create_block_mask

import attnmask as am
from attnmask.errors import MaskError
from attnmask.lower.functions import factory
from attnmask.lower.prepare import sources
from attnmask.lower.standalone import standalone
from attnmask.mask import Mask
from tests.lower.listed import listed
from tests.lower.reference import dense_attention, tensors
from tests.strategies import Case, cases

IDS = np.sort(np.random.default_rng(2).integers(0, 9, 96))
ROWS = np.sort(np.random.default_rng(3).integers(0, 4, (2, 96)), axis=1)
TEXTS: list[tuple[str, dict[str, Any]]] = [
    ("causal & window(16)", {}),
    ("causal & (window(16) | sink(4))", {}),
    ("causal & same(doc)", {"doc": IDS}),
    ("same(doc)", {"doc": IDS}),
    ("same(doc)", {"doc": ROWS}),
    ("causal & (chunk(16) | sink(2) | 40 <= k & k < 50)", {}),
    ("heads(:3) & causal & (window(5) | sink(2)) | heads(3:) & causal", {}),
    ("heads(:3) & causal & same(doc) | heads(3:) & causal & chunk(8)", {"doc": ROWS}),
]
N, CALL = 96, {"batch": 2, "heads": 4}
LANES = 32  # keys that torch's kernels decide at once


def grid(shape: tuple[int, ...], first: int = 0) -> list[torch.Tensor]:
    """b, h, q and k over [B, H, Q, K], queries from `first`."""
    axes = [torch.arange(size, dtype=torch.int32) for size in shape]
    axes[2] += first
    return [side.reshape([-1 if axis == i else 1 for i in range(4)]) for axis, side in enumerate(axes)]


@settings(max_examples=150)
@given(cases(most=30))
def test_the_function_is_the_mask(case: Case) -> None:
    dense = case.mask.dense(*case.call.lengths, **case.call.options)
    form = case.mask.interval_form(*case.call.lengths, most=30, **case.call.options)
    found = form.mask_mod(*grid(dense.shape, case.call.domain.q_offset)).expand(dense.shape)
    np.testing.assert_array_equal(found.numpy(), dense)


@pytest.mark.parametrize(("text", "tables"), TEXTS)
def test_block_masks_and_attention_are_those_of_the_mask(text: str, tables: dict[str, Any]) -> None:
    mask = am.compile(text, **tables)
    form = mask.interval_form(N, **CALL)
    theirs = create_block_mask(form.mask_mod, 2, 4, N, N, device="cpu", BLOCK_SIZE=16)
    ours = create_block_mask(lambda b, h, q, k: mask.mask_mod(b, h, q, k), 2, 4, N, N, "cpu", BLOCK_SIZE=16)
    assert listed(theirs) == listed(ours)
    q, k, v = tensors((2, 4, N, 16))
    torch.testing.assert_close(
        am.attention(q, k, v, form).double(), dense_attention(q, k, v, mask)[0], atol=1e-5, rtol=1e-5
    )


# ---- torch's search for intervals -------------------------------------------------------------------


def torch_intervals(mask: Mask) -> tuple[tuple[Any, ...] | None, list[NDArray[Any]]]:
    """What torch finds in the mask's function, and the tensors that it reads, in the order that it numbers them."""
    packing = pytest.importorskip("torch._inductor.kernel.flex.interval_mask_packing")
    from torch._dynamo._trace_wrapped_higher_order_op import TransformGetItemToIndex
    from torch._inductor.graph import GraphLowering
    from torch._inductor.virtualized import V
    from torch.fx.experimental.proxy_tensor import make_fx
    from torch.fx.experimental.symbolic_shapes import ShapeEnv

    source, _ = sources(mask.predicate, None, dict(mask.tables), mask.domain(N, **CALL))
    arrays = [dict(mask.tables)[name].array for _, name in source.tables]
    given = [torch.tensor(array, dtype=torch.int32) for array in arrays]
    positions = [torch.zeros((), dtype=torch.int32) for _ in range(4)]
    with TransformGetItemToIndex():
        graph = make_fx(
            lambda b, h, q, k, *tables: factory(source)(*tables)(b, h, q, k), tracing_mode="fake"
        )(*positions, *given)
    with V.set_graph_handler(GraphLowering(graph, shape_env=ShapeEnv())):
        return packing.select_packed_mask_intervals(graph), arrays


def kept(intervals: Any, arrays: list[NDArray[Any]]) -> NDArray[np.bool_]:
    """bool [B, H, N, N]: the keys that the intervals keep, by running the text that torch writes for its kernel."""
    bounds = [
        (compile(interval.render_lower(), "lower", "eval"), compile(interval.render_upper(), "upper", "eval"))
        for interval in intervals
    ]
    found = np.zeros((*CALL.values(), N, N), np.bool_)
    names: dict[str, Any] = {"cutlass": SimpleNamespace(Int32=int), "aux_tensors": arrays}
    for b, h, q in np.ndindex(*found.shape[:3]):
        for k in range(0, N, LANES):
            names |= {"b_idx": [b], "h_idx": [h], "q_idx": [q], "kv_idx": [k]}
            for lower, upper in bounds:
                low, high = max(eval(lower, names), 0), min(eval(upper, names), LANES)
                found[b, h, q, k + low : k + max(low, high)] = True
    return found


@pytest.mark.parametrize(("text", "tables"), TEXTS)
def test_torch_takes_the_form_and_not_the_mask(text: str, tables: dict[str, Any]) -> None:
    mask = am.compile(text, **tables)
    assert torch_intervals(mask)[0] is None
    intervals, arrays = torch_intervals(mask.interval_form(N, **CALL))
    assert intervals is not None
    assert len(intervals) == mask.row_intervals(N, **CALL).most
    np.testing.assert_array_equal(kept(intervals, arrays), mask.dense(N, **CALL))


def test_torch_takes_as_many_intervals_as_a_form_may_have() -> None:
    mask = am.compile("strided(13)")
    assert mask.row_intervals(N).most == 8
    intervals, _ = torch_intervals(mask.interval_form(N))
    assert intervals is not None and len(intervals) == 8
    intervals, _ = torch_intervals(am.compile("strided(12)").interval_form(N + 4, most=9))
    assert intervals is None


# ---- files ------------------------------------------------------------------------------------------


def names(source: str) -> dict[str, Any]:
    namespace: dict[str, Any] = {}
    exec(source, namespace)
    return namespace


@pytest.mark.parametrize(("text", "tables"), TEXTS)
def test_a_file_holds_the_form(text: str, tables: dict[str, Any]) -> None:
    mask = am.compile(text, **tables)
    file = names(mask.interval_form(N, **CALL).emit())
    expected = mask.dense(N, **CALL)
    found = torch.broadcast_to(file["mask_mod"](*grid(expected.shape)), expected.shape)
    np.testing.assert_array_equal(found.numpy(), expected)


def test_a_file_refuses_lengths_that_it_is_not_made_for() -> None:
    source = am.compile("causal & window(5)").interval_form(20, 30).emit()
    assert "at most 20 queries and 30 keys" in source
    file = names(source)
    assert file["block_mask"](20, 30).shape[2:] == (20, 30)
    for lengths in ((21, 30), (20, 31)):
        with pytest.raises(ValueError, match="made for 20 queries and 30 keys"):
            file["block_mask"](*lengths)
    assert "raise" not in am.compile("causal & window(5)").emit()


def test_tables_left_out_are_parameters_in_the_order_of_the_text() -> None:
    mask = am.compile("same(doc)", doc=IDS)
    form = mask.interval_form(N)
    file = names(standalone(form, "same(doc)", left_out=["start", "end"]))
    assert "mask_mod" not in file
    bounds = {name: torch.tensor(data.array) for name, data in form.tables}
    function = file["build_mask"](bounds["start"], bounds["end"])
    np.testing.assert_array_equal(function(*grid((1, 1, N, N)))[0, 0].numpy(), mask.dense(N))
    block_mask = file["block_mask"](N, N, **bounds)
    assert listed(block_mask) == listed(create_block_mask(mask.mask_mod, None, None, N, N, device="cpu"))


def test_files_have_their_queries_from_zero() -> None:
    with pytest.raises(MaskError, match="made for queries from 7"):
        am.compile("causal").interval_form(20, q_offset=7).emit()
