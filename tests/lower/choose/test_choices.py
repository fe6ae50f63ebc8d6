"""What can be done with choices: attention on every path, keeping them, freezing them, measuring them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.attention.flex_attention import flex_attention

import attnmask as am
from attnmask.lower.choose import gates

Tensor = torch.Tensor
# One mask for each way of lowering: pairs of blocks, a row for each query, lines, clusters, given scores.
CLASSES = {
    "blocks": "causal & (window(20) | sink(4) | topk_blocks(2, block=32, q_block=32))",
    "tokens": "causal & top(2, blocks(16), among=k // 16 < q // 16, count=same(i // 16))",
    "lines": "causal & vertical_slash(20, 30, rows=16, sinks=4, local=8)",
    "clusters": "causal & clusters(centroids) | diagonal",
    "given": "causal & (diagonal | gate(scores, block=64, q_block=64)) with s + bias[h, k]",
}


def inputs(
    heads: int = 4, kv_heads: int = 2, length: int = 200, dim: int = 16, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(length + heads)
    q, k, v = (torch.randn(2, n, length, dim, dtype=dtype) for n in (heads, kv_heads, kv_heads))
    return q, k, v


def named(text: str, q: Tensor, k: Tensor) -> dict[str, Any]:
    units = -(-q.shape[2] // 64), -(-k.shape[2] // 64)
    every: dict[str, Any] = {
        "centroids": torch.randn(1, 6, q.shape[3], dtype=q.dtype),
        "scores": torch.randn(2, q.shape[1], *units),
        "bias": torch.randn(q.shape[1], k.shape[2]),
    }
    return {name: value for name, value in every.items() if name in text}


def plain(q: Tensor, k: Tensor, v: Tensor, seen: Tensor, bias: Tensor | None = None) -> Tensor:
    """Softmax attention over `seen` [B, H, Q, K]; rows without keys give 0."""
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
    scores = q @ k.mT / math.sqrt(q.shape[-1])
    if bias is not None:
        scores = scores + bias[:, None]
    weights = scores.masked_fill(~seen, -1e30).softmax(-1) * seen.any(-1, keepdim=True)
    out: Tensor = weights @ v
    return out


@pytest.mark.parametrize("name", CLASSES)
def test_all_paths_give_what_the_frozen_mask_says(name: str) -> None:
    text = CLASSES[name]
    q, k, v = inputs()
    mask, length = am.compile(text), q.shape[2]
    given = named(text, q, k)
    choices = mask.choose(q, k, **given)
    dense = torch.from_numpy(mask.freeze(choices).dense(length, batch=2, heads=4))
    expected = plain(q, k, v, dense, given.get("bias"))
    block_mask = mask.block_mask(length, block=64, choices=choices)
    score_mod = None
    if "bias" in given:
        bias: Tensor = given["bias"]

        def score_mod(s: Tensor, b: Tensor, h: Tensor, q_at: Tensor, k_at: Tensor) -> Tensor:
            return s + bias[h, k_at]

    eager = flex_attention(q, k, v, score_mod=score_mod, block_mask=block_mask, enable_gqa=True)
    paths = {"eager": eager}
    for backend in ("flex", "tiled"):
        paths[backend] = am.attention(
            q, k, v, mask, choices=choices, enable_gqa=True, backend=backend, block=64
        )
    for path, out in paths.items():
        torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5, msg=path)


@pytest.mark.parametrize("name", ["blocks", "tokens", "lines", "clusters"])
def test_gradients_flow_through_attention_and_not_through_the_choice(name: str) -> None:
    text = CLASSES[name]
    q, k, v = (x.requires_grad_() for x in inputs(dtype=torch.float64))
    mask = am.compile(text)
    choices = mask.choose(q, k, **named(text, q, k))
    seen = torch.from_numpy(mask.freeze(choices).dense(q.shape[2], batch=2, heads=4))
    out = am.attention(q, k, v, mask, choices=choices, enable_gqa=True)
    found = torch.autograd.grad(out.square().sum(), (q, k, v))
    expected = torch.autograd.grad(plain(q, k, v, seen).square().sum(), (q, k, v))
    for mine, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, theirs)


def test_gradients_reach_scores_that_are_given() -> None:
    """DMA trains its bias through the score; which keys are chosen by it has no gradient."""
    q, k, v = inputs(heads=2, kv_heads=1, dtype=torch.float64)
    bias = torch.randn(2, 1, 1, k.shape[2], dtype=torch.float64, requires_grad=True)
    mask = am.zoo.dma(n=9, group=2)
    choices = mask.choose(q, k, bias=bias)
    out = am.attention(q, k, v, mask, choices=choices, enable_gqa=True)
    (found,) = torch.autograd.grad(out.square().sum(), bias)
    seen = torch.from_numpy(mask.freeze(mask.choose(q, k, bias=bias.detach())).dense(200, batch=2, heads=2))
    scores = q @ k.repeat_interleave(2, 1).mT / 4 + bias[:, :, 0, None]
    weights = scores.masked_fill(~seen, -1e30).softmax(-1)
    (expected,) = torch.autograd.grad((weights @ v.repeat_interleave(2, 1)).square().sum(), bias)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-7)


def test_choosing_twice_gives_the_same() -> None:
    q, k, _ = inputs()
    for text in CLASSES.values():
        mask, given = am.compile(text), named(text, q, k)
        first, second = (mask.freeze(mask.choose(q, k, **given)) for _ in range(2))
        assert first == second


def test_larger_sets_are_packed_into_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    q, k, v = inputs()
    mask = am.compile("causal & top(5, blocks(2), among=k // 2 < q // 2, count=same(i // 2))")
    choices = mask.choose(q, k)
    dense = mask.freeze(choices).dense(200, batch=2, heads=4)
    out = am.attention(q, k, v, mask, choices=choices, enable_gqa=True)
    monkeypatch.setattr(gates, "_MOST_BYTES", 0)
    np.testing.assert_array_equal(mask.freeze(choices).dense(200, batch=2, heads=4), dense)
    torch.testing.assert_close(am.attention(q, k, v, mask, choices=choices, enable_gqa=True), out)


# ---- keeping -----------------------------------------------------------------------------------------


def test_choices_serve_other_layers_and_combine() -> None:
    q, k, v = inputs()
    other_q, other_k, _ = inputs(heads=4, kv_heads=2, length=200)
    mask = am.compile("causal & (diagonal | topk_blocks(2, block=16, q_block=16))")
    kept, later = mask.choose(q, k), mask.choose(other_q.flip(2), other_k.flip(2))
    dense = [mask.freeze(c).dense(200, batch=2, heads=4) for c in (kept, later, kept & later, kept | later)]
    np.testing.assert_array_equal(dense[2], dense[0] & dense[1])
    np.testing.assert_array_equal(dense[3], dense[0] | dense[1])
    out = am.attention(other_q, other_k, v, mask, choices=kept, enable_gqa=True)
    torch.testing.assert_close(
        out, plain(other_q, other_k, v, torch.from_numpy(dense[0])), rtol=1e-4, atol=1e-5
    )


def test_one_set_for_all_queries_serves_later_steps() -> None:
    """SnapKV: keys chosen from the prompt; keys that come later are not in the set."""
    q, k, _ = inputs(length=60)
    mask = am.compile("causal & (recent(4) | top(9, probe(16, heads=group_mean)))")
    kept = mask.choose(q, k)
    step = mask.block_mask(1, 70, choices=kept, q_offset=69)
    zero = torch.zeros((), dtype=torch.int)
    seen = step.mask_mod(zero, zero, zero, torch.arange(70))
    chosen = set(torch.nonzero(seen).flatten().tolist()) - set(range(66, 70))
    assert len(chosen) == 9
    assert max(chosen) < 60


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda mask, other, q, k: mask.block_mask(200, choices=other.choose(q, k)), "other rules"),
        (lambda mask, other, q, k: mask.choose(q, k) & other.choose(q, k), "different rules"),
        (
            lambda mask, other, q, k: mask.block_mask(100, 200, choices=mask.choose(q, k)),
            "made for 200 queries",
        ),
        (lambda mask, other, q, k: mask.block_mask(200, heads=3, choices=mask.choose(q, k)), "4 heads"),
        (lambda mask, other, q, k: mask.block_mask(200, batch=3, choices=mask.choose(q, k)), "2 batch rows"),
    ],
)
def test_choices_that_do_not_fit_are_refused(make: Any, says: str) -> None:
    q, k, _ = inputs()
    mask, other = (am.compile(f"causal & top({n}, blocks(16))") for n in (2, 3))
    with pytest.raises(am.MaskError, match=says):
        make(mask, other, q, k)


# ---- measuring ---------------------------------------------------------------------------------------


def test_quality_is_what_plain_softmax_says() -> None:
    q, k, _ = inputs(dtype=torch.float64)
    mask = am.compile("causal & (window(9) | topk_blocks(2, block=16, q_block=16))")
    choices = mask.choose(q, k)
    quality = mask.quality(q, k, choices, rows=200, block=32)
    seen = torch.from_numpy(mask.freeze(choices).dense(200, batch=2, heads=4))
    causal = torch.ones(200, 200, dtype=torch.bool).tril()
    weights = (q @ k.repeat_interleave(2, 1).mT / 4).masked_fill(~causal, -torch.inf).softmax(-1)
    recall = (weights * seen).sum(-1)
    np.testing.assert_allclose(quality.recall, recall.mean(-1))
    np.testing.assert_allclose(quality.least_recall, recall.amin(-1))
    np.testing.assert_allclose(quality.chosen_density, seen.sum((-1, -2)) / causal.sum())
    tiles = mask.freeze(choices).tiles(200, batch=2, heads=4, block=32)
    live = (tiles.full.counts + tiles.partial.counts).reshape(2, 4, -1).sum(-1)
    np.testing.assert_allclose(quality.tile_density, live * 32 * 32 / causal.sum().item())
    assert quality.empty_rows == [[0] * 4] * 2
    assert quality.estimator_flops == 2 * 8 * 13 * 13 * 16
    assert quality.queries == 200
    assert "recall of attention" in str(quality)
    assert quality.to_dict()["recall"] == quality.recall


def test_queries_of_a_large_call_are_sampled() -> None:
    q, k, _ = inputs()
    mask = am.compile("causal & (window(9) | topk_blocks(2, block=16, q_block=16))")
    whole, some = mask.quality(q, k, rows=200), mask.quality(q, k, rows=50)
    assert some.queries == 50
    np.testing.assert_allclose(some.recall, whole.recall, atol=0.15)
    assert some.tiles_per_row == whole.tiles_per_row


def test_everything_chosen_recalls_everything() -> None:
    q, k, _ = inputs()
    quality = am.compile("causal & topk_blocks(99, block=16, q_block=16) | causal & window(32)").quality(q, k)
    assert min(map(min, quality.recall)) > 0.999


def test_static_masks_have_no_quality() -> None:
    q, k, _ = inputs()
    with pytest.raises(am.MaskError, match="chooses nothing"):
        am.library.causal.quality(q, k)


def test_frozen_masks_combine_under_names_of_their_own() -> None:
    q, k, _ = inputs()
    mask = am.compile(CLASSES["blocks"])
    one, other = (mask.choose(x, k) for x in (q, -q))
    first = mask.freeze(one)
    with pytest.raises(am.MaskError, match="different tables") as caught:
        first & mask.freeze(other)
    assert caught.value.hint == "frozen masks take a name: freeze(choices, name=…)"
    second = mask.freeze(other, name="second")
    dense = [m.dense(200, batch=2, heads=4) for m in (first, second, first - second)]
    np.testing.assert_array_equal(dense[2], dense[0] & ~dense[1])
    assert dense[2].any()
    with pytest.raises(am.MaskError, match="letters, digits"):
        mask.freeze(one, name="a b")


def test_a_frozen_mask_is_for_its_call() -> None:
    q, k, _ = inputs()
    mask = am.compile(CLASSES["blocks"])
    frozen = mask.freeze(mask.choose(q, k))
    assert not frozen.chooses
    assert frozen.prove("causal", q_len=200, kv_len=200)
    assert (
        frozen.report(200, batch=2, heads=4, head_dim=16).pairs == frozen.dense(200, batch=2, heads=4).sum()
    )
    with pytest.raises(am.MaskError, match="made for"):
        frozen.tiles(201, batch=2, heads=4)
