"""Compiled FlexAttention on the CPU against the reference. Each new structure costs seconds: there are five."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch._dynamo.utils import counters

import attnmask as am
from attnmask.lower.attention import _compiles_on_cpu, attention
from attnmask.tiles.promises import promises
from tests.lower.reference import dense_attention, tensors

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not _compiles_on_cpu(), reason="needs a C++ compiler and AVX2"),
]

LENGTH = 300
RNG = np.random.default_rng(4)


def close(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor, mask: am.Mask, **options: Any) -> None:
    found = attention(q, k, v, mask, backend="flex", block=64, **options)
    expected = dense_attention(q, k, v, mask, q_offset=options.get("q_offset", 0))[0]
    assert isinstance(found, torch.Tensor)
    torch.testing.assert_close(found.double(), expected, rtol=1e-4, atol=1e-4)


def documents(length: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.sort(RNG.integers(0, 6, (2, length)), axis=1)


def test_documents_and_new_tables_compile_once() -> None:
    """Rows without keys, ragged tiles, batch rows of their own; other tables need no other kernel."""
    q, k, v = tensors((2, 2, LENGTH, 16))
    text = "causal & same(doc) & (q % 5 != 3) & (window(40) | (k - 1) % -3 == -1)"
    close(q, k, v, am.compile(text, doc=documents(LENGTH)))
    before = counters["stats"]["unique_graphs"]
    for _ in range(3):
        close(q, k, v, am.compile(text, doc=documents(LENGTH)))
    assert counters["stats"]["unique_graphs"] == before


def test_heads_scores_and_shared_keys() -> None:
    slopes = np.array([-0.5, -0.25, 0.125, 1.0])
    mask = am.compile(
        "(heads(2:) & causal | heads(:2) & window(30)) with softcap(5), s + slope[h] * (q - k) * 0.01",
        slope=slopes,
    )
    q, k, v = tensors((1, 4, LENGTH, 16), kv_heads=2)
    close(q, k, v, mask, enable_gqa=True)


def test_offset_and_64_bit_integers() -> None:
    mask = am.compile("(q * 3000000000 - k * 2999999999) // -7 <= q - Q & k < K - 2 ^ (q & 3) == 1")
    q, k, v = tensors((1, 2, 70, 16), kv_len=LENGTH)
    close(q, k, v, mask, q_offset=LENGTH - 70)


def test_a_sparse_mask_skips_what_it_does_not_see() -> None:
    """The kernel honours the lists: keys outside of them are never read, whatever they hold."""
    mask = am.compile("causal & window(20)")
    q, k, v = tensors((1, 2, LENGTH, 16))
    k[:, :, 256:] = torch.nan
    found = attention(q[:, :, :100], k, v, mask, backend="flex", block=64)
    assert isinstance(found, torch.Tensor) and found.isfinite().all()


def test_promises_give_the_same_numbers_and_no_compilation_more() -> None:
    """Both options are set, at every length."""
    mask = am.compile("causal | same(i // 64)")
    for length in (300, 428, 364, 492):
        q, k, v = tensors((1, 2, length, 16))
        before = counters["stats"]["unique_graphs"]
        close(q, k, v, mask)
        tiles = mask.tiles(length, block=64)
        assert promises(tiles, None).options == ("BLOCKS_ARE_CONTIGUOUS", "ROWS_GUARANTEED_SAFE")
    assert counters["stats"]["unique_graphs"] == before
