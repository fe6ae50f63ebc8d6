"""Programs given what they cannot work with: a sentence, before anything runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import attnmask as am

P: Any = am.programs  # what is wrong is wrong on purpose
Q, K = torch.zeros(1, 4, 64, 8), torch.zeros(1, 2, 64, 8)
MASK = am.library.causal
ASKED: tuple[tuple[Callable[[], object], str], ...] = (
    (lambda: P.merge("ab"), "pairs of out and lse"),
    (lambda: P.merge([Q]), "pairs of out and lse"),
    (lambda: P.merge([("a", "b")]), "part 0 must be a tensor"),
    (lambda: P.gated_sum([Q], ["a"]), "gate 0 must be a tensor"),
    (lambda: P.gated_sum([Q], None), "1 branches and no sequence of gates"),
    (lambda: P.gated_sum([Q], [torch.ones(64) * 1j]), "real numbers, not complex"),
    (lambda: P.pool_keys(None, K, 8), "k must be a tensor"),
    (lambda: P.pool_keys(K[:, :, :0], K[:, :, :0], 8), "no tokens to pool"),
    (lambda: P.pool_keys(K, K, ids=[1], cells=3), "ids must be a tensor"),
    (lambda: P.pool_keys(K, K, ids=torch.full((64,), 9), cells=3), "3 cells, counted from 0"),
    (lambda: P.attend_pooled(Q, P.pool_keys(K, K, 8), am.library.all, scale="a"), "scale must be a number"),
    (lambda: P.pyramid_attention(Q, K, K, [1]), "levels must be a tensor"),
    (lambda: P.core_attention(Q, torch.zeros(1, 2, 64, 9), K), "differ in batch"),
    (lambda: P.core_attention(Q, K.repeat(2, 1, 1, 1), K.repeat(2, 1, 1, 1)), "differ in batch"),
    (lambda: P.core_attention(Q, K, K, scale="a"), "scale must be a number"),
    (lambda: P.rescale(Q, K, K, MASK, 5), "what the step before gave"),
    (lambda: P.rescale(Q, K, K, MASK, increment="a"), "increment must be a number"),
    (lambda: P.nsa(Q, K, K, None), "no sequence of gates"),
    (lambda: P.nsa(Q, K, K, [1, 1], compressed=5), "pair of keys and values"),
    (
        lambda: P.codebook_attention(Q, K, torch.zeros(1, 2, 64), torch.zeros(2, 4, 8)),
        "codes must be integers",
    ),
    (lambda: P.permuted(Q[0], K, K, MASK), "4 dimensions"),
    (lambda: P.permuted(Q, K, K, "causal"), "a mask is needed, not str"),
    (lambda: am.attention(Q[..., :0], K[..., :0], K, MASK, enable_gqa=True), "head dimension of 0"),
)


@pytest.mark.parametrize(("ask", "says"), ASKED)
def test_a_sentence(ask: Callable[[], object], says: str) -> None:
    with pytest.raises(am.MaskError, match=says):
        ask()
