"""create_block_mask against torch's: signature, result, fallback, tables that change, bad input."""

from __future__ import annotations

import inspect
import types
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch.nn.attention import flex_attention as flex
from torch.nn.attention.flex_attention import flex_attention

import attnmask as am
from attnmask.errors import LiftError, MaskError, UndecidedError
from attnmask.lower.builder import built
from tests.lower.listed import listed

doc = torch.sort(torch.randint(0, 5, (300,), generator=torch.Generator().manual_seed(0))).values
roles = torch.randint(0, 4, (2, 300), generator=torch.Generator().manual_seed(1))
windows = torch.tensor([3, 300, 40])


def causal(b: Any, h: Any, q: Any, k: Any) -> Any:
    return q >= k


def documents(b: Any, h: Any, q: Any, k: Any) -> Any:
    return (doc[q] == doc[k]) & (q >= k)


def per_row(b: Any, h: Any, q: Any, k: Any) -> Any:
    return roles[b, q] == roles[b, k]


def per_head(b: Any, h: Any, q: Any, k: Any) -> Any:
    return (q - k).abs() < windows[h]


def floating(b: Any, h: Any, q: Any, k: Any) -> Any:
    return q * 0.37 - k * 0.61 < 7


def same_as_torch(function: Callable[..., Any], *args: Any, **options: Any) -> None:
    found = am.create_block_mask(function, *args, **{"device": "cpu", **options})
    expected = flex.create_block_mask(function, *args, **{"device": "cpu", **options})
    assert listed(found) == listed(expected)
    assert found.mask_mod is function
    assert found.kv_indices.device == expected.kv_indices.device


# ---- the same result -----------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [causal, documents, per_row, per_head])
@pytest.mark.parametrize("lengths", [(300, 300), (1, 300), (299, 77), (128, 256), (5, 1)])
@pytest.mark.parametrize("block", [128, 64, (32, 100), (7, 256)])
def test_lists_are_those_of_torch(
    function: Callable[..., Any], lengths: tuple[int, int], block: int | tuple[int, int]
) -> None:
    same_as_torch(function, 2, 3, *lengths, BLOCK_SIZE=block)


@pytest.mark.parametrize("sizes", [(None, None), (2, None), (None, 3), (1, 1), (4, 3)])
def test_shapes_are_those_of_torch(sizes: tuple[int | None, int | None]) -> None:
    """Equal planes are one only where torch has one too."""
    same_as_torch(causal, *sizes, 200, 260)
    same_as_torch(per_head, *sizes, 200, 260)


def test_no_plane_shares_memory_with_another() -> None:
    found = am.create_block_mask(causal, 2, 3, 256, 256, device="cpu")
    pointers = {found.kv_indices[b, h].data_ptr() for b in range(2) for h in range(3)}
    assert len(pointers) == 6


@pytest.mark.parametrize("function", [causal, per_row])
def test_full_blocks_can_be_listed_with_the_others(function: Callable[..., Any]) -> None:
    same_as_torch(function, 2, 1, 300, 300, BLOCK_SIZE=32, separate_full_blocks=False)
    found = am.create_block_mask(function, 2, 1, 300, 300, "cpu", 32, False, False)
    assert found.full_kv_indices is None and found.full_q_num_blocks is None


@pytest.mark.parametrize("order", [True, False])
def test_write_order_is_that_of_torch(order: bool) -> None:
    if "compute_dq_write_order" not in inspect.signature(flex.create_block_mask).parameters:
        pytest.skip("this torch has no write order")
    options: Any = {"device": "cpu", "compute_dq_write_order": True, "dq_kv_order": order}
    found: Any = am.create_block_mask(documents, None, None, 300, 300, **options)
    expected: Any = flex.create_block_mask(documents, None, None, 300, 300, **options)
    for name in ("dq_write_order", "dq_write_order_full"):
        mine, theirs = getattr(found, name), getattr(expected, name)
        assert mine.shape == theirs.shape
        counts = found.q_num_blocks if name == "dq_write_order" else found.full_q_num_blocks
        for row, count in enumerate(counts[0, 0].tolist()):
            assert torch.equal(mine[0, 0, row, :count], theirs[0, 0, row, :count])
    assert found.dq_kv_order_spt == expected.dq_kv_order_spt


