"""Tables beside choices: those that come with q and k, those that kept choices were made with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import attnmask as am
from attnmask.lower.choose.choices import Choices

Tensor = torch.Tensor
torch.manual_seed(0)
Q, K, V = (torch.randn(1, heads, 64, 8) for heads in (4, 2, 2))
CHOICE = "(sink(64) | topk_blocks(1, block=8, q_block=8))"


def attended(mask: am.Mask, choices: Choices) -> Tensor:
    out: Tensor = am.attention(Q, K, V, mask, choices=choices, enable_gqa=True)
    return out


NARROW: dict[str, list[tuple[str, int | None]]] = {
    "abs(x[b, h, q] - x[b, h, k]) <= 1": [
        (kind, None) for kind in ("uint8", "int8", "int16", "uint16", "int32")
    ],
    "-x[b, h, q] < -1": [("uint8", 3), ("uint16", 3)],
    "x[b, h, q] * 3 > k": [("int8", 63), ("uint8", 200), ("int32", 2**30)],
    "x[b, h, q] - x[b, h, k] < 4": [("int32", 2**31 - 1)],
    "x[b, h, k] + x[b, h, q] > 0": [("int32", 2**31 - 1), ("int8", 127)],
}


@pytest.mark.parametrize(
    ("text", "kind", "value"), [(text, *case) for text, cases in NARROW.items() for case in cases]
)
def test_integers_of_any_width_never_wrap(text: str, kind: str, value: int | None) -> None:
    mask = am.compile(f"{text} & {CHOICE}")
    wide = torch.randint(0, 5, (1, 4, 64)) if value is None else torch.full((1, 4, 64), value)
    narrow = mask.choose(Q, K, x=wide.to(getattr(torch, kind)))
    expected = mask.bind(x=wide)
    seen = expected.freeze(expected.choose(Q, K)).dense(64, heads=4)
    block_mask = mask.block_mask(64, choices=narrow, block=16)
    at = [
        torch.arange(n).reshape([-1 if i == j else 1 for j in range(4)]) for i, n in enumerate((1, 4, 64, 64))
    ]
    found = torch.broadcast_to(block_mask.mask_mod(*at), (1, 4, 64, 64))
    np.testing.assert_array_equal(found.numpy(), seen)
    torch.testing.assert_close(attended(mask, narrow), attended(expected, expected.choose(Q, K)))


LATE: tuple[tuple[str, dict[str, Tensor], str], ...] = (
    (f"q - k < x[b, h, q] & {CHOICE}", {"x": torch.full((1, 4, 64), 2**63 - 1)}, "does not fit into 64 bits"),
    (f"q - k < x[b, h, q] & {CHOICE}", {"x": torch.full((1, 4, 64), -(2**63))}, "does not fit into 64 bits"),
    (f"x[idx[b, h, k]] == 1 & {CHOICE}", {"x": torch.ones(64), "idx": torch.full((1, 4, 64), -1)}, "x"),
    (
        f"x[idx[b, h, k]] == 1 & {CHOICE}",
        {"x": torch.ones(64).long(), "idx": torch.full((1, 4, 64), -1)},
        "entry -1",
    ),
    (
        f"x[idx[b, h, k]] == 1 & {CHOICE}",
        {"x": torch.ones(64).long(), "idx": torch.full((1, 4, 64), 64)},
        "entry 64",
    ),
    (f"x[b, h, k] == 1 & {CHOICE}", {"x": torch.ones(1, 4, 63).long()}, "entry 63"),
    (f"x[b, h, k] == 1 & {CHOICE}", {"x": torch.ones(1, 4, 64).to(torch.uint64)}, "not an array of numbers"),
)


@pytest.mark.parametrize(("text", "given", "says"), LATE)
def test_tables_that_come_late_are_looked_at_like_bound_ones(
    text: str, given: dict[str, Tensor], says: str
) -> None:
    named: dict[str, Any] = given
    with pytest.raises(am.MaskError) as caught:
        am.compile(text).choose(Q, K, **named)
    assert says in f"{caught.value.message} {caught.value.hint}"


def test_a_later_call_needs_tables_that_reach_so_far() -> None:
    mask = am.compile("cid[b, h, k] == 0 & topk_blocks(1, block=8, q_block=all)")
    kept = mask.choose(Q, K, cid=torch.zeros(1, 4, 64).long())
    with pytest.raises(am.MaskError, match="entry 69"):
        mask.block_mask(64, 70, choices=kept)


LABELLED = am.compile("top(1, blocks(label, q_block=all), among=all)")


def test_kept_choices_know_the_tables_that_they_were_made_with() -> None:
    runs, turns = LABELLED.bind(label=np.arange(64) // 8), LABELLED.bind(label=np.arange(64) % 8)
    kept = runs.choose(Q, K)
    for use in (turns.freeze, lambda c: turns.block_mask(64, choices=c), lambda c: attended(turns, c)):
        with pytest.raises(am.MaskError, match="made with another 'label'"):
            use(kept)
    with pytest.raises(am.MaskError, match="with different tables"):
        kept | turns.choose(Q, K)
    again, longer = (LABELLED.bind(label=np.arange(n) // 8) for n in (64, 90))
    assert again.freeze(kept) == runs.freeze(kept)
    assert longer.block_mask(64, 80, choices=kept).shape == (1, 4, 64, 80)  # a text that went on


def test_units_that_depend_on_a_size_are_those_of_the_call() -> None:
    mask = am.compile("top(1, blocks(i // (K // 4), q_block=all), among=all)")
    kept = mask.choose(Q, K)
    with pytest.raises(am.MaskError, match="depend on K"):
        mask.block_mask(64, 128, choices=kept)


def test_choices_with_different_tables_do_not_combine() -> None:
    mask = am.compile(
        "causal & cid[b, h, k] == cid[b, h, q] & (diagonal | topk_blocks(2, block=16, q_block=16))"
    )
    one, other = (mask.choose(Q, K, cid=torch.arange(64).expand(1, 4, 64) % n) for n in (1, 3))
    with pytest.raises(am.MaskError, match="different 'cid'"):
        one | other
    same = mask.choose(Q, K, cid=torch.zeros(1, 4, 64).long())
    assert mask.freeze(one & same) == mask.freeze(one)


def test_another_order_takes_tables_that_come_late() -> None:
    text = "causal & cid[b, h, q] == cid[b, h, k] & (diagonal | topk_blocks(64, block=8, q_block=8))"
    cid, order = torch.randint(0, 3, (1, 4, 64)), torch.randperm(64)
    out = am.programs.permuted(Q, K, V, am.compile(text), k_order=order, enable_gqa=True, cid=cid)
    # A choice of all blocks, of which the new order makes few candidates: at least the diagonal stays.
    assert out.shape == (1, 4, 64, 8) and out.isfinite().all()
    for wrong, says in (
        ([1, 2], "tensor of integers"),
        (torch.arange(64) + 1, "every token"),
        (order > 3, "int"),
    ):
        with pytest.raises(am.MaskError, match=says):
            am.programs.permuted(Q, K, V, am.library.causal, k_order=wrong, enable_gqa=True)  # type: ignore[arg-type]  # wrong on purpose


def test_diagonals_with_units_that_bounds_do_not_tell() -> None:
    mask = am.compile("top(3, probe(3, along=diagonals, block=i // 4 * 2 + i % 2))")
    choices = mask.choose(Q[:, :, :33], K[:, :, :1])
    seen = mask.freeze(choices).dense(33, 1, heads=4)
    mask_mod = mask.block_mask(33, 1, choices=choices).mask_mod
    rows = torch.broadcast_to(
        mask_mod(
            torch.zeros(1, 1, 1, dtype=torch.int),
            torch.arange(4)[:, None, None],
            torch.arange(33)[:, None],
            torch.zeros(1, dtype=torch.int),
        ),
        (4, 33, 1),
    )
    np.testing.assert_array_equal(rows.numpy(), seen[0])


QUALITY = am.compile("causal & topk_blocks(2, block=8, q_block=8)")
ASKED: tuple[tuple[Callable[[], object], str], ...] = (
    (lambda: QUALITY.quality(Q, K, QUALITY.choose(Q, K), q_offset=3), "know where their queries begin"),
    (lambda: QUALITY.quality(Q, K, QUALITY.choose(Q, K), foo=3), "know where their queries begin"),
    (lambda: QUALITY.quality(Q, K, scale=float("nan")), "scale must be a number"),
    (lambda: QUALITY.quality(Q, torch.randn(1, 2, 64, 9), QUALITY.choose(Q, K)), "not of the call"),
    (lambda: QUALITY.choose(Q.to_sparse(), K), "dense tensor"),
    (lambda: am.compile("above(n, probe(8))").bind(n=float("nan")), "must be a number"),
    (
        lambda: am.compile("top(2, probe(4, along=diagonals))").choose(Q, K, q_offset=2**30),
        "too many to score",
    ),
    (
        lambda: am.programs.delta(
            Q,
            K,
            V,
            (m := am.compile("causal & topk_blocks(2) with s + bias[h, k]")),
            every=8,
            choices=m.choose(Q, K, bias=torch.zeros(4, 64)),
        ),
        "must be bound for a program",
    ),
)


@pytest.mark.parametrize(("ask", "says"), ASKED)
def test_a_sentence_for_what_does_not_go_together(ask: Callable[[], object], says: str) -> None:
    with pytest.raises(am.MaskError, match=says):
        ask()
