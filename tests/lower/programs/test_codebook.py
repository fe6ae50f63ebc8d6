"""Attention with a codebook's caches against causal attention over the quantised keys."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import attnmask as am
from attnmask.lower.programs.codebook import codebook_attention
from tests.lower.programs.by_hand import close, pairs, random, softmax_attention

Tensor = torch.Tensor


def quantised(codebook: Tensor, codes: Tensor) -> Tensor:
    """The key of every token, looked up one by one."""
    batches = [
        [[codebook[h, code] for code in row] for h, row in enumerate(heads)] for heads in codes.tolist()
    ]
    return torch.stack([torch.stack([torch.stack(row) for row in heads]) for heads in batches])


@pytest.mark.parametrize(("n", "section"), [(50, 8), (48, 8), (17, 8), (7, 8), (16, 8), (23, 1), (40, 7)])
@pytest.mark.parametrize("heads", [(2, 2), (4, 2)])
def test_it_is_causal_attention_over_quantised_keys(n: int, section: int, heads: tuple[int, int]) -> None:
    q, v, codebook = (
        random(2, heads[0], n, 6),
        random(2, heads[1], n, 5, seed=1),
        random(heads[1], 5, 6, seed=2),
    )
    codes = torch.randint(0, 5, (2, heads[1], n), generator=torch.Generator().manual_seed(n))
    out, lse = codebook_attention(q, v, codes, codebook, section=section, block=16)
    expected = softmax_attention(q, quantised(codebook, codes), v, pairs(n, n, lambda i, j: j <= i))
    close(out, expected[0])
    close(lse, expected[1])


def test_gradients() -> None:
    n = 22
    q, v, codebook = (
        random(1, 2, n, 3, grad=True),
        random(1, 1, n, 3, seed=1, grad=True),
        random(1, 4, 3, seed=2, grad=True),
    )
    codes = torch.randint(0, 3, (1, 1, n), generator=torch.Generator().manual_seed(1))  # code 3 never comes
    out, _ = codebook_attention(q, v, codes, codebook, section=4)
    expected, _ = softmax_attention(q, quantised(codebook, codes), v, pairs(n, n, lambda i, j: j <= i))
    for a, b in zip(
        torch.autograd.grad(out.square().sum(), (q, v, codebook)),
        torch.autograd.grad(expected.square().sum(), (q, v, codebook)),
        strict=True,
    ):
        close(a, b)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"codes": torch.zeros(1, 1, 7, dtype=torch.int64)}, "codes"),
        ({"codes": torch.full((1, 1, 8), 5)}, "codes must be from 0 to below 5"),
        ({"codes": torch.full((1, 1, 8), -1)}, "codes must be from 0 to below 5"),
        ({"codebook": torch.zeros(2, 5, 4)}, "codebook"),
        ({"q": torch.zeros(1, 2, 7, 4)}, "a query for every token"),
        ({"section": 0}, "section must be at least 1"),
        ({"q_offset": 3}, "whole sequence"),
    ],
)
def test_bad_input(change: dict[str, Any], says: str) -> None:
    given = {
        "q": torch.zeros(1, 2, 8, 4),
        "v": torch.zeros(1, 1, 8, 4),
        "codes": torch.zeros(1, 1, 8, dtype=torch.int64),
        "codebook": torch.zeros(1, 5, 4),
    }
    with pytest.raises(am.MaskError, match=says):
        codebook_attention(**{**given, **change})
