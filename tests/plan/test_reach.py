"""Reach through layers against products of boolean matrices, position by position."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import attnmask as am
from attnmask.mask import Mask
from attnmask.plan.reach import find
from attnmask.plan.reach.result import Reach
from tests.strategies import Case, cases

Flags = NDArray[np.bool_]
DOC = np.arange(60) // 13
SCATTERED = np.random.default_rng(3).integers(0, 4, 60)

BANDS = [
    "causal & window(4)",
    "causal & (window(4) | sink(2))",
    "window(3)",
    "band(-2, 5)",
    "band(2, 5)",
    "causal",
    "all",
    "none",
    "diagonal",
    "sink(3)",
    "causal & sink(3)",
    "prefix(5)",
    "causal & dilated(3, 4)",
    "dilated(3, 4)",
    "causal & strided(5)",
    "causal & (strided(7) | window(3))",
    "q - k in 1:3 | q - k == 9",
    "causal & window(4) & chunk(7)",
    "causal & same(doc) & (window(3) | sink(2))",
    "window(3) | sink(2)",
    "band(-1, 3) | sink(2)",
    "causal & window(K // 8)",
]
OTHERS = [
    "causal & q * k % 5 != 0 & window(6)",
    "same(scattered) & causal",
    "causal & (window(3) | k % 8 == 0)",
    "q >= 20 | k < 3 & causal",
    "tail(2)",
    "heads(:1) & causal & window(3) | heads(1:) & strided(6)",
]


def compiled(text: str) -> Mask:
    mask = am.compile(text)
    tables = {"doc": DOC, "scattered": SCATTERED}
    return mask.bind(**{name: tables[name] for name in mask.unbound})


NO_MASKS: Any = ["causal"]


def layer(mask: Mask, length: int, **planes: Any) -> Flags:
    """What one layer sees, all heads together, a position itself included."""
    dense = mask.dense(length, **{"batch": 1, "heads": 2, **planes})
    seen: Flags = dense[0].any(axis=0) | np.eye(length, dtype=bool)
    return seen


def products(layers: Sequence[Flags], number: int) -> list[Flags]:
    """What is seen after 0, 1, 2, … layers, by the definition: later[q, j] and earlier[j, k] for some j."""
    seen = [np.eye(len(layers[0]), dtype=bool)]
    for at in range(number):
        later, earlier = layers[at % len(layers)], seen[-1]
        seen.append(np.asarray((later[:, :, None] & earlier[None, :, :]).any(axis=1)))
    return seen


def same(found: Reach, expected: Flags, block: int) -> None:
    length = len(expected)
    rows = -(-length // block)
    for q in range(length):
        seen = found.seen(q)
        assert [k in seen for k in range(length)] == expected[q].tolist(), f"position {q}: {seen}"
        assert seen.exact
        assert seen.count == expected[q].sum()
    if found.exact:
        np.testing.assert_array_equal(found.counts, expected.sum(axis=1))
        padded = np.zeros((rows * block, rows * block), bool)
        padded[:length, :length] = expected
        blocks = padded.reshape(rows, block, rows, block).any(axis=(1, 3))
        np.testing.assert_array_equal(found.blocks, blocks)
    else:
        assert (found.counts >= expected.sum(axis=1)).all()


@pytest.mark.parametrize("text", BANDS + OTHERS)
@pytest.mark.parametrize("length", [1, 8, 41])
def test_one_mask(text: str, length: int) -> None:
    mask = compiled(text)
    expected = products([layer(mask, length)], 6)
    for layers in (0, 1, 2, 5):
        found = am.reach(mask, length, layers=layers, block=8, heads=2)
        assert found.method == "formula" or text in OTHERS
        same(found, expected[layers], 8)
    ever = products([layer(mask, length)], length)[-1]
    same(mask.reach(length, layers=None, block=8, heads=2), ever, 8)


@pytest.mark.parametrize("text", BANDS + OTHERS)
def test_layers_to_reach(text: str) -> None:
    mask, length = compiled(text), 30
    expected = products([layer(mask, length)], length)
    for q in range(0, length, 3):
        for k in range(0, length, 2):
            needed = next((at for at, seen in enumerate(expected) if seen[q, k]), None)
            assert mask.layers_to_reach(q, k, q_len=length, heads=2) == needed


@pytest.mark.parametrize("window", range(1, 9))
@pytest.mark.parametrize("sinks", [0, 1, 3])
def test_a_causal_window_with_sinks_by_its_formula(window: int, sinks: int) -> None:
    mask = am.compile(f"causal & (window({window}) | sink({sinks}))")
    for q in range(0, 40, 3):
        for k in range(40):
            needed = None
            if k == q:
                needed = 0
            elif k < sinks and k < q:
                needed = 1
            elif k < q and window > 1:
                needed = -(-(q - k) // (window - 1))
            assert mask.layers_to_reach(q, k) == needed, (q, k)


@pytest.mark.parametrize(
    "texts",
    [
        ("causal & window(3)", "causal"),
        ("causal", "causal & window(3)", "sink(2)"),
        ("causal & window(4)", "causal & dilated(2, 5)"),
        ("window(2)", "sink(2)", "window(4)"),
        ("band(-3, 0)", "sink(2)"),
        ("causal & same(doc)", "causal & window(3)"),
        ("causal & q * k % 3 == 0", "window(2)"),
    ],
)
def test_a_mask_for_each_layer(texts: tuple[str, ...]) -> None:
    masks, length = [compiled(text) for text in texts], 23
    expected = products([layer(mask, length) for mask in masks], 2 * len(texts) + 1)
    for layers, seen in enumerate(expected):
        same(am.reach(masks, length, layers=layers, block=4, heads=2), seen, 4)
    for q in range(0, length, 4):
        for k in range(length):
            needed = am.layers_to_reach(masks, q, k, q_len=length, heads=2)
            first = next((at for at, seen in enumerate(expected) if seen[q, k]), None)
            assert needed == first if first is not None else needed is None or needed >= len(expected)


def test_one_head_keeps_to_itself() -> None:
    mask = am.compile("heads(:1) & causal & window(3) | heads(1:) & causal")
    local = mask.reach(20, layers=2, heads=2, h=0)
    assert local.seen(19).count == 5
    assert mask.reach(20, layers=2, heads=2).seen(19).count == 20


@settings(deadline=None, max_examples=40)
@given(case=cases(most=24), layers=st.integers(0, 4))
def test_random_masks(case: Case, layers: int) -> None:
    domain = case.call.domain
    length = min(domain.q_len, domain.kv_len)
    planes = {"batch": domain.batch, "heads": domain.heads}
    try:
        dense = case.mask.dense(length, **planes)
    except am.MaskError:
        return
    flags = dense[0].any(axis=0) | np.eye(length, dtype=bool)
    found = case.mask.reach(length, layers=layers, block=4, **planes)
    same(found, products([flags], layers)[-1], 4)


def test_blocks_are_a_bound_where_tokens_are_too_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(find, "MOST_TOKENS", 10)
    mask = am.compile("causal & q * k % 5 != 0 & window(6)")
    expected = products([layer(mask, 40)], 40)
    for layers in (0, 1, 3):
        found = mask.reach(40, layers=layers, block=4)
        assert found.method == "blocks"
        same(found, expected[layers], 4)  # one position by one is exact all the same
    monkeypatch.setattr(find, "MOST_PAIRS", 0)
    found = mask.reach(40, layers=3, block=4)
    for q in range(40):
        seen = found.seen(q)
        assert not seen.exact
        assert all(k in seen for k in np.flatnonzero(expected[3][q]))
    from attnmask.reaching import layers_needed

    for q, k in [(39, 0), (39, 38), (12, 11), (5, 5), (3, 30)]:
        needed = layers_needed(mask, q, k, q_len=40, block=4)
        first = next((at for at, flags in enumerate(expected) if flags[q, k]), None)
        if needed.layers is None:
            assert first is None
        else:
            assert first is None or needed.layers <= first
    with pytest.raises(am.MaskError, match="only known"):
        mask.layers_to_reach(39, 0, q_len=40, block=4)


@pytest.mark.parametrize(
    "ask",
    [
        lambda mask: am.reach(mask, 8, 9, layers=1),
        lambda mask: am.reach([], 8, layers=1),
        lambda mask: am.reach(NO_MASKS, 8, layers=1),
        lambda mask: mask.reach(8, layers=-1),
        lambda mask: mask.reach(0, layers=1),
        lambda mask: mask.reach(8, layers=1, block=0),
        lambda mask: mask.reach(8, layers=1).seen(8),
        lambda mask: mask.layers_to_reach(8, 0, q_len=8),
        lambda mask: mask.layers_to_reach(-1, 0, q_len=8),
        lambda mask: am.library.window(3).layers_to_reach(5, 0),
        lambda mask: am.compile("heads(:1) & causal").reach(8, layers=1, heads=2, h=2),
        lambda mask: am.compile("causal & same(doc)").reach(8, layers=1),
    ],
)
def test_what_makes_no_sense_is_said(ask: Any) -> None:
    with pytest.raises(am.MaskError):
        ask(am.library.causal)


def test_text_and_json() -> None:
    found = am.compile("causal & (window(512) | sink(4))").reach(8192, layers=None)
    assert "and nothing new after 17 layers" in str(found)
    plain = found.to_dict()
    assert plain["exact"] and plain["method"] == "formula"
    assert plain["last"]["runs"] == [[0, 8191]]
