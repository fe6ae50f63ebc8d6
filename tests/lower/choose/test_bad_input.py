"""What does not fit is said in one sentence, before any kernel runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import attnmask as am

Q, K = torch.randn(1, 4, 20, 8), torch.randn(1, 2, 20, 8)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("top(0, blocks(8))", "'n' must be a whole number from 1, not 0"),
        ("top(-2, blocks(8))", "'n' must be a whole number from 1, not -2"),
        ("top(2.5, blocks(8))", "'n' must be a whole number from 1, not 2.5"),
        ("top(2)", "there is no score to choose by"),
        ("top(2, 3)", "'score' takes a score map"),
        ("top(score=blocks(8))", "top takes one of n, ratio and ratio_causal"),
        ("top(2, blocks(8), ratio=0.5)", "top takes one of n, ratio and ratio_causal"),
        ("top(ratio=1.2, score=blocks(8))", "'ratio' must lie between 0 and 1, and is 1.2"),
        ("top_p(1.01, blocks(8, norm=softmax))", "'p' must lie between 0 and 1, and is 1.01"),
        ("top_p(-0.1, blocks(8, norm=softmax))", "'p' must lie between 0 and 1, and is -0.1"),
        ("top(2, blocks(0))", "'block' must be at least 1, not 0"),
        ("top(2, blocks(8, pool=median))", "'pool' takes mean, max"),
        ("top(2, blocks(8, heads=every))", "'heads' takes each"),
        ("top(2, blocks(8, scale=0))", "'scale' takes none, sqrt or a number"),
        ("top(2, blocks(causal))", "'block' takes a size"),
        ("top(2, blocks(8), over=rows)", "'over' takes row"),
        ("top(2, blocks(8), among=5)", "'among' takes a mask"),
        ("top(2, blocks(8), among=top(1, blocks(8)))", "must be known beforehand"),
        ("top(2, blocks(8), most=3)", "top has no parameter 'most'"),
        ("top(2, probe(8, width=2))", "'width' must be odd"),
        ("top(2, antidiag(8, 12))", "blocks of 12 are no multiple of the stride 8"),
        ("causal & blocks(8)", "a mask is expected here, not a score map"),
        ("top(2, blocks(8)) + 1", "a mask is expected here"),
        ("top(2, blocks(h))", "'block' takes a size"),
    ],
)
def test_texts_that_make_no_choice(text: str, says: str) -> None:
    with pytest.raises(am.MaskError) as caught:
        am.compile(text)
    assert says in caught.value.message
    assert caught.value.span is not None


def _nan(like: torch.Tensor) -> torch.Tensor:
    spoiled = like.clone()
    spoiled[0, 0, 3, 2] = torch.nan
    return spoiled


@pytest.mark.parametrize(
    ("text", "ask", "says"),
    [
        ("topk_blocks(2, block=4)", lambda m: m.choose(_nan(Q), K), "NaN or infinite"),
        ("topk_blocks(2, block=4)", lambda m: m.choose(Q, K * torch.inf), "NaN or infinite"),
        (
            "topk_blocks(2, block=4)",
            lambda m: am.attention(_nan(Q), K, K, m, enable_gqa=True),
            "NaN or infinite",
        ),
        ("topk_blocks(2, block=4)", lambda m: m.choose(Q[0], K), "q must be a tensor of floats"),
        ("topk_blocks(2, block=4)", lambda m: m.choose(Q, K.int()), "k must be a tensor of floats"),
        ("topk_blocks(2, block=4)", lambda m: m.choose([1], K), "q must be a tensor of floats"),
        ("topk_blocks(2, block=4)", lambda m: m.choose(Q, K[..., :4]), "differ in batch or head dimension"),
        ("topk_blocks(2, block=4)", lambda m: m.choose(Q[:, :3], K), "3 query heads are not a multiple of 2"),
        (
            "topk_blocks(2, block=4)",
            lambda m: m.choose(Q, K, q_offset=-1),
            "q_offset must be an integer from 0",
        ),
        ("topk_blocks(2, block=4)", lambda m: m.choose(Q, K, tau=1), "the mask reads no 'tau'"),
        ("topk_blocks(n, block=4)", lambda m: m.choose(Q, K), "'n' is not given"),
        ("topk_blocks(n, block=4)", lambda m: m.choose(Q, K, n=torch.ones(3)), "there are 4 heads"),
        (
            "topk_blocks(n, block=4)",
            lambda m: m.choose(Q, K, n=torch.ones(2, 2)),
            "one number, or one for each head",
        ),
        ("gate(g, block=4, q_block=4)", lambda m: m.choose(Q, K, g=torch.ones(5, 5)), "'g' has shape (5, 5)"),
        ("gate(g, block=4, q_block=4)", lambda m: m.choose(Q, K, g=torch.ones(1, 4, 5, 6)), "'g' has shape"),
        ("above(t, blocks(4))", lambda m: m.choose(Q, K, t=torch.tensor(torch.nan)), "'t' holds NaN"),
        ("gate(g, block=4, q_block=4)", lambda m: m.choose(Q, K, g="x"), "not an array of numbers"),
        (
            "top(2, blocks(4, pool=linear(w, mean)))",
            lambda m: m.choose(Q, K, w=torch.ones(3, 3)),
            "'w' has shape (3, 3)",
        ),
        ("top(2, blocks(4, pool=concat(max, min)))", lambda m: m.choose(Q, K), "16"),
        ("clusters(c)", lambda m: m.choose(Q, K, c=torch.ones(3, 5)), "'c' has shape (1, 3, 5)"),
        (
            "clusters(c)",
            lambda m: m.choose(Q, K, c=torch.ones(3, 5, 8)),
            "centroids are [4, 2 or 1, clusters, 8]",
        ),
        ("top_p(0.5, blocks(4))", lambda m: m.choose(Q, K), "scores that add up"),
        (
            "top_p(0.5, given(g, 4, q_block=4))",
            lambda m: m.choose(Q, K, g=-torch.ones(1, 1, 5, 5)),
            "negative",
        ),
        ("top(2, antidiag(4, 8))", lambda m: m.choose(Q, K, q_offset=3), "multiple of its stride 4"),
        ("top(2, blocks(i - 3))", lambda m: m.choose(Q, K), "units are numbered from 0"),
        ("topk_blocks(2, block=4)", lambda m: m.dense(20), "here are none"),
        ("topk_blocks(2, block=4)", lambda m: m.tiles(20), "here are none"),
        ("topk_blocks(2, block=4)", lambda m: m.block_mask(20), "here are none"),
        ("topk_blocks(2, block=4)", lambda m: m.mask_mod, "here are none"),
        ("topk_blocks(2, block=4)", lambda m: m.report(20), "here are none"),
        ("topk_blocks(2, block=4)", lambda m: m.reach(20, layers=1), "here are none"),
        ("topk_blocks(2, block=4)", lambda m: m.emit(), "here are none"),
        ("topk_blocks(2, block=4)", lambda m: m.tile_formula(), "chooses"),
    ],
)
def test_calls_that_do_not_fit(text: str, ask: Callable[[Any], object], says: str) -> None:
    mask = am.compile(text)
    with pytest.raises(am.MaskError) as caught:
        ask(mask)
    assert says in caught.value.message