def test_positional_arguments_have_torchs_order() -> None:
    ours = list(inspect.signature(am.create_block_mask).parameters)
    torchs = list(inspect.signature(flex.create_block_mask).parameters)
    assert ours[: len(torchs)] == torchs


def test_the_result_attends_as_torchs_does() -> None:
    q, k, v = (torch.randn(2, 3, 300, 16, generator=torch.Generator().manual_seed(s)) for s in range(3))
    found = am.create_block_mask(per_row, 2, 3, 300, 300, device="cpu")
    expected = flex.create_block_mask(per_row, 2, 3, 300, 300, device="cpu")
    assert torch.equal(
        flex_attention(q, k, v, block_mask=found), flex_attention(q, k, v, block_mask=expected)
    )


# ---- fallback ------------------------------------------------------------------------------------------


def test_what_cannot_be_lifted_is_built_by_torch_with_one_warning() -> None:
    with pytest.warns(UserWarning) as caught:
        found = am.create_block_mask(floating, None, None, 200, 200, device="cpu", BLOCK_SIZE=32)
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert "'sub': float32 values have no integer form here (floating, test_builder.py line" in str(
        caught[0].message
    )
    assert listed(found) == listed(
        flex.create_block_mask(floating, None, None, 200, 200, device="cpu", BLOCK_SIZE=32)
    )
    with pytest.warns(UserWarning):
        without = am.create_block_mask(floating, 1, 1, 99, 99, device="cpu", separate_full_blocks=False)
    assert without.full_kv_indices is None


@pytest.mark.slow
def test_what_torch_builds_it_compiles_where_that_is_asked() -> None:
    expected = listed(flex.create_block_mask(floating, None, None, 200, 200, device="cpu"))
    with am.accelerate(), pytest.warns(UserWarning, match="'sub'") as caught:
        found = flex.create_block_mask(floating, None, None, 200, 200, device="cpu", _compile=True)
    assert listed(found) == expected
    assert len([w for w in caught if "torch builds" in str(w.message)]) == 1


def test_without_fallback_it_is_an_error() -> None:
    with pytest.raises(LiftError, match="'sub'"):
        am.create_block_mask(floating, None, None, 200, 200, device="cpu", fallback=False)


