"""BlockMasks from tables on the device: sound, exact for common masks, and made without waiting."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch._dynamo.utils import counters
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention
from torch.utils._python_dispatch import TorchDispatchMode

import attnmask as am
from attnmask.errors import MaskError
from attnmask.ir.domain import Domain
from attnmask.ir.nodes import Predicate
from attnmask.lower.device import device_block_mask, planned
from attnmask.lower.functions import MaskMod, build
from attnmask.lower.lifting import lifted
from attnmask.lower.prepare import sources
from attnmask.mask import Mask
from tests.lower.reference import dense_attention, tensors
from tests.strategies import Case, cases

CPU = torch.device("cpu")
KINDS = ("kv", "full_kv", "q", "full_q")
RNG = np.random.default_rng(12)
ALL = am.compile("all").mask_mod
Tables = Mapping[str, torch.Tensor]


def held(mask: Mask) -> dict[str, torch.Tensor]:
    """The tables of a mask as tensors."""
    return {name: torch.tensor(data.array) for name, data in mask.tables}


def mask_mod(mask: Mask, domain: Domain) -> MaskMod:
    tables = dict(mask.tables)
    function: MaskMod = build(sources(mask.predicate, None, tables, domain)[0], tables, domain, CPU)
    return function


def built(mask: Mask, domain: Domain, block: tuple[int, int], **options: Any) -> BlockMask:
    given = {"batch": domain.batch, "heads": domain.heads, **options}
    function = mask_mod(mask, domain)
    return device_block_mask(mask.predicate, held(mask), domain, block, CPU, function, **given)


def lists(mask: BlockMask, kind: str) -> tuple[torch.Tensor, torch.Tensor]:
    counts, entries = getattr(mask, f"{kind}_num_blocks"), getattr(mask, f"{kind}_indices")
    assert isinstance(counts, torch.Tensor) and isinstance(entries, torch.Tensor)
    return counts, entries


def marked(mask: BlockMask, kind: str) -> torch.Tensor:
    """The listed tiles as bool [B, H, rows, columns]; of the q-lists, transposed back."""
    counts, entries = lists(mask, kind)
    live = torch.arange(entries.shape[-1]) < counts[..., None]
    found = torch.zeros_like(entries, dtype=torch.bool).scatter(-1, entries.long(), live)
    return found if kind.endswith("kv") else found.mT


def outcomes(mask: BlockMask) -> np.ndarray[Any, Any]:
    """0 empty, 1 partial, 2 full."""
    return (marked(mask, "kv") + 2 * marked(mask, "full_kv").int()).numpy()


def exact(mask: Mask, domain: Domain, block: tuple[int, int]) -> np.ndarray[Any, Any]:
    options = {"batch": domain.batch, "heads": domain.heads, "q_offset": domain.q_offset}
    tiles = mask.tiles(domain.q_len, domain.kv_len, block=block, **options)
    return np.array([[tiles.dense(b, h) for h in range(domain.heads)] for b in range(domain.batch)])


# ---- tiles ----------------------------------------------------------------------------------------------


@settings(max_examples=200)
@given(cases())
def test_full_is_full_and_left_out_is_empty(case: Case) -> None:
    found = outcomes(built(case.mask, case.call.domain, case.call.block))
    expected = exact(case.mask, case.call.domain, case.call.block)
    decided = found != 1
    np.testing.assert_array_equal(found[decided], expected[decided])


@settings(max_examples=100)
@given(cases())
def test_lists_are_what_kernels_read(case: Case) -> None:
    domain, block = case.call.domain, case.call.block
    found = built(case.mask, domain, block)
    rows, columns = -(-domain.q_len // block[0]), -(-domain.kv_len // block[1])
    assert found.seq_lengths == case.call.lengths and block == found.BLOCK_SIZE
    for kind in KINDS:
        counts, entries = lists(found, kind)
        high, wide = (rows, columns) if kind.endswith("kv") else (columns, rows)
        assert counts.dtype == entries.dtype == torch.int32
        assert counts.shape == (domain.batch, domain.heads, high) and entries.shape == (*counts.shape, wide)
        assert counts.is_contiguous() and entries.is_contiguous()
        # Every column stands once in a row, also past the count: the listed ones first, either part ascending.
        assert torch.equal(entries.sort(-1).values, torch.arange(wide, dtype=torch.int32).expand_as(entries))
        boundary = torch.arange(wide - 1) + 1 == counts[..., None]
        assert ((entries.diff(dim=-1) > 0) | boundary).all()
    assert torch.equal(marked(found, "kv"), marked(found, "q"))
    assert torch.equal(marked(found, "full_kv"), marked(found, "full_q"))
    assert not (marked(found, "kv") & marked(found, "full_kv")).any()


N = 512
COMMON: dict[str, dict[str, np.ndarray[Any, Any]]] = {
    "causal": {},
    "causal & (window(100) | sink(64))": {},
    "prefix(70)": {},
    "chunk(96) & causal": {},
    "causal & q - k < n[h]": {"n": np.array([30, 200])},
    "same(doc) & causal": {"doc": np.sort(RNG.integers(0, 9, (3, N)), axis=1)},
    "start[q] <= k & causal": {
        "start": np.maximum.accumulate((RNG.random((3, N)) < 0.02) * np.arange(N), axis=1)
    },
    "sel[b, h, q // 64, k // 64] & causal": {"sel": RNG.random((3, 2, N // 64, N // 64)) < 0.5},
    "causal & k < length[b] & live[k]": {"length": np.array([512, 70, 300]), "live": RNG.random(N) < 0.9},
}


@pytest.mark.parametrize("text", COMMON)
@pytest.mark.parametrize(("q_len", "offset"), [(N, 0), (128, 384), (70, 192)])
def test_common_masks_are_exact(text: str, q_len: int, offset: int) -> None:
    """Tile by tile, and list by list what torch builds, past the counts too."""
    mask, domain, block = am.compile(text, **COMMON[text]), Domain(q_len, N - 10, offset, 3, 2), (64, 64)
    found = built(mask, domain, block)
    np.testing.assert_array_equal(outcomes(found), exact(mask, domain, block))
    expected = create_block_mask(found.mask_mod, 3, 2, q_len, N - 10, device="cpu", BLOCK_SIZE=block)
    for kind in KINDS:
        for own, torchs in zip(lists(found, kind), lists(expected, kind), strict=True):
            assert torch.equal(own, torchs), kind


def test_full_tiles_listed_as_partial_ones() -> None:
    mask, domain = am.compile("causal"), Domain(N, N)
    found, apart = built(mask, domain, (64, 64), separate_full_blocks=False), built(mask, domain, (64, 64))
    assert found.full_kv_num_blocks is found.full_kv_indices is None
    assert found.full_q_num_blocks is found.full_q_indices is None
    for kind in ("kv", "q"):
        assert torch.equal(marked(found, kind), marked(apart, kind) | marked(apart, f"full_{kind}"))


def test_dimensions_that_the_mask_does_not_need() -> None:
    mask, domain = am.compile("causal & q < n[h]", n=np.array([100, 500])), Domain(N, N, 0, 3, 2)
    found = built(mask, domain, (128, 64), batch=1)
    assert found.kv_indices.shape == (1, 2, 4, 8)
    wide = built(mask, domain, (128, 64))
    for kind in KINDS:
        for own, other in zip(lists(found, kind), lists(wide, kind), strict=True):
            assert torch.equal(own.expand_as(other), other)
    with pytest.raises(MaskError, match="for 2 heads, and the block mask is to have 1"):
        built(mask, domain, (128, 64), heads=1)


@pytest.mark.parametrize(
    "dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16, torch.bool]
)
def test_tables_of_any_integer_type(dtype: torch.dtype) -> None:
    """Also where the type of the table could not hold what is computed from it."""
    ids = RNG.integers(0, 2, N) if dtype == torch.bool else np.sort(RNG.integers(0, 120, N))
    text = "t[q] * 90 - t[k] * 90 <= 500"
    root, table = am.compile(text).predicate, torch.tensor(ids).to(dtype)
    found = device_block_mask(root, {"t": table}, Domain(N, N), (32, 32), CPU, ALL, batch=1, heads=1)
    np.testing.assert_array_equal(outcomes(found), exact(am.compile(text, t=ids), Domain(N, N), (32, 32)))


def test_settings_stay_tensors() -> None:
    text, shift = "k <= q + shift & q - k < n", torch.tensor(40, dtype=torch.int16)
    tables = {"shift": shift, "n": torch.tensor(200)}
    found = device_block_mask(
        am.compile(text).predicate,
        tables,
        Domain(N, N),
        (64, 64),
        CPU,
        ALL,
        batch=1,
        heads=1,
    )
    expected = exact(am.compile(text, shift=40, n=200), Domain(N, N), (64, 64))
    np.testing.assert_array_equal(outcomes(found), expected)


def test_single_numbers_may_be_on_the_cpu() -> None:
    mask, tables = am.compile("k <= q + shift"), {"shift": torch.tensor(40)}
    found = device_block_mask(mask.predicate, tables, Domain(N, N), (64, 64), "meta", ALL, batch=1, heads=1)
    assert found.kv_indices.is_meta


def test_entries_out_of_range_crash_nothing() -> None:
    """What they mean is torch's own affair; indices that come from tables are not known beforehand."""
    node = torch.tensor([0, 1, 2, 7, 100, -1, -3, -100])
    linked = torch.rand(3, 3) > 0.5
    root = am.compile("linked[node[q], node[k]] & weight[node[k]] < linked2[node[q], q - k + 7]").predicate
    tables = {"node": node, "linked": linked, "weight": torch.arange(3), "linked2": torch.ones(3, 15).long()}
    found = device_block_mask(root, tables, Domain(8, 8), (2, 2), CPU, ALL, batch=1, heads=1)
    assert found.kv_indices.shape == (1, 1, 4, 4)


