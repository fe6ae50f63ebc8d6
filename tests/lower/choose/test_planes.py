"""Units that differ between batch rows and heads, against the definition."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch

import attnmask as am
from attnmask.errors import MaskError
from tests.lower.choose.random_choices import Drawn
from tests.lower.choose.test_definition import compare, defined

# Each with the heads that may share a set: where units differ by head, those of a set must have the same.
SCORES = {
    "blocks({u}, pool=max, q_block={v}, q_pool=first)": "each",
    "blocks({u}, pool=concat(max, mean), q_block={v}, q_pool=concat(first, mean))": "each",
    "blocks({u}, pool=bounds, q_block={v}, heads=group_sum)": "group",
    "blocks({u}, pool=attention, q_block={v}, norm=softmax, heads=group_max)": "group",
    "exact({u}, q_block={v})": "each",
    "exact({u}, q_block={v}, reduce=max, norm=none, heads=group_mean)": "group",
    "probe(4, block={u})": "each",
    "given(g, {u}, q_block={v})": "each",
    "blocks({u}, q_block={v}, heads=sum)": "all",
}
SELECTORS = (
    "top(2, {s}{t})",
    "top(t, {s}{t})",
    "top(ratio=0.4, score={s}{t})",
    "above(0.1, {s}{t})",
    "top(2, {s}, over=head{t})",
    "top(2, {s}, over=column{t})",
    "top(3, {s}, over=all{t})",
    "spans(top(2, {s}{t}), back=1, ahead=far)",
)


def draw(seed: int) -> Drawn:
    r, n = random.Random(seed), np.random.default_rng(seed)
    batch, kv_heads, group = 2, r.choice([1, 2]), r.choice([1, 2])
    heads, q_len, kv_len, q_offset = (
        kv_heads * group,
        r.choice([1, 9, 20]),
        r.choice([5, 16, 31]),
        r.choice([0, 0, 3]),
    )
    score = r.choice(list(SCORES))
    by = r.choice(["b", "h", "bh"])
    shared = {"each": 1, "group": group, "all": heads}[SCORES[score]]
    tables = {"label": _labels(r, n, by, batch, heads, shared, q_offset + max(q_len, kv_len))}
    indices = f"{', '.join(by)}, i"
    unit = r.choice(["label[{i}]", "(label[{i}] + i) // 3", "i // 4 + {h}"])
    unit = unit.format(i=indices, h="b" if by == "b" else f"h // {shared}")
    if unit.startswith("i //") and "b" in by and by != "b":
        unit += " + b"
    given: dict[str, Any] = {}
    v = r.choice(["1", "4", "all", unit])
    selector = r.choice([s for s in SELECTORS if "over=all" not in s or by == "b"])
    if selector.startswith("spans") and "label" in unit:
        unit = unit.replace("label", "sorted")
        tables = {"sorted": np.sort(tables["label"], -1), "label": tables["label"]}
    among = r.choice(["", ", among=causal", ", among=all", ", among=(q + h) % 3 != 0", ", among=k < K - B"])
    text = selector.format(s=score.format(u=unit, v=v), t=among)
    if "top(t," in text:
        given["t"] = n.integers(1, 4, heads // shared)
    if "far" in text:
        given["far"] = n.integers(0, 4, (batch, heads, q_len))
    text = r.choice(["{}", "causal & ({})", "~({})", "sink(1) | ({})"]).format(text)
    tables = {name: table for name, table in tables.items() if name in text}
    exact = "q_pool=first)" in text or "given(" in text
    shapes = (batch, heads, q_len, 4), (batch, kv_heads, kv_len, 4)
    q, k = (n.integers(-2, 3, shape).astype(float) if exact else n.standard_normal(shape) for shape in shapes)
    drawn = Drawn(text, q, k, q_offset, given, tables, r.choice([(4, 4), (8, 4), (16, 16), (5, 7)]))
    return _with_scores(drawn, n) if "given(g" in text else drawn


def _labels(
    r: random.Random, n: np.random.Generator, by: str, batch: int, heads: int, shared: int, length: int
) -> Any:
    shape = [{"b": batch, "h": heads // shared}[axis] for axis in by]
    labels = n.integers(0, r.choice([2, 5]), (*shape, length))
    return np.repeat(labels, shared, axis=by.index("h")) if "h" in by else labels


def _with_scores(drawn: Drawn, n: np.random.Generator) -> Drawn:
    """With as many scores as the definition asks for: it says how many there must be."""
    for rows in range(1, 30):
        for units in range(1, 30):
            scores = n.integers(-2, 6, (2, drawn.q.shape[1], rows, units)).astype(float)
            drawn.given["g"] = scores
            if not isinstance(defined(drawn), MaskError):
                return drawn
    raise AssertionError(drawn.text)


@pytest.mark.parametrize("part", range(6))
def test_units_of_rows_and_heads(part: int) -> None:
    compared = sum(compare(draw(seed)) for seed in range(part * 30, part * 30 + 30))
    assert compared >= 20


def test_documents_of_each_batch_row() -> None:
    """What every row chooses is what it would choose alone, with its own table."""
    torch.manual_seed(0)
    q, k, v = (torch.randn(3, heads, 200, 16) for heads in (4, 2, 2))
    ids = torch.sort(torch.randint(0, 6, (3, 200)), -1).values
    text = "causal & (diagonal | top(2, blocks(doc)))"
    mask = am.compile(text, doc=ids)
    together = am.attention(q, k, v, mask, enable_gqa=True)
    for row in range(3):
        alone = am.compile(text, doc=ids[row])
        mine = slice(row, row + 1)
        out = am.attention(q[mine], k[mine], v[mine], alone, enable_gqa=True)
        torch.testing.assert_close(out, together[mine])


@pytest.mark.parametrize(
    ("heads", "kv_heads", "proxy"), [(8, 4, 4), (8, 2, 2), (8, 2, 4), (12, 4, 4), (6, 3, 3)]
)
@pytest.mark.parametrize("score", ["blocks({u}, pool=max, q_block=1, proxy={p})", "exact({u}, proxy={p})"])
def test_proxies_of_heads_with_units_of_their_own(heads: int, kv_heads: int, proxy: int, score: str) -> None:
    n = np.random.default_rng(proxy)
    label = np.repeat(n.integers(0, 4, (heads // proxy, 40)), proxy, axis=0)
    q, k = n.standard_normal((1, heads, 9, 4)), n.standard_normal((1, kv_heads, 20, 4))
    text = f"top(2, {score.format(u='label[h, i]', p=proxy)}, among=all)"
    even = not (heads // kv_heads) % proxy or not proxy % (heads // kv_heads)
    assert compare(Drawn(text, q, k, 0, {}, {"label": label}, (8, 8))) is even


def test_heads_that_share_a_set_have_the_same_numbers_of_units_too() -> None:
    """Units of queries of one shape, numbered from elsewhere on, are not the same."""
    q = torch.randn(1, 2, 20, 8)
    mask = am.compile("top(2, blocks(4, q_block=i // 4 + 3 * h, heads=sum))")
    with pytest.raises(MaskError, match="the same units"):
        mask.choose(q, q)
    given = am.compile("above(0, given(g, label[h, i], q_block=1))", label=np.arange(40).reshape(2, 20) % 5)
    with pytest.raises(MaskError, match="scores are"):
        given.choose(q, q, g=torch.ones(1, 3, 20, 5))
    with pytest.raises(MaskError, match="cannot share a proxy"):
        am.compile("top(1, blocks(8, proxy=2, heads=max))").choose(q[:, :1], q[:, :1])


@pytest.mark.parametrize("call", [{"batch": 3}, {"heads": 4}])
def test_choices_do_not_serve_rows_and_heads_with_units_of_their_own(call: dict[str, int]) -> None:
    torch.manual_seed(0)
    q, k = torch.randn(1, 2, 32, 8), torch.randn(1, 2, 32, 8)
    unit = "(i + 4 * b) // 8" if "batch" in call else "i // (h + 4)"
    mask = am.compile(f"top(1, blocks({unit}, q_block=all), among=all)")
    choices = mask.choose(q, k)
    with pytest.raises(MaskError, match=f"depend on {'B' if 'batch' in call else 'H'}"):
        mask.block_mask(32, choices=choices, batch=call.get("batch", 1), heads=call.get("heads", 2))
    single = am.compile("top(2, blocks(8, q_block=i // (h + 1)), among=all)")
    kept = single.choose(q[:, :, :1], k, q_offset=20)
    tiles = single.block_mask(1, 32, choices=kept, q_offset=23, block=8).kv_num_blocks
    assert tiles.shape[:2] == (1, 2)
    for offset in (20, 23):
        mod = single.block_mask(1, 32, choices=kept, q_offset=offset, block=8).mask_mod
        zero = torch.zeros(1, dtype=torch.int)
        seen = torch.broadcast_to(
            mod(zero, torch.arange(2)[:, None, None], zero, torch.arange(32)), (2, 1, 32)
        )
        assert seen.sum(-1).tolist() == [[16], [16]]


def test_numbers_far_apart_between_heads_are_refused() -> None:
    q = torch.randn(1, 4, 20, 8)
    with pytest.raises(MaskError, match="and there are 20 positions"):
        am.compile("top(2, blocks(8, q_block=i // 8 + h * 100000))").choose(q, q)


REFUSED = {
    "top(2, blocks(label[h, i], heads=sum))": "heads that share one choice must have the same units",
    "top(2, blocks(label[h, i]), over=all)": "heads that compete together must have the same units",
    "top(2, blocks(label[h, i]), over=row_heads)": "heads that compete together must have the same units",
    "top(2, blocks(label[h, i], pool=linear(w, mean)))": "linear pools need units that are the same",
    "top(top_p(0.5, exact(label[h, i])), blocks(label[h, i]))": "a number that another rule counts needs units",
}


@pytest.mark.parametrize("text", REFUSED)
def test_a_sentence_where_heads_must_have_the_same_units(text: str) -> None:
    q = torch.randn(1, 2, 20, 8)
    mask = am.compile(text, label=np.arange(40).reshape(2, 20) % 7)
    given: dict[str, Any] = {"w": torch.randn(8, 8)} if "linear" in text else {}
    with pytest.raises(MaskError, match=REFUSED[text]):
        mask.choose(q, q, **given)


def test_a_single_query_keeps_its_choice_whatever_its_unit_is() -> None:
    """Decoding with chunks of queries that are numbered apart in each batch row."""
    torch.manual_seed(1)
    ids = torch.tensor([[3] * 20 + [5] * 20, [5] * 20 + [3] * 20])
    q, k = torch.randn(2, 2, 1, 8), torch.randn(2, 1, 40, 8)
    mask = am.compile("top(2, blocks(4, q_block=part), among=all)", part=ids)
    kept = mask.choose(q, k, q_offset=10)
    first = mask.freeze(kept).dense(1, 40, batch=2, heads=2, q_offset=10)
    later = mask.block_mask(1, 40, choices=kept, q_offset=30).mask_mod
    at = torch.arange(2)[:, None, None, None], torch.arange(2)[:, None, None], torch.zeros(1, dtype=torch.int)
    seen = torch.broadcast_to(later(*at, torch.arange(40)), (2, 2, 1, 40))
    np.testing.assert_array_equal(seen.numpy(), first)
    assert first.sum() == 2 * 2 * 8
