"""What a second reader found wrong, and what is refused since."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import attnmask as am
from attnmask.ir.chosen import dense_with_choices
from attnmask.ir.domain import Domain
from attnmask.lower.choose.sets import tensors
from tests.lower.choose.random_choices import Drawn
from tests.lower.choose.test_definition import compare

Q, K = torch.randn(1, 4, 20, 8), torch.randn(1, 2, 20, 8)


def whole(text: str, heads: int = 2, kv_heads: int = 1, q_offset: int = 0, length: int = 20) -> Drawn:
    n = np.random.default_rng(len(text))
    q, k = (n.integers(-2, 3, (2, number, length, 4)).astype(float) for number in (heads, kv_heads))
    return Drawn(text, q, k, q_offset, {}, {}, (8, 8))


@pytest.mark.parametrize("over", ["head", "all", "row_heads"])
def test_rows_without_queries_bring_no_amount(over: str) -> None:
    """Units of queries may leave numbers out; nobody asks for those."""
    score = f"blocks(4, pool=max, q_block={{}}, q_pool=first), over={over}"
    for unit in ("3 * i", "i // 4 * 5", "where(i < 10, 0, 7)"):
        assert compare(whole(f"top(2, {score.format(unit)})"))
        assert compare(whole(f"causal & top(1, {score.format(unit)})", q_offset=3))


@pytest.mark.parametrize(
    "among", ["causal", "k < K - Q", "(q + k) % 3 != 0 | k // 4 == 1", "own[q - 6] == k % 2"]
)
@pytest.mark.parametrize("length", [1, 2, 3, 20])
def test_queries_that_begin_in_the_middle_of_a_unit(among: str, length: int) -> None:
    drawn = whole(f"top(2, blocks(4, pool=max, q_block=8, q_pool=first), among={among})", 2, 1, 6, length)
    own = {"own": np.arange(length) % 2} if "own" in among else {}
    assert compare(replace(drawn, tables=own))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("crossing", ["keep", "drop"])
def test_a_share_of_whole_units_is_so_many(crossing: str, dtype: torch.dtype) -> None:
    """Ten blocks of the same weight, which floats do not add up to exactly."""
    q = torch.zeros(1, 1, 40, 8, dtype=dtype)
    for tenths in range(1, 11):
        mask = am.compile(f"top_p(0.{tenths % 10}, blocks(4, norm=softmax), crossing={crossing})")
        mask = am.compile("top_p(1, blocks(4, norm=softmax))") if tenths == 10 else mask
        seen = mask.freeze(mask.choose(q, q)).dense(40)
        assert (seen.sum(-1) == 4 * tenths).all()


@pytest.mark.parametrize(
    "kind", [float, np.float64, np.float32, torch.tensor, lambda p: torch.tensor(p).half()]
)
def test_shares_that_are_given_are_what_they_say(kind: Any) -> None:
    """Nine tenths of ten are nine, in whatever floats they come."""
    q, k = torch.zeros(1, 1, 1, 4, dtype=torch.float64), torch.zeros(1, 1, 10, 4, dtype=torch.float64)
    score = "blocks(1, q_block=1, norm=softmax)"
    for tenths in range(1, 10):
        if kind(0.5) is not None and getattr(kind(0.1), "dtype", None) == torch.float16 and tenths != 5:
            continue  # the others are no tenths in float16
        for text, taken in (
            (f"top(ratio=p, score={score})", tenths),
            (f"top_p(p, {score})", tenths),
            (f"top_p(p, {score}, crossing=drop)", tenths),
        ):
            mask = am.compile(text)
            found = mask.freeze(mask.choose(q, k, p=kind(tenths / 10))).dense(1, 10)
            assert found.sum() == taken, (text, tenths)


def test_heads_may_share_the_number_that_a_rule_counts() -> None:
    counted = "top_p(0.5, exact(4, heads=group_sum, reduce=sum))"
    assert compare(whole(f"top({counted}, blocks(4, pool=max, q_pool=first))", heads=4, kv_heads=2))


@pytest.mark.parametrize("unit", ["i - i + 3", "0 * i + 1", "all"])
def test_one_unit_of_all_keys_may_have_any_number(unit: str) -> None:
    text = f"top(2, blocks({unit}, pool=max, q_pool=first))"
    assert compare(whole(text))
    mask = am.compile(text)
    assert am.compile(str(mask)) == mask


def test_clusters_of_other_queries_are_not_taken() -> None:
    mask = am.compile("causal & clusters(c)")
    choices = mask.choose(Q, K, c=torch.randn(1, 3, 8), q_offset=4)
    with pytest.raises(am.MaskError, match="made for 20 queries from 4"):
        mask.block_mask(20, choices=choices, q_offset=6)


def test_diagonals_say_nothing_about_the_candidates_beside_them() -> None:
    """They hold for keys up to the query, which is no term of the conjunction that they stand in."""
    diagonals = "top(3, probe(4, along=diagonals))"
    beside = am.compile(f"{diagonals} & top(2, blocks(4, q_block=4))")
    apart = am.compile(f"{diagonals} & top(2, blocks(4, q_block=4), among=all)")
    found, other = (mask.freeze(mask.choose(Q, K)).dense(20, heads=4) for mask in (beside, apart))
    np.testing.assert_array_equal(found, other)
    domain = Domain(20, 20, 0, 1, 4)
    defined = dense_with_choices(beside.predicate, Q.numpy(), K.numpy(), domain, {}, {})
    np.testing.assert_array_equal(found, defined)
    assert not defined[..., ~np.tri(20, dtype=bool)].any()
    assert beside.prove("causal").status == "proved for all lengths"


@pytest.mark.parametrize("text", ["{d}", "~{d}", "{d} ^ sink(3)", "causal & ({d} | window(2))"])
def test_diagonals_and_what_is_made_of_them(text: str) -> None:
    n = np.random.default_rng(0)
    q, k = n.standard_normal((2, 2, 33, 4)), n.standard_normal((2, 1, 40, 4))
    for offset in (0, 5):
        diagonals = "top(5, probe(4, along=diagonals, block=2))"
        assert compare(Drawn(text.format(d=diagonals), q, k, offset, {}, {}, (8, 8)))


def test_numbers_of_a_counted_rule_may_be_bound() -> None:
    mask = am.compile("top(top_p(p, exact(4)), blocks(4))").bind(p=0.5)
    assert mask == am.compile("top(top_p(0.5, exact(4)), blocks(4))")
    with pytest.raises(am.MaskError, match="'p' must lie between 0 and 1"):
        am.compile("top(top_p(p, exact(4)), blocks(4))").bind(p=2)


@pytest.mark.parametrize(
    "score",
    [
        "exact(4, q_block=4, heads=concat)",
        "exact(4, norm=none, reduce=max, heads=concat)",
        "compressed(4, kernel=4, stride=2, heads=concat)",
        "probe(5, block=4, heads=concat)",
        "probe(5, along=diagonals, heads=concat)",
    ],
)
def test_heads_side_by_side_make_one_set_in_every_score_map(score: str) -> None:
    n = np.random.default_rng(1)
    q, k = n.standard_normal((2, 4, 20, 4)), n.standard_normal((2, 2, 20, 4))
    assert compare(Drawn(f"top(2, {score}, among=all)", q, k, 0, {}, {}, (8, 8)))
    (found,) = am.compile(f"top(2, {score}, among=all)").choose(q, k).sets.values()
    assert tensors(found)[0].shape[1] == 1


REFUSED = {
    "blocks(none)": "'block' takes a size, a token function",
    "top(2, blocks(4, q_block=none))": "'q_block' takes a size",
    "top_p(none, blocks(4, norm=softmax))": "'p' takes a number from 0 to 1",
    "above(none, blocks(4))": "'t' takes a number",
    "clusters(none)": "'centroids' takes the name of an array",
    "top(2, given(none))": "'scores' takes the name of an array",
    "top(2, exact(4, stride=none))": "'stride' takes a positive integer",
    "top_p(0.5, blocks(4, norm=softmax), least=none)": "'least' takes a positive integer",
    "top(2, probe(none))": "'rows' takes a positive integer",
    "top(2, antidiag(none))": "'stride' takes a positive integer",
    "spans(none)": "'units' takes a choice",
    "top(2, blocks(4, pool=concat(bounds, mean)))": "bounds are a pool of keys alone",
    "top(2, blocks(4, q_pool=bounds))": "bounds are a pool of keys alone",
    "top(2, blocks(4, pool=linear(w, bounds)))": "bounds are a pool of keys alone",
    "top(top(3, blocks(4)) | causal, blocks(4))": "'n' takes a number, its name, or a choice",
    "top(top(3, blocks(4), among=causal), blocks(4))": "takes no 'among' and no 'count'",
    "top(top(3, blocks(4), count=sink(2)), blocks(4))": "takes no 'among' and no 'count'",
}


@pytest.mark.parametrize("text", REFUSED)
def test_a_sentence_when_it_is_compiled(text: str) -> None:
    with pytest.raises(am.MaskError, match=REFUSED[text]):
        am.compile(text)


CALLS: tuple[tuple[str, Any, Any, str], ...] = (
    ("top(2, antidiag(4, i // 3 * 2))", Q, K, "whole cells of 4 positions"),
    ("causal & clusters(c)", Q * torch.nan, K, "NaN or infinity"),
    ("top(2, blocks(4))", Q[..., :0], K[..., :0], "head dimension of 0"),
    ("top(2, blocks(4))", Q.to(torch.float8_e4m3fn), K.to(torch.float8_e4m3fn), "scores are made of float16"),
    ("top(2, blocks(4))", np.zeros((1, 2, 8, 4), np.longdouble), K, "must be a tensor of floats"),
)


@pytest.mark.parametrize(("text", "q", "k", "says"), CALLS)
def test_a_sentence_when_it_chooses(text: str, q: Any, k: Any, says: str) -> None:
    given: dict[str, Any] = {"c": torch.randn(1, 3, 8)} if "clusters" in text else {}
    with pytest.raises(am.MaskError, match=says):
        am.compile(text).choose(q, k, **given)


def test_arrays_of_another_byte_order() -> None:
    mask = am.compile("causal & top(2, blocks(4))")
    found = [mask.choose(Q.numpy().astype(kind), K.numpy().astype(kind)) for kind in (">f4", "<f4")]
    assert mask.freeze(found[0]) == mask.freeze(found[1])


def test_what_a_mask_chooses_by_is_not_bound() -> None:
    for text, given in (
        ("causal & topk_blocks(n)", {"n": torch.tensor([1, 2])}),
        ("causal & gate(g)", {"g": torch.ones(1, 1, 2, 2)}),
    ):
        (name,) = given
        named: dict[str, Any] = given
        with pytest.raises(am.MaskError, match=f"'{name}' is what the mask chooses by"):
            am.compile(text, **named)
        assert am.compile(text).needs == (name,)
    assert am.compile("causal & gate(g) & same(doc)").needs == ("doc", "g")
    assert am.library.causal.needs == ()


def test_global_numbers_of_chunks_are_refused_before_memory_runs_out() -> None:
    mask = am.compile("causal & (same(part) | top(2, blocks(part)))", part=np.arange(20) // 4 * 100003)
    with pytest.raises(am.MaskError, match="and there are 20 positions"):
        mask.choose(Q, K)


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("top(3, block(64))", "'blocks'"),
        ("tops(3, blocks(64))", "'top'"),
        ("topp(0.3, blocks(64))", "'top_p'"),
    ],
)
def test_names_of_what_chooses_are_suggested(text: str, hint: str) -> None:
    with pytest.raises(am.MaskError) as caught:
        am.compile(text)
    assert caught.value.hint == f"did you mean {hint}?"


def test_a_frozen_mask_needs_no_gradients() -> None:
    bias = torch.zeros(4, 20, requires_grad=True)
    mask = am.compile("causal & topk_blocks(2, block=4, q_block=4) with s + bias[h, k]")
    assert mask.freeze(mask.choose(Q, K, bias=bias)).unbound == ()
