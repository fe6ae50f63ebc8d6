"""The second equal call builds nothing."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import attnmask as am
from attnmask.lower import prepare as module
from attnmask.lower.attention import attention
from tests.lower.reference import tensors


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the builders in the order in which they are called."""
    names: list[str] = []

    def counted(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            names.append(name)
            return real(*args, **options)

        return call

    for name in ("tiles", "block_lists", "sources"):
        monkeypatch.setattr(module, name, counted(name, getattr(module, name)))
    return names


def test_an_equal_call_is_not_built_again(built: list[str]) -> None:
    ids = np.arange(50) // 7 + np.random.default_rng().integers(
        1 << 40
    )  # a mask that no other test has built
    q, k, v = tensors((2, 2, 50, 8))
    first = attention(q, k, v, am.compile("causal & same(doc)", doc=ids))
    assert sorted(built) == ["block_lists", "sources", "tiles"]
    again = attention(q, k, v, am.compile("causal and (same(doc) & causal)", doc=ids.astype(np.int64).copy()))
    assert len(built) == 3
    assert isinstance(first, torch.Tensor) and isinstance(again, torch.Tensor) and torch.equal(first, again)


@pytest.mark.parametrize(
    "change",
    [{"q_len": 51}, {"kv_len": 52}, {"batch": 3}, {"heads": 3}, {"block": (128, 64)}, {"q_offset": 1}],
)
def test_whatever_matters_is_part_of_the_key(built: list[str], change: dict[str, Any]) -> None:
    number = int(np.random.default_rng().integers(1 << 40))
    mask = am.compile(f"same(doc) & k < {number} & q < Q + K + B + H", doc=np.arange(60) // 7)
    call: dict[str, Any] = {"q_len": 50, "kv_len": 50, "batch": 2, "heads": 2}
    first = mask.block_mask(**call)
    assert mask.block_mask(**call).kv_indices is first.kv_indices and built.count("tiles") == 1
    assert (
        mask.block_mask(**{**call, **change}).kv_indices is not first.kv_indices and built.count("tiles") == 2
    )
    other = am.compile(f"same(doc) & k < {number} & q < Q + K + B + H", doc=np.arange(60) // 8)
    assert other.block_mask(**call).kv_indices is not first.kv_indices and built.count("tiles") == 3


def test_a_failed_call_is_not_kept(built: list[str]) -> None:
    mask = am.compile("same(doc)", doc=np.arange(5))
    for _ in range(2):
        with pytest.raises(am.MaskError, match="entry 5"):
            mask.block_mask(6)
    assert built.count("tiles") == 2


def test_scores_are_part_of_the_key() -> None:
    q, k, v = tensors((1, 1, 20, 8))
    plain, capped = (
        attention(q * 9, k, v, am.compile(text)) for text in ("causal", "causal with softcap(1)")
    )
    assert isinstance(plain, torch.Tensor) and isinstance(capped, torch.Tensor)
    assert not torch.allclose(plain, capped)
