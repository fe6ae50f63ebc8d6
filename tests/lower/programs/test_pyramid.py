"""A resolution for each pair of blocks, against a softmax over cells that loops make query by query."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

import attnmask as am
from attnmask.lower.programs.pyramid import pyramid_attention
from tests.lower.programs.by_hand import close, random

Tensor = torch.Tensor


def by_hand(
    q: Tensor, k: Tensor, v: Tensor, levels: Tensor, unit: tuple[int, int], causal: bool, offset: int
) -> tuple[Tensor, Tensor]:
    group = q.shape[1] // k.shape[1]
    outs, sizes = (
        torch.zeros(*q.shape[:3], v.shape[-1], dtype=q.dtype),
        torch.zeros(q.shape[:3], dtype=q.dtype),
    )
    for b in range(q.shape[0]):
        for h in range(q.shape[1]):
            for i in range(q.shape[2]):
                total, mass = torch.zeros(v.shape[-1], dtype=q.dtype), torch.zeros((), dtype=q.dtype)
                for block, level in enumerate(
                    levels[b, h, (i + offset) // unit[0] - offset // unit[0]].tolist()
                ):
                    stop = min((block + 1) * unit[1], k.shape[2])
                    for first in range(block * unit[1], stop, level) if level else ():
                        cell = slice(first, min(first + level, stop))
                        if causal and first + level - 1 > i + offset:
                            continue
                        key, value = (x[b, h // group, cell].mean(dim=0) for x in (k, v))
                        score = q[b, h, i] @ key / math.sqrt(q.shape[-1]) + math.log(cell.stop - cell.start)
                        total, mass = total + score.exp() * value, mass + score.exp()
                outs[b, h, i] = total / mass if mass else 0
                sizes[b, h, i] = mass.log()
    return outs, sizes


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("unit", [(8, 8), (5, 8), (16, 8)])
@pytest.mark.parametrize("n", [29, 32])
def test_levels(n: int, unit: tuple[int, int], causal: bool) -> None:
    q, k, v = random(2, 4, n, 6), random(2, 2, n, 6, seed=1), random(2, 2, n, 5, seed=2)
    shape = (2, 4, math.ceil(n / unit[0]), math.ceil(n / unit[1]))
    choice = torch.randint(0, 5, shape, generator=torch.Generator().manual_seed(3))
    levels = torch.tensor([0, 1, 2, 4, 8])[choice]
    levels[0, 1, 0] = 0  # a block of queries that sees nothing
    out, lse = pyramid_attention(q, k, v, levels, unit=unit, causal=causal, block=8)
    expected = by_hand(q, k, v, levels, unit, causal, 0)
    close(out, expected[0])
    close(lse, expected[1])
    assert (lse[0, 1, : unit[0]] == -torch.inf).all()


def test_levels_shared_by_heads_and_by_rows_of_the_batch() -> None:
    q, k, v = random(2, 4, 16, 6), random(2, 2, 16, 6, seed=1), random(2, 2, 16, 5, seed=2)
    levels = torch.tensor([[[[1, 4], [2, 0]]]])
    out, _ = pyramid_attention(q, k, v, levels, unit=8)
    close(out, by_hand(q, k, v, levels.expand(2, 4, 2, 2), (8, 8), False, 0)[0])


def test_gradients() -> None:
    q, k, v = (random(1, 1, 11, 3, seed=seed, grad=True) for seed in range(3))
    levels = torch.tensor([[[[1, 2, 4], [4, 1, 2], [0, 0, 1]]]])
    found, _ = pyramid_attention(q, k, v, levels, unit=4, sizes=(1, 2, 4))
    expected, _ = by_hand(q, k, v, levels, (4, 4), False, 0)
    for a, b in zip(
        torch.autograd.grad(found.square().sum(), (q, k, v)),
        torch.autograd.grad(expected.square().sum(), (q, k, v)),
        strict=True,
    ):
        close(a, b)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"levels": torch.ones(1, 1, 2, 2)}, "levels must be integers"),
        ({"levels": torch.ones(1, 1, 3, 2, dtype=torch.int64)}, "level"),
        ({"sizes": (1, 3)}, "a key block of 8 tokens is not divided by level 3"),
        ({"sizes": (0,)}, "a size must be at least 1"),
        ({"sizes": ()}, "nothing to combine"),
    ],
)
def test_bad_input(change: dict[str, Any], says: str) -> None:
    q = torch.zeros(1, 1, 16, 4)
    given = {"levels": torch.ones(1, 1, 2, 2, dtype=torch.int64), "unit": 8}
    with pytest.raises(am.MaskError, match=says):
        pyramid_attention(q, q, q, **{**given, **change})