def test_functions_that_people_have() -> None:
    """Lifted, with tensors as they hold them; the result is what torch builds from the function itself."""
    doc, node = torch.arange(N) // 90, torch.arange(N) // 64 - 3
    linked, flag, shift = torch.rand(8, 8) < 0.5, torch.tensor(True), torch.tensor(5, dtype=torch.int32)
    functions: list[MaskMod] = [
        lambda b, h, q, k: (doc[q] == doc[k]) & (q >= k),
        lambda b, h, q, k: flag & (q + shift >= k) & (h == b),
        lambda b, h, q, k: linked[node[q], node[k]],  # negative indices count from the end
    ]
    for function in functions:
        domain = Domain(N, N, 0, 2, 2)
        found = lifted(function, domain, tabulate=True)
        mask = device_block_mask(
            found.predicate, found.tensors, domain, (64, 64), CPU, function, batch=2, heads=2
        )
        expected = create_block_mask(function, 2, 2, N, N, device="cpu", BLOCK_SIZE=64)
        np.testing.assert_array_equal(outcomes(mask), outcomes(expected))


# ---- nothing waits --------------------------------------------------------------------------------------

_WAITS = (
    "_local_scalar_dense",
    "nonzero",
    "masked_select",
    "unique",
    "is_nonzero",
    "equal",
    "item",
    "bincount",
)


