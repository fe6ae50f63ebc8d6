"""What readers found wrong, and what is refused since."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

import attnmask as am
from attnmask.ir.chosen import dense_with_choices
from attnmask.ir.domain import Domain
from tests.lower.choose.test_choices import plain

Tensor = torch.Tensor


def inputs(heads: int = 2, length: int = 128, batch: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    q, k, v = (torch.randn(batch, heads, length, 8, dtype=torch.float64) for _ in range(3))
    return q, k, v


@pytest.mark.parametrize(
    "text",
    [
        "where(top(1, blocks(32, q_block=32)), 1, 0) == 1",
        "causal & where(top(1, blocks(16, q_block=16)), 4, 64) > q - k",
    ],
)
def test_choices_inside_integers_differ_between_heads_too(text: str) -> None:
    q, k, v = inputs(heads=3, batch=2)
    mask = am.compile(text)
    choices = mask.choose(q, k)
    seen = torch.from_numpy(mask.freeze(choices).dense(128, batch=2, heads=3))
    torch.testing.assert_close(am.attention(q, k, v, mask, choices=choices), plain(q, k, v, seen))


@pytest.mark.parametrize("norm", ["softmax", "minmax", "rowmax"])
@pytest.mark.parametrize("heads", ["sum", "max", "group_sum"])
def test_candidates_of_a_set_are_those_of_all_its_heads(norm: str, heads: str) -> None:
    scored = f"blocks(8, q_block=8, norm={norm}, heads={heads})"
    mask = am.compile(f"top(2, {scored}, among=h == 0 | k < q)")
    torch.manual_seed(1)
    q, k = torch.randn(1, 4, 64, 8, dtype=torch.float64), torch.randn(1, 2, 64, 8, dtype=torch.float64)
    found = mask.freeze(mask.choose(q, k)).dense(64, batch=1, heads=4)
    domain = Domain(64, 64, 0, 1, 4)
    np.testing.assert_array_equal(
        found, dense_with_choices(mask.predicate, q.numpy(), k.numpy(), domain, {}, {})
    )


def test_choices_of_later_queries_are_not_for_earlier_ones() -> None:
    q, k, _ = inputs(length=512)
    mask = am.compile("top(2, blocks(64, q_block=64), among=causal)")
    later = mask.choose(q[:, :, :128], k, q_offset=384)
    with pytest.raises(am.MaskError, match="made for queries from 384"):
        mask.block_mask(128, 512, choices=later)
    shorter = mask.choose(q[:, :, :65], k[:, :, :65])
    with pytest.raises(am.MaskError, match="made for 65 queries"):
        mask.block_mask(128, 128, choices=shorter)
    with pytest.raises(am.MaskError, match="different calls"):
        mask.choose(q[:, :, :128], k, q_offset=128) | later


def test_tables_that_come_late_stand_around_a_choice() -> None:
    """Candidates are chosen without them; the mask is cut by them all the same."""
    q, k, v = inputs()
    cid = torch.randint(0, 3, (1, 2, 128))
    mask = am.compile(
        "causal & cid[b, h, q] == cid[b, h, k] & (diagonal | topk_blocks(2, block=16, q_block=16))"
    )
    choices = mask.choose(q, k, cid=cid)
    dense = mask.freeze(choices).dense(128, batch=1, heads=2)
    assert not dense[(cid[..., None] != cid[:, :, None]).numpy()].any()
    out = am.attention(q, k, v, mask, choices=choices)
    torch.testing.assert_close(out, plain(q, k, v, torch.from_numpy(dense)))


def test_numbers_may_be_bound() -> None:
    named = am.compile("causal & topk_blocks(n, block=32) | topp_blocks(p, block=32)")
    assert named.bind(n=3, p=1) == am.compile("causal & topk_blocks(3, block=32) | topp_blocks(1, block=32)")
    assert am.compile("topk_blocks(n)", n=2) == am.compile("topk_blocks(2)")
    for wrong in ({"n": 0}, {"n": -1}, {"p": 2}):
        with pytest.raises(am.MaskError, match="must"):
            named.bind(**wrong)


def test_density_of_a_complement_is_a_share() -> None:
    q, k, _ = inputs()
    quality = am.compile("causal & ~topk_blocks(1, block=16, q_block=16)").quality(q, k)
    assert all(0 < share <= 1 for row in quality.chosen_density for share in row)


Q, K, V = inputs()


def wrong(value: Any) -> Any:
    return value


@pytest.mark.parametrize(
    ("text", "ask", "says"),
    [
        ("top(2, blocks(i * i * i * i * i * i * i * i * i * i % 7))", lambda m: m.choose(Q, K), "64 bits"),
        ("top(2, blocks(label))", lambda m: m.bind(label=np.zeros(100, int)).choose(Q, K), "100 entries"),
        (
            "top(2, blocks(label))",
            lambda m: m.choose(Q, K, label=torch.zeros(128, dtype=torch.int)),
            "not bound",
        ),
        ("topk_blocks(n)", lambda m: m.choose(Q, K, n=-1), "whole numbers"),
        ("topk_blocks(n)", lambda m: m.choose(Q, K, n=2.5), "whole numbers"),
        ("topk_blocks(n)", lambda m: m.choose(Q, K, n=1e30), "whole numbers"),
        ("topk_blocks(n)", lambda m: m.choose(Q, K, n=1j), "not an array of numbers"),
        ("topp_blocks(p)", lambda m: m.choose(Q, K, p=1.5), "between 0 and 1"),
        (
            "top(top(2, blocks(16)), blocks(16), over=column)",
            lambda m: m.choose(Q, K),
            "nothing about columns",
        ),
        ("topk_blocks(2)", lambda m: m.choose(Q, K.float()), "torch.float32"),
        ("topk_blocks(2)", lambda m: m.choose(Q, K, q_offset=True), "q_offset must be an integer"),
        ("clusters(c)", lambda m: m.choose(Q, K, c=torch.zeros(1, 0, 8)), "has shape (1, 0, 8)"),
        ("topk_blocks(2)", lambda m: am.attention(Q, K, V, m, choices=wrong(5)), "this is int"),
        ("topk_blocks(2)", lambda m: m.block_mask(128, choices={}), "this is dict"),
        ("topk_blocks(2)", lambda m: m.freeze(None), "this is NoneType"),
        ("topk_blocks(2)", lambda m: m.quality(Q, K, 3), "this is int"),
        ("topk_blocks(2)", lambda m: m.quality(Q, K, scale="a"), "scale must be a number"),
        ("topk_blocks(2)", lambda m: m.quality(Q[:, :, :50], K, m.choose(Q, K)), "not of the call"),
        (
            "topk_blocks(2)",
            lambda m: am.attention(Q, K, V, am.library.causal, choices=m.choose(Q, K)),
            "chooses nothing",
        ),
    ],
)
def test_calls_that_do_not_fit(text: str, ask: Any, says: str) -> None:
    mask = am.compile(text)
    with pytest.raises(am.MaskError) as caught:
        ask(mask)
    assert says in caught.value.message


def test_scores_do_not_choose() -> None:
    with pytest.raises(am.MaskError, match="scores cannot depend on what is chosen"):
        am.compile("causal with where(topk_blocks(2), s, s + 1)")


def test_choices_print_on_a_line() -> None:
    text = repr(am.compile("causal & topk_blocks(2)").choose(Q, K))
    assert text.startswith("Choices(top(2, blocks(128")
    assert "\n" not in text
