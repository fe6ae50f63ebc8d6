"""Choices that are kept: for other layers, combined, in later steps of decoding, and where they do not fit."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import attnmask as am

Tensor = torch.Tensor
Bools = NDArray[np.bool_]


def vectors(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).standard_normal(shape))


def frozen(mask: am.Mask, q: Tensor, k: Tensor, **given: Any) -> Bools:
    """bool [B, Hq, Q, K]: what the mask sees in this call."""
    offset = k.shape[2] - q.shape[2]
    choices = mask.choose(q, k, q_offset=offset, **given)
    return mask.freeze(choices).dense(
        q.shape[2], k.shape[2], batch=q.shape[0], heads=q.shape[1], q_offset=offset
    )


def seen(mask: am.Mask, q: Tensor, k: Tensor, choices: Any) -> Bools:
    """The same for choices that were kept: where attention puts weight, in a call at the end of the keys."""
    unit_values = torch.eye(k.shape[2], dtype=k.dtype).expand(k.shape[0], k.shape[1], -1, -1).contiguous()
    weights = am.attention(
        q,
        k,
        unit_values,
        mask,
        choices=choices,
        q_offset=k.shape[2] - q.shape[2],
        enable_gqa=True,
        block=(8, 4),
    )
    found: Bools = (weights > 0).numpy()
    return found


KEPT = (
    "zoo.quest(2, 4)",
    "zoo.delta_pages(3, 1, 4)",
    "zoo.tidal_decode(6)",
    "zoo.snapkv(8, 4, 3, 1, 2)",
    "zoo.kinetics(1, 3, 4, 2)",
)


@pytest.mark.parametrize("q_len", [1, 9])
@pytest.mark.parametrize("text", KEPT)
def test_other_layers_attend_what_the_first_one_chose(text: str, q_len: int) -> None:
    mask = am.compile(text)
    q, k = vectors(1, 2, 4, q_len, 4), vectors(2, 2, 2, 30, 4)
    choices = mask.choose(q, k, q_offset=30 - q_len)
    first = frozen(mask, q, k)
    other_q, other_k, v = vectors(3, 2, 4, q_len, 4), vectors(4, 2, 2, 30, 4), vectors(5, 2, 2, 30, 4)
    assert (first != frozen(mask, other_q, other_k)).any(), "another layer would choose otherwise"
    found = am.attention(
        other_q, other_k, v, mask, choices=choices, q_offset=30 - q_len, enable_gqa=True, block=16
    )
    keys, values = (x.repeat_interleave(2, dim=1) for x in (other_k, v))
    logits = (other_q @ keys.mT / math.sqrt(4)).masked_fill(~torch.from_numpy(first), -torch.inf)
    torch.testing.assert_close(found, logits.softmax(-1) @ values)


@pytest.mark.parametrize("text", ["zoo.quest(3, 4)", "zoo.tidal_decode(9)", "zoo.snapkv(12, 4, 3, 1, 2)"])
def test_sets_of_two_layers_are_intersected_and_united(text: str) -> None:
    mask = am.compile(text)
    q1, k1, q2, k2 = (vectors(seed, 2, 4, 30, 4) for seed in range(4))
    c1, c2 = mask.choose(q1, k1), mask.choose(q2, k2)
    d1, d2 = frozen(mask, q1, k1), frozen(mask, q2, k2)
    np.testing.assert_array_equal(seen(mask, q1, k1, c1 & c2), d1 & d2)
    np.testing.assert_array_equal(seen(mask, q1, k1, c1 | c2), d1 | d2)
    assert ((d1 & d2) != (d1 | d2)).any()


def test_sets_are_combined_rule_by_rule() -> None:
    parts = [am.compile(f"causal & {part}") for part in ("top(2, blocks(4))", "top(3, exact(3, norm=none))")]
    both = am.compile("causal & (top(2, blocks(4)) ^ top(3, exact(3, norm=none)))")
    q1, k1, q2, k2 = (vectors(seed, 1, 2, 24, 4) for seed in range(4))
    (a1, b1), (a2, b2) = ([frozen(part, q, k) for part in parts] for q, k in ((q1, k1), (q2, k2)))
    c1, c2 = both.choose(q1, k1), both.choose(q2, k2)
    np.testing.assert_array_equal(seen(both, q1, k1, c1 & c2), (a1 & a2) ^ (b1 & b2))
    np.testing.assert_array_equal(seen(both, q1, k1, c1 | c2), (a1 | a2) ^ (b1 | b2))


def test_keys_that_came_after_the_prompt_are_not_chosen() -> None:
    mask = am.compile("zoo.snapkv(8, 4, 3, 1, 2)")
    q, k = vectors(1, 2, 4, 20, 4), vectors(2, 2, 2, 27, 4)
    choices = mask.choose(q, k[:, :, :20])
    prompt = frozen(mask, q, k[:, :, :20])[:, :, -1]
    for kv_len in (21, 27):
        for q_len in (1, 3):
            step = seen(mask, vectors(kv_len, 2, 4, q_len, 4), k[:, :, :kv_len], choices)
            for i in range(q_len):
                # The first of three queries may stand before the end of the prompt.
                past = min(kv_len - q_len + i + 1, 20)
                np.testing.assert_array_equal(step[:, :, i, :past], prompt[:, :, :past])
                assert not step[:, :, i, past:].any()


def test_a_static_part_moves_on_beside_a_set_that_is_kept() -> None:
    mask = am.compile("zoo.squeezed_attention(0.3, 2)")
    q, k, weights = vectors(1, 1, 2, 20, 4), vectors(2, 1, 1, 24, 4), vectors(3, 1, 2, 1, 20)
    choices = mask.choose(q, k[:, :, :20], weights=weights)
    step = seen(mask, vectors(4, 1, 2, 1, 4), k, choices)
    for h in range(2):
        expected = [j >= 22 or (j < 20 and weights[0, h, 0, j].item() > 0.3) for j in range(24)]
        assert step[0, h, 0].tolist() == expected


def test_pages_of_the_step_before_leave_out_a_page_that_began_since() -> None:
    mask = am.compile("top(2, blocks(4), among=all)")
    k = vectors(2, 1, 1, 13, 4)
    choices = mask.choose(vectors(1, 1, 2, 1, 4), k[:, :, :12], q_offset=11)
    before = frozen(mask, vectors(1, 1, 2, 1, 4), k[:, :, :12])
    after = seen(mask, vectors(3, 1, 2, 1, 4), k, choices)
    np.testing.assert_array_equal(after[..., :12], before)
    assert not after[..., 12].any()


def test_choices_of_another_mask_are_refused() -> None:
    q, k = vectors(1, 1, 2, 12, 4), vectors(2, 1, 2, 12, 4)
    choices = am.compile("zoo.quest(2, 4)").choose(q, k)
    other = am.compile("zoo.quest(3, 4)")
    with pytest.raises(am.MaskError, match="other rules"):
        am.attention(q, k, k, other, choices=choices)
    with pytest.raises(am.MaskError, match="other rules"):
        other.freeze(choices)
    with pytest.raises(am.MaskError, match="different rules"):
        choices & other.choose(q, k)


def test_choices_for_another_number_of_query_units_are_refused() -> None:
    q, k = vectors(1, 1, 2, 12, 4), vectors(2, 1, 2, 12, 4)
    for text, message in (
        ("zoo.quest(2, 4)", "made for 7 queries from 0, and the call has 12"),
        ("zoo.biformer(i // 4, 1)", "made for 7 queries from 0, and the call has 12"),
    ):
        mask = am.compile(text)
        choices = mask.choose(q[:, :, :7], k)
        with pytest.raises(am.MaskError, match=message):
            am.attention(q, k, k, mask, choices=choices)


def test_choices_for_other_heads_or_batch_rows_are_refused() -> None:
    mask = am.compile("zoo.quest(2, 4)")
    q, k = vectors(1, 2, 4, 12, 4), vectors(2, 2, 4, 12, 4)
    choices = mask.choose(q, k)
    with pytest.raises(am.MaskError, match="2 batch rows, and the call has 1"):
        am.attention(q[:1], k[:1], k[:1], mask, choices=choices)
    with pytest.raises(am.MaskError, match="4 heads, and the call has 2"):
        am.attention(q[:, :2], k[:, :2], k[:, :2], mask, choices=choices)


def test_clusters_are_kept_for_their_own_lengths_alone() -> None:
    mask = am.compile("zoo.routing_transformer(3)")
    q, k, centroids = vectors(1, 1, 2, 12, 4), vectors(2, 1, 2, 12, 4), vectors(3, 2, 4, 4)
    choices = mask.choose(q, k, centroids=centroids)
    np.testing.assert_array_equal(
        seen(mask, vectors(4, 1, 2, 12, 4), k, choices), frozen(mask, q, k, centroids=centroids)
    )
    with pytest.raises(am.MaskError, match="made for 12 queries from 0"):
        am.attention(q[:, :, -1:], k, k, mask, choices=choices, q_offset=11)
    with pytest.raises(am.MaskError, match="clusters and spans cannot be combined"):
        choices | choices


@pytest.mark.parametrize(
    "first, second", [((12, 10), (12, 40)), ((1, 40), (12, 40)), ((12, 40), (9, 40))], ids=str
)
def test_sets_of_other_units_do_not_combine(first: tuple[int, int], second: tuple[int, int]) -> None:
    """One unit of keys, or of queries, is not all of them."""
    mask = am.compile("top(2, blocks(16))")
    c1, c2 = (
        mask.choose(vectors(1, 1, 2, q_len, 4), vectors(2, 1, 2, kv_len, 4))
        for q_len, kv_len in (first, second)
    )
    for one, other in ((c1, c2), (c2, c1)):
        with pytest.raises(am.MaskError, match=r"do not fit together|for different calls"):
            one | other
        with pytest.raises(am.MaskError, match=r"do not fit together|for different calls"):
            one & other
