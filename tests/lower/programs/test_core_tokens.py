"""Core tokens by loops, and one dense softmax over them and the recent tokens."""

from __future__ import annotations

import pytest
import torch

import attnmask as am
from attnmask.lower.programs.core_tokens import core_attention, core_tokens
from tests.lower.programs.by_hand import close, pairs, random, softmax_attention

Tensor = torch.Tensor


def cores(q: Tensor, k: Tensor, v: Tensor, group: int) -> tuple[Tensor, Tensor]:
    per_key = q.shape[1] // k.shape[1]
    found = []
    for x in (k, v):
        means = torch.zeros(*x.shape[:2], x.shape[2] // group, x.shape[3], dtype=x.dtype)
        for b, h, c in torch.cartesian_prod(*(torch.arange(size) for size in means.shape[:3])).tolist():
            tokens = slice(c * group, (c + 1) * group)
            for each in range(h * per_key, (h + 1) * per_key):
                weights = torch.softmax(
                    k[b, h, tokens] @ q[b, each, tokens.stop - 1] / q.shape[-1] ** 0.5, dim=0
                )
                means[b, h, c] = means[b, h, c] + weights @ x[b, h, tokens] / per_key
        found.append(means)
    return found[0], found[1]


@pytest.mark.parametrize(
    ("n", "group", "window"), [(37, 4, 6), (40, 8, 1), (9, 16, 3), (20, 5, 100), (30, 1, 7)]
)
@pytest.mark.parametrize("heads", [(2, 2), (4, 2)])
def test_core_attention(n: int, group: int, window: int, heads: tuple[int, int]) -> None:
    q, k, v = random(2, heads[0], n, 6), random(2, heads[1], n, 6, seed=1), random(2, heads[1], n, 5, seed=2)
    keys, values = cores(q, k, v, group)
    for found, wanted in zip(core_tokens(q, k, v, group), (keys, values), strict=True):
        close(found, wanted)

    def start(i: int) -> int:
        return max(0, i - window + 1) // group * group

    seen = torch.cat(
        [
            pairs(n, n, lambda i, j: start(i) <= j <= i),
            pairs(n, keys.shape[2], lambda i, c: (c + 1) * group <= start(i)).reshape(n, -1),
        ],
        dim=-1,
    )
    out, lse = core_attention(q, k, v, group=group, window=window, block=16)
    expected = softmax_attention(q, torch.cat([k, keys], dim=2), torch.cat([v, values], dim=2), seen.bool())
    close(out, expected[0])
    close(lse, expected[1])


def test_groups_of_one_token_are_full_causal_attention_and_have_its_gradients() -> None:
    q, k, v = (random(1, 2, 15, 3, seed=seed, grad=True) for seed in range(3))
    out, _ = core_attention(q, k, v, group=1, window=4)
    expected, _ = softmax_attention(q, k, v, pairs(15, 15, lambda i, j: j <= i))
    close(out, expected)
    for a, b in zip(
        torch.autograd.grad(out.square().sum(), (q, k, v)),
        torch.autograd.grad(expected.square().sum(), (q, k, v)),
        strict=True,
    ):
        close(a, b)


def test_bad_input() -> None:
    q = torch.zeros(1, 3, 8, 4)
    with pytest.raises(am.MaskError, match="group must be at least 1"):
        core_attention(q, q, q, group=0)
    with pytest.raises(am.MaskError, match="window must be at least 1"):
        core_attention(q, q, q, window=0)
    with pytest.raises(am.MaskError, match="not a multiple"):
        core_tokens(q, q[:, :2], q[:, :2], 2)
    with pytest.raises(am.MaskError, match="differ in batch, length, heads"):
        core_tokens(q, q[:, :, :6], q[:, :, :6], 2)
    with pytest.raises(am.MaskError, match="q_offset"):
        core_attention(q, q, q, q_offset=1)