def test_what_bounds_cannot_prove_is_built_by_torch() -> None:
    """The index stays inside the table, since q * k has the parity of q & k; bounds do not know that."""
    table = torch.tensor([True, False])

    def function(b: Any, h: Any, q: Any, k: Any) -> Any:
        return table[(q * k) - (q * k // 2) * 2]

    with pytest.warns(UserWarning, match="'table' has 2 entries"):
        found = am.create_block_mask(function, None, None, 50, 50, device="cpu", BLOCK_SIZE=8)
    assert listed(found) == listed(
        flex.create_block_mask(function, None, None, 50, 50, device="cpu", BLOCK_SIZE=8)
    )
    with pytest.raises(UndecidedError):
        am.create_block_mask(function, None, None, 50, 50, device="cpu", fallback=False)


# ---- tables that change --------------------------------------------------------------------------------


def test_results_are_never_stale() -> None:
    table = torch.arange(256) // 50
    offset = torch.tensor(0)

    def function(b: Any, h: Any, q: Any, k: Any) -> Any:
        return (table[q] == table[k]) & (q + offset >= k)

    changes: list[Callable[[], Any]] = [
        lambda: table.add_(1),
        lambda: table[100:].zero_(),
        lambda: offset.fill_(77),
        table.zero_,
    ]
    for change in changes:
        same_as_torch(function, None, None, 256, 256, BLOCK_SIZE=32)
        change()
    same_as_torch(function, None, None, 256, 256, BLOCK_SIZE=32)
    table.data[7] = 3  # which no version counter sees
    same_as_torch(function, None, None, 256, 256, BLOCK_SIZE=32)


def test_equal_calls_find_tiles_once_and_have_lists_of_their_own() -> None:
    built.cache_clear()
    first = am.create_block_mask(documents, None, None, 300, 300, device="cpu")
    expected = listed(first)
    again = am.create_block_mask(documents, None, None, 300, 300, device="cpu", BLOCK_SIZE=(128, 128))
    assert len(built.kept) == 1
    first.kv_num_blocks.numpy()[:] = 0
    first.kv_indices.data.zero_()
    assert listed(again) == expected
    assert listed(am.create_block_mask(documents, None, None, 300, 300, device="cpu")) == expected


@pytest.mark.parametrize("function", [causal, documents, lambda b, h, q, k: (q >= k) & (q - k < 40)])
def test_adjusting_gives_what_torchs_adjusting_gives(function: Callable[..., Any]) -> None:
    """torch's own crops full rows, which narrow lists do not have."""
    found = am.create_block_mask(function, 1, 2, 256, 256, device="cpu", BLOCK_SIZE=32)
    expected = flex.create_block_mask(function, 1, 2, 256, 256, device="cpu", BLOCK_SIZE=32)
    for lengths in ((64, 64), (200, 200), (256, 256)):
        assert listed(found._adjust(*lengths)) == listed(expected._adjust(*lengths))


def test_modes_of_torch_do_not_matter() -> None:
    built.cache_clear()
    with torch.inference_mode():
        inside = am.create_block_mask(documents, None, None, 300, 300, device="cpu")
    assert listed(inside) == listed(am.create_block_mask(documents, None, None, 300, 300, device="cpu"))
    assert not inside.kv_indices.is_inference()
    with torch.no_grad(), torch.device("cpu"):
        same_as_torch(documents, None, None, 299, 300)


def test_a_compiled_function_and_a_compiled_caller() -> None:
    expected = listed(flex.create_block_mask(documents, None, None, 300, 300, device="cpu"))
    for build, function in (
        (torch.compile(am.create_block_mask), documents),
        (am.create_block_mask, torch.compile(documents)),
    ):
        assert listed(build(function, None, None, 300, 300, device="cpu")) == expected


def test_tables_on_the_right_device_only() -> None:
    table = torch.empty(64, dtype=torch.int64, device="meta")
    with pytest.raises(
        MaskError, match="the tensor 'table' is on meta and the block mask is asked for on cpu"
    ):
        am.create_block_mask(lambda b, h, q, k: table[q] == k, None, None, 64, 64, device="cpu")


# ---- on the device -------------------------------------------------------------------------------------


def decided(mask: Any, kind: str) -> list[list[list[set[int]]]]:
    return [[[set(row) for row in plane] for plane in batch] for batch in listed(mask)[kind]]


@pytest.mark.parametrize("function", [causal, documents, per_row, per_head])
@pytest.mark.parametrize("lengths", [(300, 300), (77, 299)])
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_built_on_the_device_it_is_sound(
    function: Callable[..., Any], lengths: tuple[int, int], device: str
) -> None:
    """Every tile that is full there is full, and every tile that is left out is empty."""
    moved = on(device, function)
    found = am.create_block_mask(moved, 2, 3, *lengths, device, (32, 16), exact=False)
    exact = am.create_block_mask(moved, 2, 3, *lengths, device, (32, 16), exact=True)
    assert listed(exact) == listed(flex.create_block_mask(moved, 2, 3, *lengths, device, (32, 16)))
    assert found.mask_mod is moved and found.shape == exact.shape
    full, partial, exactly_full, exactly_partial = (
        decided(mask, kind) for mask in (found, exact) for kind in ("full_kv", "kv")
    )
    for b in range(2):
        for h in range(3):
            for row in range(len(full[b][h])):
                assert full[b][h][row] <= exactly_full[b][h][row]
                assert (
                    exactly_full[b][h][row] | exactly_partial[b][h][row]
                    <= full[b][h][row] | partial[b][h][row]
                )
                assert not full[b][h][row] & partial[b][h][row]


def on(device: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function over tables that lie on the device."""
    if device == "cpu":
        return function
    moved = {name: value.to(device) for name, value in globals().items() if isinstance(value, torch.Tensor)}
    return types.FunctionType(function.__code__, {**globals(), **moved}, function.__name__)


def test_on_the_device_whatever_torch_decides_there_is_decided_too() -> None:
    for function in (causal, documents, per_head):
        found = am.create_block_mask(function, 1, 3, 300, 300, "cpu", 32, exact=False)
        assert listed(found) == listed(flex.create_block_mask(function, 1, 3, 300, 300, "cpu", 32))


def test_on_the_device_full_blocks_can_be_listed_with_the_others() -> None:
    found = am.create_block_mask(documents, 1, 1, 300, 300, "cpu", 32, False, False, exact=False)
    assert found.full_kv_num_blocks is None


@pytest.mark.gpu
def test_tables_on_a_device_are_not_waited_for() -> None:
    moved = on("cuda", documents)
    am.create_block_mask(moved, None, None, 300, 300)  # what is set up once may wait
    torch.cuda.set_sync_debug_mode("error")
    try:
        am.create_block_mask(moved, None, None, 300, 300)
    finally:
        torch.cuda.set_sync_debug_mode("default")


# ---- bad input -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"B": 0}, "B must be at least 1"),
        ({"H": -2}, "H must be at least 1"),
        ({"H": 2.0}, "H must be an integer"),
        ({"Q_LEN": 0}, "Q_LEN must be at least 1"),
        ({"KV_LEN": "9"}, "KV_LEN must be an integer"),
        ({"Q_LEN": 1 << 31}, "below 2\\*\\*31"),
        ({"BLOCK_SIZE": 0}, "block must be at least 1"),
        ({"BLOCK_SIZE": (128, 0)}, "block must be at least 1"),
        ({"BLOCK_SIZE": (1, 2, 3)}, "a number or a pair"),
        ({"device": "nowhere"}, "there is no device 'nowhere'"),
        ({"mask_mod": None}, "a mask_mod is a function"),
        ({"mask_mod": "causal"}, r"hint: am\.compile\(text\)"),
        ({"mask_mod": am.library.causal}, r"hint: mask\.block_mask"),
        ({"device": "meta"}, "holds no values"),
        ({"exact": "no"}, "exact must be True, False or None"),
        ({"dq_kv_order": 3}, "dq_kv_order must be True or False"),
        ({"block_size": 64}, "no keyword 'block_size'"),
    ],
)
def test_bad_input_is_a_sentence(change: dict[str, Any], message: str) -> None:
    arguments: dict[str, Any] = {"mask_mod": causal, "B": None, "H": None, "Q_LEN": 64, "KV_LEN": 64}
    with pytest.raises(MaskError, match=message), warnings.catch_warnings():
        warnings.simplefilter("error")
        am.create_block_mask(**{**arguments, "device": "cpu", **change})


@pytest.mark.parametrize(
    ("function", "args", "message"),
    [
        (documents, (None, None, 301, 300), "the table 'doc' has 300 entries and entry 300 is asked for"),
        (
            per_row,
            (3, None, 64, 64),
            "the table 'roles' has 2 entries along dimension 0 and entry 2 is asked for",
        ),
        (per_head, (None, 5, 64, 64), "the table 'windows' has 3 entries and entry 4 is asked for"),
        (lambda b, h, q, k: doc[q - k] > 0, (1, 1, 9, 400), "the table 'doc' has 300 entries and entry -399"),
        (lambda b, h, q, k: k // doc[q] > 0, (1, 1, 9, 9), "the divisor can be zero|division by zero"),
    ],
)
def test_tables_that_are_too_short_are_named(function: Any, args: Any, message: str) -> None:
    with pytest.raises(MaskError, match=message) as caught, warnings.catch_warnings():
        warnings.simplefilter("error")
        am.create_block_mask(function, *args[:2], *args[2:], device="cpu")  # type: ignore[misc]  # args are Any
    assert "^" in str(caught.value)


def test_a_function_that_tells_tracing_from_tensors_is_left_to_torch() -> None:
    def function(b: Any, h: Any, q: Any, k: Any) -> Any:
        return q >= k if isinstance(q, torch.Tensor) else q < k

    for held in (
        function,
        partial(lambda inner, b, h, q, k: inner(b, h, q, k), function),
        flex.and_masks(function, causal),
    ):
        with pytest.warns(UserWarning, match="gives something else at b=0"):
            found = am.create_block_mask(held, None, None, 64, 64, device="cpu", BLOCK_SIZE=16)
        assert listed(found) == listed(flex.create_block_mask(function, 1, 1, 64, 64, "cpu", 16))
        with pytest.raises(LiftError, match="gives something else"):
            am.lift(held)


def test_tensors_that_a_function_reads_are_left_as_they_are() -> None:
    """With a single position an entry is a view, and writing to it writes to the tensor; not so under vmap."""
    lengths, ids, valid = torch.tensor([100, 250]), doc.clone(), doc > 2

    def shortened(b: Any, h: Any, q: Any, k: Any) -> Any:
        count = lengths[b]
        count -= 1
        return k <= count

    def moved(b: Any, h: Any, q: Any, k: Any) -> Any:
        own = ids[q]
        own += 1
        return own > ids[k]

    def masked(b: Any, h: Any, q: Any, k: Any) -> Any:
        seen = valid[q]
        seen &= q >= 3
        return seen | (k < 9)

    before = [tensor.clone() for tensor in (lengths, ids, valid)]
    for function in (shortened, moved, masked):
        for options in ({}, {"check": True}, {"exact": False}):
            found = am.create_block_mask(function, 2, None, 256, 256, device="cpu", **options)
            assert options or listed(found) == listed(
                flex.create_block_mask(function, 2, None, 256, 256, "cpu")
            )
        am.lift(function, batch=2)
    for tensor, kept in zip((lengths, ids, valid), before, strict=True):
        assert torch.equal(tensor, kept)


def test_each_new_object_is_compared() -> None:
    class Held:
        def __init__(self, inner: Callable[..., Any]) -> None:
            self.inner = inner

        def __call__(self, b: Any, h: Any, q: Any, k: Any) -> Any:
            return self.inner(b, h, q, k)

    am.create_block_mask(Held(causal), None, None, 64, 64, device="cpu", fallback=False)
    apart = Held(lambda b, h, q, k: q >= k if isinstance(q, torch.Tensor) else q < k)
    with pytest.raises(LiftError, match="gives something else"):
        am.create_block_mask(apart, None, None, 64, 64, device="cpu", fallback=False)


# ---- check=True ----------------------------------------------------------------------------------------


def test_check_finds_nothing_where_all_is_well() -> None:
    for function in (causal, documents, per_row, per_head):
        am.create_block_mask(function, 2, 3, 300, 280, device="cpu", check=True)


def test_check_finds_randomness_and_mutation() -> None:
    def random(b: Any, h: Any, q: Any, k: Any) -> Any:
        return (q >= k) & (torch.rand(()) < 0.5)

    state = torch.randint(0, 2, (64,))

    def redrawn(b: Any, h: Any, q: Any, k: Any) -> Any:
        fresh = torch.randint(0, 2, (64,))
        return (q >= k) & (fresh[k] == 1)

    calls = []

    def counting(b: Any, h: Any, q: Any, k: Any) -> Any:
        calls.append(1)
        return q >= k + len(calls) - 1

    def mutating(b: Any, h: Any, q: Any, k: Any) -> Any:
        state.add_(1)
        return state[q] > state[k] + (state[0] % 2)

    for function in (random, redrawn, counting, mutating):
        with pytest.raises(
            MaskError, match=r"the function and its lifted mask differ|the function raises RuntimeError"
        ):
            am.create_block_mask(function, None, None, 64, 64, device="cpu", check=True)
