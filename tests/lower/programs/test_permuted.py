"""Attention in another order of tokens against plain softmax in the order of the text."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import attnmask as am
from attnmask import programs
from tests.lower.choose.test_choices import plain

Tensor = torch.Tensor


def inputs(heads: int = 4, kv_heads: int = 2, length: int = 90) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(length)
    q, k, v = (torch.randn(2, n, length, 8, dtype=torch.float64) for n in (heads, kv_heads, kv_heads))
    return q, k, v


@pytest.mark.parametrize(
    "text", ["causal & (window(9) | sink(3))", "same(i // 13) | k == 0", "causal with s + (q - k) / 9"]
)
@pytest.mark.parametrize("each", [False, True])
def test_a_static_mask_gives_the_same_in_any_order(text: str, each: bool) -> None:
    q, k, v = inputs()
    mask = am.compile(text)
    shapes = ((2, 4, 90), (2, 2, 90)) if each else ((90,), (90,))
    q_order, k_order = (torch.rand(shape).argsort(-1) for shape in shapes)
    expected = am.attention(q, k, v, mask, enable_gqa=True)
    both: tuple[dict[str, Any], ...] = (
        {"q_order": q_order, "k_order": k_order},
        {"k_order": k_order},
        {"q_order": q_order},
        {},
    )
    for orders in both:
        found = programs.permuted(q, k, v, mask, block=16, enable_gqa=True, **orders)
        torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-7)


def test_blocks_of_choices_are_those_of_the_new_order() -> None:
    """Keys sorted inside segments, as PBS does: blocks of sorted keys, and causality by the text."""
    q, k, v = inputs(heads=2, kv_heads=2, length=64)
    segment, block = 16, 4
    order = torch.cat(
        [torch.rand(2, 2, segment).argsort(-1) + first for first in range(0, 64, segment)], dim=-1
    )
    mask = am.zoo.pbs_attn(p=0.5, block=block, segment=segment)
    found = programs.permuted(q, k, v, mask, k_order=order, block=16)
    sorted_k = k.gather(2, order[..., None].expand_as(k))
    pooled_q, pooled_k = (torch.unflatten(x, 2, (-1, block)).mean(3) for x in (q, sorted_k))
    seen = torch.zeros(2, 2, 64, 64, dtype=torch.bool)
    for b in range(2):
        for h in range(2):
            for row in range(16):
                earlier = row * block // segment * segment // block
                weights = (pooled_q[b, h, row] @ pooled_k[b, h, :earlier].T / 8**0.5).softmax(-1)
                taken: list[int] = []
                for column in weights.argsort(descending=True).tolist():
                    if float(weights[taken].sum()) < 0.5 * float(weights.sum()):
                        taken.append(column)
                for i in range(row * block, row * block + block):
                    for j in range(64):
                        at = int(order[b, h, j])
                        own = i // segment == at // segment
                        if at <= i and (own or at // block == 0 or j // block in taken):
                            seen[b, h, i, at] = True
    torch.testing.assert_close(found, plain(q, k, v, seen), rtol=1e-6, atol=1e-7)


def test_orders_that_do_not_fit() -> None:
    q, k, v = inputs()
    for order in (torch.arange(89), torch.rand(90), torch.zeros(3, 4, 90, dtype=torch.int64)):
        with pytest.raises(am.MaskError, match="an order of 90 tokens"):
            programs.permuted(q, k, v, am.library.causal, q_order=order, enable_gqa=True)
