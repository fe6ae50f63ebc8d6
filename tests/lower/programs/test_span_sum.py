"""Spans added up by weights, against plain loops over anchors and dense softmaxes."""

from __future__ import annotations

import math

import pytest
import torch

import attnmask as am
from attnmask.lower.programs.span_sum import span_sum
from tests.lower.programs.by_hand import close, pairs, random, softmax_attention

Tensor = torch.Tensor


def by_loops(
    q: Tensor, k: Tensor, v: Tensor, search: tuple[Tensor, Tensor], first: int, number: int, window: int
) -> Tensor:
    """One batch row after the rule: the best anchors, a softmax for each span with the window, weights by score."""
    search_q, search_k = search
    heads, group, kv_len = q.shape[1], q.shape[1] // k.shape[1], k.shape[2]
    rows = []
    for h in range(heads):
        mine = []
        for row in range(q.shape[2]):
            i, kv = first + row, h // group
            anchors = [i - s * s + 1 for s in range(1, i + 2) if 0 <= i - s * s + 1 < kv_len]
            scores = {a: search_q[0, h, row] @ search_k[0, kv, a] for a in anchors if i - a >= window}
            ranked = sorted(scores, key=lambda a: (-float(scores[a].detach()), a))[:number]
            reach = math.ceil(0.5 * math.sqrt(i + 1))
            spans = [(a - reach, a + reach) for a in ranked] or [(0, -1)]
            outs = []
            for low, high in spans:
                seen = torch.tensor(
                    [[j <= i and (i - j < window or low <= j <= high) for j in range(kv_len)]]
                )
                out, _ = softmax_attention(
                    q[:, h : h + 1, row : row + 1], k[:, kv : kv + 1], v[:, kv : kv + 1], seen
                )
                outs.append(out[0, 0, 0])
            logits = torch.stack([scores[a] for a in ranked]) if ranked else torch.zeros(1)
            mine.append((logits.double().softmax(0)[:, None] * torch.stack(outs)).sum(0))
        rows.append(torch.stack(mine))
    return torch.stack(rows)[None]


def reach_of(first: int, rows: int) -> Tensor:
    return torch.tensor([math.ceil(0.5 * math.sqrt(first + row + 1)) for row in range(rows)])


@pytest.mark.parametrize(("q_len", "kv_len", "first"), [(60, 60, 0), (1, 60, 59), (9, 50, 41), (3, 3, 0)])
@pytest.mark.parametrize("window", [3, 8])
def test_superlinear_attention(q_len: int, kv_len: int, first: int, window: int) -> None:
    q, k, v = random(1, 4, q_len, 6), random(1, 2, kv_len, 6, seed=1), random(1, 2, kv_len, 5, seed=2)
    search = random(1, 4, q_len, 3, seed=3), random(1, 2, kv_len, 3, seed=4)
    mask, reach = am.zoo.superlinear(2, window=window), reach_of(first, q_len)
    choices = mask.choose(*search, q_offset=first, back=reach, ahead=reach)
    found = span_sum(q, k, v, mask, choices, search=search, q_offset=first, block=16)
    close(found, by_loops(q, k, v, search, first, 2, window))


def test_gradients_flow_through_the_weights_too() -> None:
    n = 40
    shapes = (1, 2, n, 6), (1, 1, n, 6), (1, 1, n, 5), (1, 2, n, 3), (1, 1, n, 3)
    inputs = [random(*shape, seed=seed, grad=True) for seed, shape in enumerate(shapes)]
    q, k, v, search_q, search_k = inputs
    mask, reach = am.zoo.superlinear(3, window=3), reach_of(0, n)
    choices = mask.choose(search_q, search_k, back=reach, ahead=reach)
    found = span_sum(q, k, v, mask, choices, search=(search_q, search_k))
    expected = by_loops(q, k, v, (search_q, search_k), 0, 3, 3)
    close(found.detach(), expected.detach())
    mine = torch.autograd.grad(found.square().sum(), inputs)
    theirs = torch.autograd.grad(expected.square().sum(), inputs)
    for one, other in zip(mine, theirs, strict=True):
        close(one, other)
    assert theirs[3].abs().max() > 0


def test_one_span_is_attention_under_the_mask() -> None:
    q = random(2, 2, 50, 6)
    mask = am.compile("causal & (window(3) | spans(top(1, blocks(1, scale=sqrt)), back=4))")
    choices = mask.choose(q, q)
    close(am.programs.span_sum(q, q, q, mask, choices), am.attention(q, q, q, mask, choices=choices))
    seen = pairs(50, 50, lambda i, j: j <= i)
    close(
        am.programs.span_sum(q, q, q, mask, choices)[:, :, :1], softmax_attention(q, q, q, seen)[0][:, :, :1]
    )


@pytest.mark.parametrize(
    "text",
    [
        "causal & topk_blocks(2)",
        "causal",
        "causal & spans(top(2, blocks(4)))",
        "causal & spans(top(2, blocks(1, q_block=4)))",
        "causal & spans(top(2, blocks(1, heads=sum)))",
        "causal & spans(top(2, blocks(1, norm=softmax)))",
        "causal & spans(top(2, blocks(1))) & spans(top(1, blocks(1)))",
    ],
)
def test_a_sentence_for_other_masks(text: str) -> None:
    q = random(1, 2, 20, 6)
    mask = am.compile(text)
    with pytest.raises(am.MaskError, match="spans around single keys"):
        span_sum(q, q, q, mask, mask.choose(q, q))


def test_a_sentence_for_other_queries() -> None:
    q = random(1, 2, 20, 6)
    mask = am.compile("causal & spans(top(2, blocks(1)))")
    choices = mask.choose(q, q)
    with pytest.raises(am.MaskError, match="not by queries"):
        span_sum(q, q, q, mask, choices, search=(q[:, :, :9], q))
