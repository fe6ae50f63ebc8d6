"""The three branches of Native Sparse Attention against dense softmaxes over windows that loops make."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import attnmask as am
from attnmask.lower.programs.nsa import compress, nsa
from tests.lower.programs.by_hand import close, pairs, random, softmax_attention

Tensor = torch.Tensor


def windows(x: Tensor, kernel: int, stride: int) -> Tensor:
    starts = range(0, x.shape[2] - kernel + 1, stride)
    return torch.stack([x[:, :, start : start + kernel].mean(dim=2) for start in starts], dim=2)


@pytest.mark.parametrize(("n", "kernel", "stride"), [(50, 8, 4), (47, 8, 8), (20, 3, 5), (9, 9, 1)])
@pytest.mark.parametrize("offset", [0, 7])
def test_compressed_and_window(n: int, kernel: int, stride: int, offset: int) -> None:
    q, k, v = random(2, 4, n - offset, 6), random(2, 2, n, 6, seed=1), random(2, 2, n, 5, seed=2)
    gates = [random(2, 4, n - offset, seed=3), random(4, 1, seed=4)]
    keys, values = windows(k, kernel, stride), windows(v, kernel, stride)
    close(compress(k, kernel, stride), keys)
    rows = n - offset
    seen = pairs(rows, keys.shape[2], lambda i, c: i + offset >= c * stride + kernel - 1)
    far, _ = softmax_attention(q, keys, values, seen)
    near, _ = softmax_attention(q, k, v, pairs(rows, n, lambda i, j: 0 <= i + offset - j < 6))
    found = nsa(q, k, v, gates, kernel=kernel, stride=stride, window=6, q_offset=offset, block=16)
    close(found, gates[0][..., None] * far + gates[1][..., None] * near)


def test_selected_branch() -> None:
    n = 37
    q, k, v = random(1, 4, n, 6), random(1, 2, n, 6, seed=1), random(1, 2, n, 6, seed=2)
    gates = [random(1, 4, n, seed=seed).sigmoid() for seed in (3, 4, 5)]
    selected = am.compile("causal & (k // 8 + h // 2) % 2 == 0")
    found = nsa(q, k, v, gates, kernel=8, stride=4, window=5, selected=selected)

    def sees(h: int) -> Callable[[int, int], bool]:
        return lambda i, j: j <= i and (j // 8 + h // 2) % 2 == 0

    seen = torch.stack([pairs(n, n, sees(h)) for h in range(4)])
    keys = windows(k, 8, 4)
    outs = [
        softmax_attention(q, keys, windows(v, 8, 4), pairs(n, keys.shape[2], lambda i, c: i >= c * 4 + 7)),
        softmax_attention(q, k, v, seen),
        softmax_attention(q, k, v, pairs(n, n, lambda i, j: 0 <= i - j < 5)),
    ]
    close(
        found,
        sum((gate[..., None] * out for gate, (out, _) in zip(gates, outs, strict=True)), torch.zeros(())),
    )


def test_a_selected_branch_that_chooses() -> None:
    """The best past block of 8 by mean key, besides the query's own, worked out by a loop."""
    n, block = 37, 8
    q, k, v = random(1, 2, n, 6), random(1, 2, n, 6, seed=1), random(1, 2, n, 6, seed=2)
    mask = am.compile(f"causal & (same(i // {block}) | top(1, blocks({block}, q_block=1)))")
    seen = torch.zeros(1, 2, n, n, dtype=torch.bool)
    for h in range(2):
        for i in range(n):
            # Candidates are the blocks whose last token is not after the query.
            whole = [c for c in range(-(-n // block)) if min((c + 1) * block, n) <= i + 1]
            scores = [(q[0, h, i] @ k[0, h, c * block : (c + 1) * block].mean(dim=0)).item() for c in whole]
            chosen = {i // block} | ({scores.index(max(scores))} if scores else set())
            seen[0, h, i] = torch.tensor([j <= i and j // block in chosen for j in range(n)])
    gates: list[Tensor | float] = [0.0, 1.0, 0.0]
    expected, _ = softmax_attention(q, k, v, seen)
    close(nsa(q, k, v, gates, kernel=8, stride=4, selected=mask), expected)
    kept = mask.choose(q, k)
    close(nsa(q, k, v, gates, kernel=8, stride=4, selected=mask, choices=kept), expected)


def test_learned_compression_and_gradients() -> None:
    n = 18
    q, k, v = (
        random(1, 2, n, 3, grad=True),
        random(1, 1, n, 3, seed=1, grad=True),
        random(1, 1, n, 3, seed=2, grad=True),
    )
    matrix = random(3, 3, seed=6, grad=True)
    gates = [random(1, 2, n, seed=3, grad=True), random(1, 2, n, seed=4, grad=True)]
    leaves = (q, k, v, matrix, *gates)
    learned = (compress(k @ matrix, 4, 2), compress(v, 4, 2))
    found = nsa(q, k, v, gates, kernel=4, stride=2, window=3, compressed=learned)
    keys, values = windows(k @ matrix, 4, 2), windows(v, 4, 2)
    far, _ = softmax_attention(q, keys, values, pairs(n, keys.shape[2], lambda i, c: i >= c * 2 + 3))
    near, _ = softmax_attention(q, k, v, pairs(n, n, lambda i, j: 0 <= i - j < 3))
    expected = gates[0][..., None] * far + gates[1][..., None] * near
    for a, b in zip(
        torch.autograd.grad(found.square().sum(), leaves),
        torch.autograd.grad(expected.square().sum(), leaves),
        strict=True,
    ):
        close(a, b)


def test_shorter_than_a_window() -> None:
    q = random(1, 1, 5, 4)
    found = nsa(q, q, q, [2.0, 3.0], kernel=8, stride=4, window=2)
    close(found, 3 * softmax_attention(q, q, q, pairs(5, 5, lambda i, j: 0 <= i - j < 2))[0])


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"gates": [1.0]}, "2 branches and 1 gates"),
        ({"gates": [1.0, 1.0], "selected": am.library.causal}, "3 branches and 2 gates"),
        ({"kernel": 0}, "kernel must be at least 1"),
        ({"stride": 0}, "stride must be at least 1"),
        ({"window": 0}, "window must be at least 1"),
        ({"gates": [1.0, torch.ones(3)]}, "gate 1 has shape"),
    ],
)
def test_bad_input(given: dict[str, Any], says: str) -> None:
    q = random(1, 1, 8, 4)
    with pytest.raises(am.MaskError, match=says):
        nsa(q, q, q, **{"gates": [1.0, 1.0], "kernel": 4, "stride": 2, **given})
