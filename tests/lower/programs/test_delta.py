"""Delta Attention against loops over rows of a dense softmax."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import attnmask as am
from attnmask.lower import attention as calls
from attnmask.lower.programs import attend
from attnmask.lower.programs.delta import delta
from tests.lower.programs.by_hand import close, pairs, random, softmax_attention

Tensor = torch.Tensor


def expected_delta(sparse: Tensor, dense: Tensor, every: int, tail: int, recompute: bool = False) -> Tensor:
    """Row by row from the outputs [B, H, N, D] of the two attentions."""
    n = sparse.shape[2]
    rows = []
    for i in range(n):
        anchor = every * (i // every)
        if i >= n - tail or (recompute and i == anchor):
            rows.append(dense[:, :, i])
        elif recompute:
            rows.append(sparse[:, :, i])
        else:
            rows.append(sparse[:, :, i] + dense[:, :, anchor] - sparse[:, :, anchor])
    return torch.stack(rows, dim=2)


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize(
    ("n", "every", "tail"),
    [(53, 8, 5), (53, 7, 0), (53, 1, 0), (53, 8, 53), (53, 8, 99), (5, 8, 0), (40, 8, 1), (41, 8, 16)],
)
def test_delta(n: int, every: int, tail: int, recompute: bool) -> None:
    q, k, v = random(2, 4, n, 6), random(2, 2, n, 6, seed=1), random(2, 2, n, 5, seed=2)
    sparse, _ = softmax_attention(q, k, v, pairs(n, n, lambda i, j: 0 <= i - j < 4 or (j < 2 and j <= i)))
    dense, _ = softmax_attention(q, k, v, pairs(n, n, lambda i, j: j <= i))
    mask = am.compile("causal & (window(4) | sink(2))")
    found = delta(q, k, v, mask, every=every, tail=tail, recompute=recompute, block=16)
    close(found, expected_delta(sparse, dense, every, tail, recompute))


@pytest.mark.parametrize(("n", "every"), [(150, 16), (200, 8), (333, 150), (130, 1)])
def test_default_tail(n: int, every: int) -> None:
    q, k, v = (random(1, 1, n, 4, seed=seed) for seed in range(3))
    sparse, _ = softmax_attention(q, k, v, pairs(n, n, lambda i, j: 0 <= i - j < 4))
    dense, _ = softmax_attention(q, k, v, pairs(n, n, lambda i, j: j <= i))
    found = delta(q, k, v, am.compile("causal & window(4)"), every=every)
    close(found, expected_delta(sparse, dense, every, n % every + max(128, every)))


@pytest.mark.parametrize("offset", [0, 3, 16, 21])
def test_dense_mask_that_reads_positions_lengths_heads_and_tables(offset: int) -> None:
    """Rows are counted from the first query of the call; the masks see positions."""
    n, kv_len, every = 22, 44, 5
    q, k, v = random(2, 4, n, 6), random(2, 2, kv_len, 6, seed=1), random(2, 2, kv_len, 6, seed=2)
    doc = np.arange(kv_len) // 9
    slope = np.linspace(-0.3, 0.2, 4)
    dense = am.compile(
        "same(doc) & k <= q | h == 1 & k < Q & (q + k) % 3 == 0 with s + slope[h] * (q - k)",
        doc=doc,
        slope=slope,
    )
    positions = torch.arange(n)[:, None] + offset - torch.arange(kv_len)
    bias = torch.from_numpy(slope)[:, None, None] * positions

    def sees(h: int) -> Any:
        return lambda i, j: (
            (doc[i + offset] == doc[j] and j <= i + offset)
            or (h == 1 and j < n and (i + offset + j) % 3 == 0)
        )

    seen = torch.stack([pairs(n, kv_len, sees(h)) for h in range(4)])
    full, _ = softmax_attention(q, k, v, seen, bias=bias, scale=0.3)
    near = pairs(n, kv_len, lambda i, j: 0 <= i + offset - j < 3)
    sparse, _ = softmax_attention(q, k, v, near, scale=0.3)
    found = delta(
        q,
        k,
        v,
        am.compile("0 <= q - k < 3"),
        every=every,
        tail=4,
        dense=dense,
        q_offset=offset,
        scale=0.3,
        block=8,
    )
    close(found, expected_delta(sparse, full, every, 4), 1e-6)  # tables of floats are float32


def test_default_dense_has_the_scores_of_the_mask() -> None:
    n = 21
    q, k, v = (random(1, 2, n, 4, seed=seed) for seed in range(3))
    found = delta(q, k, v, am.compile("causal & window(3) with s * 2.5"), every=4, tail=0)
    sparse, _ = softmax_attention(q, k, v, pairs(n, n, lambda i, j: 0 <= i - j < 3), scale=1.25)
    dense, _ = softmax_attention(q, k, v, pairs(n, n, lambda i, j: j <= i), scale=1.25)
    close(found, expected_delta(sparse, dense, 4, 0))


def test_only_the_strided_and_the_last_rows_are_dense(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def counted(q: Tensor, *given: Any, **options: Any) -> Any:
        asked.append(q.shape[2])
        return calls.attention(q, *given, **options)

    monkeypatch.setattr(attend, "attention", counted)
    q, k, v = (random(1, 1, 100, 4, seed=seed) for seed in range(3))
    delta(q, k, v, am.compile("causal & window(4)"), every=10, tail=20)
    assert asked == [100, 8, 20]


def test_gradients() -> None:
    n, every, tail = 19, 4, 3
    q, k, v = (
        random(1, 2, n, 3, grad=True),
        random(1, 1, n, 3, seed=1, grad=True),
        random(1, 1, n, 3, seed=2, grad=True),
    )
    weights = random(1, 2, n, 3, seed=9)
    sparse, _ = softmax_attention(q, k, v, pairs(n, n, lambda i, j: 0 <= i - j < 4))
    dense, _ = softmax_attention(q, k, v, pairs(n, n, lambda i, j: j <= i))
    expected = expected_delta(sparse, dense, every, tail)
    found = delta(q, k, v, am.compile("causal & window(4)"), every=every, tail=tail, block=8)
    for a, b in zip(
        torch.autograd.grad((found * weights).sum(), (q, k, v)),
        torch.autograd.grad((expected * weights).sum(), (q, k, v)),
        strict=True,
    ):
        close(a, b)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"every": 0}, "every must be at least 1"),
        ({"every": -3}, "every must be at least 1"),
        ({"every": 2.5}, "every must be an integer"),
        ({"tail": -1}, "tail must be a number of rows from 0, not -1"),
        ({"dense": "causal"}, "dense must be a mask, not str"),
    ],
)
def test_bad_input(given: dict[str, Any], says: str) -> None:
    q = random(1, 1, 8, 4)
    with pytest.raises(am.MaskError, match=says):
        delta(q, q, q, am.compile("causal & window(4)"), **{"tail": 2, "every": 2, **given})


def test_a_mask_made_for_other_lengths_is_refused() -> None:
    short = am.compile("causal").interval_form(8)
    q = random(1, 1, 9, 4)
    with pytest.raises(am.MaskError, match="made for"):
        delta(q, q, q, am.compile("causal & window(4)"), every=3, tail=0, dense=short)


CHOOSING = "causal & (window(4) | top(1, blocks(8, q_block=8)))"


def test_sparse_attention_that_chooses() -> None:
    n = 37
    q, k, v = (random(1, 2, n, 4, seed=seed) for seed in range(3))
    mask = am.compile(CHOOSING)
    dense, _ = softmax_attention(q, k, v, pairs(n, n, lambda i, j: j <= i))
    elsewhere = mask.choose(random(1, 2, n, 4, seed=8), k)
    sparse, others = am.attention(q, k, v, mask), am.attention(q, k, v, mask, choices=elsewhere)
    assert not torch.allclose(sparse, others)
    close(delta(q, k, v, mask, every=4, tail=3), expected_delta(sparse, dense, 4, 3))
    close(delta(q, k, v, mask, every=4, tail=3, choices=elsewhere), expected_delta(others, dense, 4, 3))


def test_a_dense_mask_that_chooses_is_refused() -> None:
    q = random(1, 1, 16, 4)
    with pytest.raises(am.MaskError, match="dense must not choose"):
        delta(q, q, q, am.library.causal, dense=am.compile(CHOOSING), tail=0)
