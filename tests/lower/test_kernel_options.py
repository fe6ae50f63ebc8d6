"""The kernel options that attention sets: those whose promises hold for the tiles of the call, and no others."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn.attention import flex_attention as flex

import attnmask as am
from attnmask.lower import attention as lower
from attnmask.lower import prepare
from attnmask.tiles.promises import promises
from tests.lower.reference import tensors

CONTIGUOUS, SAFE = "BLOCKS_ARE_CONTIGUOUS", "ROWS_GUARANTEED_SAFE"


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, dict[str, bool]]]:
    """The kernel and the options of each call of FlexAttention, which is not computed."""
    found: list[tuple[Any, dict[str, bool]]] = []

    def kernel(*key: Any) -> Any:
        def call(q: torch.Tensor, *rest: Any) -> torch.Tensor:
            found.append((key, lower._call(q, *rest)))
            return q

        return call

    monkeypatch.setattr(lower, "_kernel", kernel)
    monkeypatch.setattr(flex, "flex_attention", lambda *_, kernel_options, **__: kernel_options)
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("causal", {CONTIGUOUS, SAFE}),
        ("causal & window(128)", {CONTIGUOUS}),
        ("causal & (window(300) | sink(4))", {SAFE}),
        ("causal & window(300)", set()),
        ("causal with softcap(20)", {CONTIGUOUS, SAFE}),
        ("causal with s + log(q)", {CONTIGUOUS}),
    ],
)
def test_options_are_the_promises_that_hold(
    text: str, expected: set[str], calls: list[tuple[Any, dict[str, bool]]]
) -> None:
    mask = am.compile(text)
    q, k, v = tensors((1, 2, 640, 16))
    lower.attention(q, k, v, mask, backend="flex")
    assert [options for _, options in calls] == [dict.fromkeys(expected, True)]
    assert set(promises(mask.tiles(640), mask.score).options) == expected
    report = mask.report(640).to_dict()
    assert report["blocks_are_contiguous"] == (CONTIGUOUS in expected)
    assert report["rows_guaranteed_safe"] == (SAFE in expected)
    names = {"blocks_are_contiguous": CONTIGUOUS, "rows_guaranteed_safe": SAFE}
    assert {names[key] for key in report["not_promised"]} == {CONTIGUOUS, SAFE} - expected


def test_the_block_size_and_the_offset_matter(calls: list[tuple[Any, dict[str, bool]]]) -> None:
    q, k, v = tensors((1, 2, 300, 16))
    mask = am.compile("causal & window(128)")
    lower.attention(q, k, v, mask, block=64, backend="flex")
    lower.attention(q[:, :, 172:], k, v, mask, q_offset=172, backend="flex")
    lower.attention(q[:, :, 299:], k, v, mask, q_offset=299, backend="flex")
    # With tiles of 64 there is a full one between two partial ones; rows of 128 that start at 172 have three
    # partial ones; and one query has the end of one tile and the start of the next.
    assert [set(options) for _, options in calls] == [set(), {CONTIGUOUS}, {CONTIGUOUS}]


def test_calls_of_one_promise_share_a_kernel_at_any_length(calls: list[tuple[Any, dict[str, bool]]]) -> None:
    mask = am.compile("causal & (window(200) | sink(4))")
    for length in (1000, 900, 640, 150):
        q, k, v = tensors((1, 2, length, 16))
        lower.attention(q, k, v, mask, backend="flex")
    kernels = [kernel for kernel, _ in calls]
    assert kernels[0] == kernels[1] == kernels[2] != kernels[3]
    assert [set(options) for _, options in calls[2:]] == [{SAFE}, {CONTIGUOUS, SAFE}]


def test_each_promise_has_a_code_object_of_its_own() -> None:
    """Dynamo counts recompilations a code object."""
    texts = ("def build(): ...", None)
    kernels = [
        lower._kernel(*texts, promised) for promised in ((), (SAFE,), (CONTIGUOUS,), (CONTIGUOUS, SAFE))
    ]
    originals = [kernel._torchdynamo_orig_callable.__code__ for kernel in kernels]
    assert len({id(code) for code in originals}) == len({code.co_name for code in originals}) == 4
    assert lower._kernel(*texts, (SAFE,)) is kernels[1]


def test_nothing_is_decided_before_a_kernel_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []

    def counted(*args: Any) -> Any:
        asked.append(1)
        return promises(*args)

    monkeypatch.setattr(prepare, "promises", counted)
    mask = am.compile("causal & window(33) & k != 17")
    q, k, v = tensors((1, 2, 200, 16))
    mask.block_mask(200)
    lower.attention(q, k, v, mask, backend="tiled")
    assert not asked
    monkeypatch.setattr(lower, "_kernel", lambda *_: lambda q, *_: q)
    for _ in range(3):
        lower.attention(q, k, v, mask, backend="flex")
    assert asked == [1]


@pytest.mark.skipif(not hasattr(flex, "FlexKernelOptions"), reason="this torch does not list its options")
def test_torch_knows_the_options() -> None:
    """It ignores those that it does not know."""
    assert {CONTIGUOUS, SAFE} <= flex.FlexKernelOptions.__annotations__.keys()


def test_a_compiled_caller_goes_on_where_promises_are_decided() -> None:
    q = torch.randn(1, 2, 40, 16)
    prepared = prepare.prepared_call(
        am.compile("causal"), 40, 40, batch=1, heads=2, block=16, device="cpu", q_offset=0
    )
    compiled = torch.compile(lambda x: x * len(lower._promised(prepared)), backend="eager")
    torch.testing.assert_close(compiled(q), q * len(prepared.promises().options))