class NoWaiting(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's has no types
    """Refuses what would wait on a device: values read by the host, shapes made of values, copies between devices."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # torch's has no types
        self.seen = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        waits = name in _WAITS or name == "lift_fresh"  # a tensor of a Python number is copied from the host
        if name == "where" and any(not isinstance(arg, torch.Tensor) or not arg.ndim for arg in args):
            waits = True  # and so is a number among the choices
        if name == "index" and any(t is not None and t.dtype == torch.bool for t in args[1]):
            waits = True  # the number of selected entries is a value
        if name in ("_to_copy", "copy_") and kwargs.get("device", CPU) != CPU:
            waits = True
        assert not waits, f"{func} waits"
        self.seen += 1
        return func(*args, **kwargs)


@pytest.mark.parametrize("text", COMMON)
def test_nothing_is_read_back(text: str) -> None:
    mask, domain = am.compile(text, **COMMON[text]), Domain(70, N - 10, 192, 3, 2)
    tables, function = held(mask), mask_mod(mask, domain)
    with NoWaiting() as mode:
        device_block_mask(mask.predicate, tables, domain, (64, 64), CPU, function, batch=3, heads=2)
    assert mode.seen > 20


@pytest.mark.parametrize(
    "waiting",
    [
        lambda x: x.max().item(),
        lambda x: x[x > 1],
        lambda x: x.nonzero(),
        lambda x: bool(x[0] == 1),
        lambda x: torch.tensor(5),
        lambda x: torch.where(x > 1, 5, x),
        lambda x: torch.where(x > 1, 5, 6),
        lambda x: x[x.min()],
        lambda x: x.to("meta"),
    ],
)
def test_waiting_is_seen(waiting: Any) -> None:
    with pytest.raises(AssertionError, match="waits"), NoWaiting():
        waiting(torch.arange(4))


@settings(max_examples=150)
@given(cases(most=30))
def test_values_are_not_needed_at_all(case: Case) -> None:
    """On a device without values: whatever would read one raises there."""
    domain, root = case.call.domain, case.mask.predicate
    tables = {name: table.to("meta") for name, table in held(case.mask).items()}
    found = device_block_mask(
        root,
        tables,
        domain,
        case.call.block,
        "meta",
        ALL,
        batch=domain.batch,
        heads=domain.heads,
    )
    assert found.kv_indices.is_meta


@settings(max_examples=150)
@given(cases(most=30))
def test_nothing_is_read_back_whatever_the_mask(case: Case) -> None:
    domain, tables = case.call.domain, held(case.mask)
    root, function, block = case.mask.predicate, ALL, case.call.block
    with NoWaiting():
        device_block_mask(root, tables, domain, block, CPU, function, batch=domain.batch, heads=domain.heads)


@pytest.mark.slow
def test_the_tensor_part_is_one_graph_for_all_tables() -> None:
    root: Predicate = am.compile("same(doc) & q - k < n[h] & causal").predicate
    domain, block = Domain(N, N, 0, 2, 2), (64, 64)

    def tables(seed: int) -> dict[str, torch.Tensor]:
        rng = np.random.default_rng(seed)
        return {
            "doc": torch.tensor(np.sort(rng.integers(0, 9, (2, N)), axis=1)),
            "n": torch.tensor(rng.integers(1, N, 2)),
        }

    plan = planned(root, tables(0), domain, block, CPU)
    offset = torch.zeros(1, dtype=plan.dtype)

    def compute(tables: Tables) -> list[torch.Tensor]:
        lists = plan.lists(tables, offset, domain, (2, 2))
        assert lists.full_kv is not None and lists.full_q is not None
        return [*lists.kv, *lists.q, *lists.full_kv, *lists.full_q]

    compiled = torch.compile(compute, fullgraph=True)
    before = counters["stats"]["unique_graphs"]
    for seed in range(3):
        for found, expected in zip(compiled(tables(seed)), compute(tables(seed)), strict=True):
            assert torch.equal(found, expected)
    assert counters["stats"]["unique_graphs"] == before + 1


# ---- attention ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["same(doc) & causal", "causal & q - k < n[h]"])
def test_attention_is_that_of_the_dense_mask(text: str) -> None:
    mask, domain = am.compile(text, **COMMON[text]), Domain(N, N, 0, 3, 2)
    q, k, v = tensors((3, 2, N, 16))
    out = flex_attention(q, k, v, block_mask=built(mask, domain, (64, 64)))
    expected = dense_attention(q, k, v, mask)[0]
    assert isinstance(out, torch.Tensor)
    torch.testing.assert_close(out.double(), expected, rtol=1e-4, atol=1e-4)
