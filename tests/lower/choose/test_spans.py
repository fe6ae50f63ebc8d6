"""Spans: the keys around the units that are chosen, against the definition, plain loops and dense attention."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch._dynamo.utils import counters

import attnmask as am
from attnmask.errors import MaskError
from tests.lower.choose.random_choices import Drawn
from tests.lower.choose.test_definition import compare


def draw(seed: int) -> Drawn:
    r, n = random.Random(seed), np.random.default_rng(seed)
    batch, kv_heads, group = r.choice([1, 2]), r.choice([1, 2]), r.choice([1, 3])
    heads, q_len, kv_len = kv_heads * group, r.choice([1, 5, 17, 33]), r.choice([1, 7, 20, 41])
    reach = [_reach(r, n, name, (batch, heads, q_len)) for name in ("near", "far")]
    given = {name: array for name, array in zip(("near", "far"), reach, strict=True) if array is not None}
    back, ahead = (name if name in given else str(r.choice([0, 1, 3, 50])) for name in ("near", "far"))
    block, q_block = r.choice(["1", "1", "2", "5", "(i + 3) // 4"]), r.choice(["1", "1", "4", "all"])
    among = r.choice(["", ", among=causal", ", among=all", ", among=(q - k) % 3 == 0"])
    how = r.choice(["each", "group_sum", "max"])
    score = f"blocks({block}, pool=max, q_block={q_block}, q_pool=first, heads={how})"
    text = f"spans(top({r.choice([1, 2, 3, 64])}, {score}{among}), back={back}, ahead={ahead})"
    text = r.choice(
        ["{}", "causal & {}", "causal & (sink(1) | {})", "~{}", "causal & {} & window(9)"]
    ).format(text)
    q, k = (
        n.integers(-2, 3, shape).astype(float)
        for shape in ((batch, heads, q_len, 4), (batch, kv_heads, kv_len, 4))
    )
    block_size = r.choice([(4, 4), (8, 4), (16, 16), (5, 7), (128, 128)])
    return Drawn(text, q, k, r.choice([0, 0, 3, 8]), given, {}, block_size)


def _reach(
    r: random.Random, n: np.random.Generator, name: str, call: tuple[int, ...]
) -> NDArray[np.int64] | None:
    """A reach for each query, head or batch row, or none: then it is a number in the text."""
    if r.random() < 0.4:
        return None
    shape = tuple(r.choice([1, size]) for size in call)
    return n.integers(0, 6, shape[r.choice([0, 2]) :] if shape[:2] == (1, 1) else shape)


@pytest.mark.parametrize("part", range(4))
def test_spans_are_what_the_definition_says(part: int) -> None:
    assert sum(compare(draw(seed)) for seed in range(part * 60, part * 60 + 60)) == 60


def superlinear(
    q: NDArray[np.float64], k: NDArray[np.float64], first: int, number: int, window: int, reach: list[int]
) -> NDArray[np.bool_]:
    """Superlinear attention in plain loops: anchors at square distances, spans around the best of them."""
    heads, q_len, kv_len = *q.shape[:2], k.shape[1]
    group, seen = heads // len(k), np.zeros((heads, q_len, kv_len), np.bool_)
    for h in range(heads):
        for row in range(q_len):
            i = first + row
            anchors = [i - s * s + 1 for s in range(1, i + 2) if i - s * s + 1 >= 0]
            anchors = [a for a in anchors if i - a >= window and a < kv_len]
            ranked = sorted(anchors, key=lambda a: (-float(q[h, row] @ k[h // group, a]), a))[:number]
            for j in range(min(i + 1, kv_len)):
                near = i - j < window
                around = any(a - reach[row] <= j <= a + reach[row] for a in ranked)
                seen[h, row, j] = near or around
    return seen


@pytest.mark.parametrize(
    ("q_len", "kv_len", "first"),
    [(1, 1, 0), (2, 2, 0), (5, 5, 0), (40, 40, 0), (130, 130, 0), (1, 90, 89), (7, 60, 53), (9, 20, 40)],
)
@pytest.mark.parametrize("window", [1, 3, 8])
def test_superlinear_attention(q_len: int, kv_len: int, first: int, window: int) -> None:
    n = np.random.default_rng(q_len + window)
    shapes = (1, 4, q_len, 4), (1, 2, kv_len, 4)
    q, k = (n.integers(-2, 3, shape).astype(float) for shape in shapes)
    mask = am.zoo.superlinear(2, window=window)
    reach = [math.ceil(0.5 * math.sqrt(first + row + 1)) for row in range(q_len)]
    choices = mask.choose(q, k, q_offset=first, back=np.array(reach), ahead=np.array(reach))
    found = mask.freeze(choices).dense(q_len, kv_len, heads=4, q_offset=first)[0]
    np.testing.assert_array_equal(found, superlinear(q[0], k[0], first, 2, window, reach))


def test_attention_over_spans_is_the_same_on_all_paths_and_needs_one_kernel() -> None:
    mask = am.compile("causal & (diagonal | spans(top(3, blocks(4)), back=reach, ahead=7))")
    graphs = []
    for seed in range(3):
        torch.manual_seed(seed)
        q, k, v = (torch.randn(2, heads, 200, 16) for heads in (4, 2, 2))
        choices = mask.choose(q, k, reach=torch.arange(200) // (9 + seed))
        seen = torch.from_numpy(mask.freeze(choices).dense(200, batch=2, heads=4))
        expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=seen, enable_gqa=True)
        for backend in ("flex", "tiled"):
            out = am.attention(q, k, v, mask, choices=choices, enable_gqa=True, backend=backend, block=64)
            torch.testing.assert_close(out, expected, rtol=1e-4, atol=1e-5)
        graphs.append(counters["stats"]["unique_graphs"])
    assert graphs[0] == graphs[1] == graphs[2]


def test_long_spans_make_full_tiles() -> None:
    q, k = torch.zeros(1, 1, 512, 8), torch.zeros(1, 1, 512, 8)
    mask = am.compile("spans(top(1, blocks(64, q_block=64), among=all), ahead=300)")
    found = mask.block_mask(512, choices=mask.choose(q, k))
    # Of equal scores the first: its span ends at key 63 + 300, which is in the middle of the third tile.
    assert found.full_kv_num_blocks is not None
    assert found.full_kv_num_blocks.tolist() == [[[2, 2, 2, 2]]] and found.kv_num_blocks.tolist() == [
        [[1] * 4]
    ]


def test_no_truth_value_for_every_pair_is_kept() -> None:
    q, k = torch.randn(1, 2, 2048, 8), torch.randn(1, 1, 2048, 8)
    choices = am.compile("causal & spans(top(3, blocks(1)), back=9)").choose(q, k)
    assert choices.nbytes == 3 * 2 * 2048 * 3 * 4


REFUSED = {
    "causal & spans(top_p(0.5, blocks(64, norm=softmax)))": "'units' takes a choice of a number of units in each row",
    "causal & spans(top(n, blocks(64)))": "'units' takes a choice of a number of units in each row",
    "causal & spans(top(3, blocks(64), over=head))": "'units' takes a choice of a number of units in each row",
    "causal & spans(top(3, blocks(64), count=sink(1)))": "'units' takes a choice of a number of units in each row",
    "causal & spans(causal)": "'units' takes a choice of a number of units in each row",
    "causal & spans(top(65, blocks(64)))": "spans are of 64 units at most",
    "causal & spans(top(3, blocks(64)), back=-1)": "'back' must be a whole number from 0, not -1",
    "causal & spans(top(3, blocks(64)), ahead=1.5)": "'ahead' must be a whole number from 0, not 1.5",
    "causal & spans(top(3, blocks(64)), ahead=causal)": "'ahead' takes a whole number from 0",
}


@pytest.mark.parametrize("text", REFUSED)
def test_a_sentence_for_what_has_no_spans(text: str) -> None:
    with pytest.raises(MaskError, match=REFUSED[text]):
        am.compile(text)


def test_a_sentence_for_a_reach_that_does_not_fit() -> None:
    q = torch.randn(1, 2, 20, 8)
    mask = am.compile("causal & spans(top(2, blocks(1)), back=r)")
    for reach, sentence in (
        (torch.ones(19), "does not broadcast to"),
        (torch.ones(1, 1, 1, 20), "does not broadcast to"),
        (torch.full((20,), -1), "whole numbers from 0"),
        (torch.full((20,), 0.5), "whole numbers from 0"),
        (torch.full((20,), torch.nan), "NaN or infinity"),
    ):
        with pytest.raises(MaskError, match=sentence):
            mask.choose(q, q, r=reach)
    with pytest.raises(MaskError, match="follow each other"):
        am.compile("spans(top(2, blocks(i % 3), among=all))").choose(q, q)
    with pytest.raises(MaskError, match="'r' must be a whole number"):
        mask.bind(r=-2)
    assert str(mask.bind(r=2)) == "k <= q & spans(top(2, blocks(1)), back=2)"


def test_kept_spans_serve_their_call_and_no_other() -> None:
    q, k, v = (torch.randn(1, 2, 20, 8) for _ in range(3))
    one = am.compile("causal & spans(top(2, blocks(1), among=all), back=1)")
    kept = one.choose(q[:, :, :1], k)
    am.attention(q[:, :, :1], k, v, one, choices=kept, q_offset=19)  # a later step
    mask = am.compile("causal & spans(top(2, blocks(1, q_block=all), among=all), back=r)")
    kept = mask.choose(q, k, r=torch.arange(20))
    with pytest.raises(MaskError, match="choose again"):
        mask.block_mask(20, 40, choices=kept, q_offset=20)
    with pytest.raises(MaskError, match="spans cannot be combined"):
        kept & kept
    for_all = am.compile("causal & spans(top(2, blocks(1, q_block=all), among=all), back=3)")
    kept = for_all.choose(q, k)
    assert for_all.block_mask(20, 40, choices=kept, q_offset=20).kv_num_blocks.tolist() == [[[1], [1]]]
