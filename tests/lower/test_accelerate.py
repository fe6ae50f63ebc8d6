"""accelerate: torch's builder is replaced in the modules that hold it, and comes back."""

from __future__ import annotations

import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest
from torch.nn.attention import flex_attention as flex

import attnmask as am
from attnmask.lower import builder
from attnmask.lower.builder import built
from tests.lower.listed import listed


@pytest.fixture
def module() -> Iterator[Any]:
    """A module that has imported the builder under a name of its own, before and while it is replaced."""
    made: Any = types.ModuleType("somebody_elses_model")
    made.make_mask = flex.create_block_mask
    made.deliberate = am.create_block_mask
    sys.modules[made.__name__] = made
    yield made
    del sys.modules[made.__name__]


def causal(b: Any, h: Any, q: Any, k: Any) -> Any:
    return q >= k


def test_existing_code_builds_with_attnmask(module: Any) -> None:
    expected = listed(builder.TORCH_BUILDER(causal, None, None, 300, 300, device="cpu"))
    built.cache_clear()
    with am.accelerate():
        assert module.make_mask is flex.create_block_mask is not builder.TORCH_BUILDER
        found = module.make_mask(causal, None, None, 300, 300, device="cpu")
        assert len(built.kept) == 1
        module.late = flex.create_block_mask
    assert listed(found) == expected
    assert module.make_mask is flex.create_block_mask is module.late is builder.TORCH_BUILDER
    assert module.deliberate is am.create_block_mask


def test_blocks_nest_and_end_with_errors(module: Any) -> None:
    with pytest.raises(RuntimeError, match="inner"), am.accelerate():
        with am.accelerate():
            pass
        assert module.make_mask is not builder.TORCH_BUILDER
        raise RuntimeError("inner")
    assert module.make_mask is builder.TORCH_BUILDER


def test_what_cannot_be_lifted_still_comes_from_torch(module: Any) -> None:
    def function(b: Any, h: Any, q: Any, k: Any) -> Any:
        return q * 0.37 - k * 0.61 < 7

    with am.accelerate(), pytest.warns(UserWarning, match="'sub'"):
        found = module.make_mask(function, None, None, 64, 64, device="cpu")
    assert listed(found) == listed(builder.TORCH_BUILDER(function, None, None, 64, 64, device="cpu"))


def test_a_module_that_refuses_changes_stops_nothing(module: Any) -> None:
    class Stubborn(types.ModuleType):
        def __setattr__(self, name: str, value: object) -> None:
            raise AttributeError("read only")

    stubborn = Stubborn("stubborn")
    vars(stubborn)["create_block_mask"] = flex.create_block_mask
    sys.modules["a_stubborn_module"] = stubborn
    try:
        for _ in range(2):
            with am.accelerate():
                assert module.make_mask is not builder.TORCH_BUILDER
            assert module.make_mask is flex.create_block_mask is builder.TORCH_BUILDER
    finally:
        del sys.modules["a_stubborn_module"]


def test_warnings_point_at_the_caller() -> None:
    with am.accelerate(), pytest.warns(UserWarning) as caught:
        flex.create_block_mask(lambda b, h, q, k: q * 0.37 - k * 0.61 < 7, None, None, 64, 64, device="cpu")
    assert caught[0].filename == __file__
