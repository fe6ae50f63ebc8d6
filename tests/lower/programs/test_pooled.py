"""Pooled keys against loops, and one softmax over tokens and cells against a dense one over the concatenation."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

import attnmask as am
from attnmask.lower.programs.pooled import Pooled, attend_pooled, attend_with_pooled, pool_keys
from tests.lower.programs.by_hand import close, pairs, random, softmax_attention

Tensor = torch.Tensor


def pooled_by_hand(x: Tensor, ids: Tensor, cells: int) -> tuple[Tensor, Tensor]:
    """Means [B, H, cells, D] and counts [B, H, cells]; x [B, H, K, D], ids [B, H, K]."""
    means = torch.zeros(*x.shape[:2], cells, x.shape[-1], dtype=x.dtype)
    counts = torch.zeros(*x.shape[:2], cells, dtype=x.dtype)
    for b in range(x.shape[0]):
        for h in range(x.shape[1]):
            for c in range(cells):
                members = [j for j in range(x.shape[2]) if ids[b, h, j] == c]
                counts[b, h, c] = len(members)
                if members:
                    means[b, h, c] = x[b, h, members].mean(dim=0)
    return means, counts


@pytest.mark.parametrize(("kv_len", "block"), [(1, 1), (23, 5), (20, 5), (3, 8), (7, 1)])
def test_blocks(kv_len: int, block: int) -> None:
    k, v = random(2, 3, kv_len, 4), random(2, 3, kv_len, 5, seed=1)
    ids = (torch.arange(kv_len) // block).expand(2, 3, -1)
    found = pool_keys(k, v, block)
    cells = math.ceil(kv_len / block)
    for mean, x in ((found.keys, k), (found.values, v)):
        expected, counts = pooled_by_hand(x, ids, cells)
        close(mean, expected)
        close(found.counts, counts)


@pytest.mark.parametrize("shape", [(23,), (2, 1, 23), (3, 23), (2, 3, 23)])
@pytest.mark.parametrize("dtype", [torch.int64, torch.int32])
def test_ids(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """Cells of any size, some empty, and tokens in no cell."""
    k, v = random(2, 3, 23, 4), random(2, 3, 23, 5, seed=1)
    ids = torch.randint(-2, 5, shape, generator=torch.Generator().manual_seed(3)).to(dtype)
    found = pool_keys(k, v, ids=ids, cells=7)
    for mean, x in ((found.keys, k), (found.values, v)):
        expected, counts = pooled_by_hand(x, ids.expand(2, 3, 23), 7)
        close(mean, expected)
        close(found.counts, counts)
    assert (found.counts[..., 5:] == 0).all()


def test_means_are_computed_in_float32() -> None:
    k = torch.full((1, 1, 4096, 1), 1.0, dtype=torch.bfloat16)
    ids = torch.zeros(4096, dtype=torch.int64)
    for found in (pool_keys(k, k, 4096), pool_keys(k, k, ids=ids, cells=1)):
        assert found.keys.dtype == torch.bfloat16 and found.counts.dtype == torch.float32
        assert found.keys.item() == 1.0 and found.counts.item() == 4096


@pytest.mark.parametrize("kind", ["block", "ids"])
def test_gradients_of_pooling(kind: str) -> None:
    ids = torch.tensor([0, 2, 2, -1, 0])
    given: dict[str, Any] = {"block": 2} if kind == "block" else {"ids": ids, "cells": 4}
    tensors = random(1, 2, 5, 2, grad=True), random(1, 2, 5, 3, seed=1, grad=True)
    assert torch.autograd.gradcheck(lambda k, v: pool_keys(k, v, **given)[:2], tensors)


def concatenated(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    seen: Tensor,
    pooled: Pooled,
    cell_seen: Tensor,
    scale: float | None = None,
) -> tuple[Tensor, Tensor]:
    """One dense softmax over tokens and cells; log(count) is added to the scores of cells."""
    group = q.shape[1] // k.shape[1]
    counts = pooled.counts.repeat_interleave(group, dim=1)[:, :, None].expand(-1, -1, q.shape[2], -1)
    bias = torch.cat([torch.zeros(*q.shape[:3], k.shape[2]), counts.clamp(min=1).log()], dim=-1)
    return softmax_attention(
        q,
        torch.cat([k, pooled.keys], dim=2),
        torch.cat([v, pooled.values], dim=2),
        torch.cat([seen.expand(*q.shape[:3], -1), cell_seen.expand(*q.shape[:3], -1) & (counts > 0)], dim=-1),
        bias=bias,
        scale=scale,
    )


@pytest.mark.parametrize("scale", [None, 1.0, 0.03, 7.0, -0.4])
@pytest.mark.parametrize("heads", [(4, 2), (3, 3), (4, 1)])
def test_one_softmax_over_tokens_and_cells(heads: tuple[int, int], scale: float | None) -> None:
    n, block = 43, 8
    q, k, v = (random(2, heads[i > 0], n, 6 - i // 2, seed=i) for i in range(3))
    pooled = pool_keys(k, v, block)
    found = attend_with_pooled(
        q,
        k,
        v,
        am.compile("causal & q - k < 9"),
        pooled,
        am.compile("(k + 1) * 8 <= q - 8"),
        scale=scale,
        block=16,
    )
    expected = concatenated(
        q,
        k,
        v,
        pairs(n, n, lambda i, j: 0 <= i - j < 9),
        pooled,
        pairs(n, pooled.keys.shape[2], lambda i, c: (c + 1) * block <= i - 8),
        scale,
    )
    close(found[0], expected[0])
    close(found[1], expected[1])


def test_it_is_exact_where_the_keys_of_a_cell_are_equal() -> None:
    """Also in a last cell that the length cuts off; values may differ."""
    n, block = 30, 8
    q, v = random(2, 4, n, 6), random(2, 2, n, 5, seed=2)
    k = random(2, 2, 4, 6, seed=1).repeat_interleave(block, dim=2)[:, :, :n]
    near, far = am.compile("k // 8 == q // 8"), am.compile("k != q // 8")
    found = attend_with_pooled(q, k, v, near, pool_keys(k, v, block), far)
    expected = softmax_attention(q, k, v, torch.ones(n, n, dtype=torch.bool))
    close(found[0], expected[0])
    close(found[1], expected[1])


def test_empty_cells_and_queries_without_tokens() -> None:
    q, k, v = (random(1, 2, 9, 4, seed=seed).requires_grad_() for seed in range(3))
    ids = torch.tensor([0, 0, 3, 3, 3, -1, 5, 0, 3])
    pooled = pool_keys(k, v, ids=ids, cells=6)
    mask, cells = am.compile("q == 1 & k < 2"), am.compile("q < 3 & k % 3 != 0 | q > 4 & k < 4")
    found = attend_with_pooled(q, k, v, mask, pooled, cells)
    expected = concatenated(
        q,
        k,
        v,
        pairs(9, 9, lambda i, j: i == 1 and j < 2),
        pooled,
        pairs(9, 6, lambda i, c: (i < 3 and c % 3 != 0) or (i > 4 and c < 4)),
    )
    close(found[0], expected[0])
    close(found[1], expected[1])
    assert (found[1][:, :, 3:5] == -torch.inf).all() and (found[0][:, :, 3:5] == 0).all()
    only_empty, lse = attend_pooled(q, pooled, am.compile("k in 1:3"))
    assert (only_empty == 0).all() and (lse == -torch.inf).all()
    total = found[0].square().sum() + found[1][:, :, [0, 1, 2, 5, 6]].sum() + only_empty.sum()
    assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(total, (q, k, v)))


def test_gradients() -> None:
    n = 12
    weights = random(1, 2, n, 3, seed=9)

    def loss(outs: tuple[Tensor, Tensor]) -> Tensor:
        return (outs[0] * weights).sum() + outs[1].square().sum()

    q, k, v = (
        random(1, 2, n, 3, grad=True),
        random(1, 1, n, 3, seed=1, grad=True),
        random(1, 1, n, 3, seed=2, grad=True),
    )
    pooled = pool_keys(k, v, 5)
    found = attend_with_pooled(
        q, k, v, am.compile("causal & window(4)"), pooled, am.compile("(k + 1) * 5 <= q")
    )
    near, far = pairs(n, n, lambda i, j: 0 <= i - j < 4), pairs(n, 3, lambda i, c: (c + 1) * 5 <= i)
    by_hand, counts = pooled_by_hand(k, (torch.arange(n) // 5).expand(1, 1, n), 3)
    again = Pooled(by_hand, pooled_by_hand(v, (torch.arange(n) // 5).expand(1, 1, n), 3)[0], counts)
    expected = concatenated(q, k, v, near, again, far)
    for a, b in zip(
        torch.autograd.grad(loss(found), (q, k, v)),
        torch.autograd.grad(loss(expected), (q, k, v)),
        strict=True,
    ):
        close(a, b)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("dim", [64, 80, 128])
def test_counts_are_not_rounded_to_the_dtype(dtype: torch.dtype, dim: int) -> None:
    """Zero queries leave the logarithms alone: the sum is the number of tokens."""
    k = torch.zeros(1, 1, 1000, dim, dtype=dtype)
    _, lse = attend_pooled(k[:, :, :1], pool_keys(k, k, 7), am.compile("all"))
    assert abs(lse.item() - math.log(1000)) < 1e-4


def test_a_mask_that_chooses_chooses_by_the_pooled_keys_alone() -> None:
    """A cell of many tokens is no better a choice for its number."""
    q = torch.tensor([1.0, 0.0]).expand(1, 1, 3, 2)
    keys = torch.tensor([[[[0.1, 0.0], [0.2, 0.0]]]])
    pooled = Pooled(keys, torch.tensor([[[[1.0], [2.0]]]]), torch.tensor([[[1000.0, 1.0]]]))
    out, lse = attend_pooled(q, pooled, am.compile("top(1, blocks(1, q_block=1), among=all)"), scale=1.0)
    close(out, torch.full((1, 1, 3, 1), 2.0))
    close(lse, torch.full((1, 1, 3), 0.2), 1e-6)


K = (1, 2, 6, 4)


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "cells are given by a block length, or by ids and their number"),
        ({"block": 2, "cells": 3}, "cells are given by"),
        ({"ids": torch.zeros(6, dtype=torch.int64)}, "cells are given by"),
        ({"block": 0}, "block must be at least 1"),
        ({"ids": torch.zeros(6), "cells": 2}, "ids must be integers"),
        ({"ids": torch.zeros(5, dtype=torch.int64), "cells": 2}, "do not broadcast"),
    ],
)
def test_bad_cells(given: dict[str, Any], says: str) -> None:
    with pytest.raises(am.MaskError, match=says):
        pool_keys(torch.zeros(K), torch.zeros(K), **given)


def test_shapes_that_disagree() -> None:
    k = torch.zeros(K)
    with pytest.raises(am.MaskError, match="differ in batch, heads or length"):
        pool_keys(k, torch.zeros(1, 2, 5, 4), 2)
    wrong = Pooled(k, k, torch.ones(1, 2, 5))
    with pytest.raises(am.MaskError, match="differ in batch, heads or cells"):
        attend_pooled(k, wrong, am.compile("all"))
    with pytest.raises(am.MaskError, match="the scale must be between"):
        attend_pooled(k, pool_keys(k, k, 2), am.compile("all"), scale=0.0)
