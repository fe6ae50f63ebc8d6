"""The emitted file means what the mask means; torch evaluates it here, attnmask is kept out of it."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn.attention import flex_attention

import attnmask as am
from attnmask.errors import MaskError
from attnmask.lower.standalone import standalone

DOC = np.array([0, 0, 0, 1, 1, 2, 2, 2, 2, 3, 3, 3])
B, H, Q, K = 2, 4, 12, 12


def loaded(source: str, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names of the emitted file, read where attnmask cannot be imported."""
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "attnmask", None)
        namespace: dict[str, Any] = {}
        exec(compile(source, "emitted.py", "exec"), namespace)
        return namespace


def evaluated(mask_mod: Any) -> Any:
    """bool [B, H, Q, K]"""
    axes = (torch.arange(B), torch.arange(H), torch.arange(Q), torch.arange(K))
    shapes = ((B, 1, 1, 1), (1, H, 1, 1), (1, 1, Q, 1), (1, 1, 1, K))
    grids = [axis.reshape(shape) for axis, shape in zip(axes, shapes, strict=True)]
    return torch.broadcast_to(mask_mod(*grids), (B, H, Q, K)).numpy()


@pytest.mark.parametrize(
    "text",
    [
        "causal & (window(5) | sink(2))",
        "all",
        "none",
        "heads(:2) & causal | heads(2:) & window(2)",
        "causal & same(doc)",
        "~same(doc) ^ (q * k) % 3 == 0",
    ],
)
def test_the_file_has_a_mask_mod(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mask = am.compile(text)
    mask = mask.bind(doc=DOC) if mask.unbound else mask
    names = loaded(standalone(mask, text), monkeypatch)
    np.testing.assert_array_equal(evaluated(names["mask_mod"]), mask.dense(Q, K, batch=B, heads=H))


def test_an_unbound_table_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    mask = am.compile("causal & same(doc)")
    names = loaded(standalone(mask, "causal & same(doc)"), monkeypatch)
    assert "mask_mod" not in names
    seen = evaluated(names["build_mask"](torch.tensor(DOC)))
    np.testing.assert_array_equal(seen, mask.bind(doc=DOC).dense(Q, K, batch=B, heads=H))


@pytest.mark.parametrize("bound", [True, False])
def test_block_mask_gives_lengths_and_tables(bound: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "causal & same(doc) & ~tail(H)"
    mask = am.compile(text, doc=DOC) if bound else am.compile(text)
    names = loaded(standalone(mask, text), monkeypatch)
    tables = {} if bound else {"doc": torch.tensor(DOC)}
    block_mask = names["block_mask"](Q, K, batch=B, heads=H, **tables)
    assert block_mask.shape == (B, H, Q, K)
    expected = am.compile(text, doc=DOC).dense(Q, K, batch=B, heads=H)
    np.testing.assert_array_equal(evaluated(block_mask.mask_mod), expected)


def test_scores_come_along(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "causal with softcap(30)"
    names = loaded(standalone(am.compile(text), text), monkeypatch)
    scores = torch.linspace(-100, 100, 9)
    none = torch.zeros((), dtype=torch.int32)
    torch.testing.assert_close(
        names["score_mod"](scores, none, none, none, none), 30 * torch.tanh(scores / 30)
    )


@pytest.mark.parametrize(
    "text", ['causal  # """ and \\', "causal # \\N{DIGIT ONE} \\u12", 'causal & sink(1) # "']
)
def test_the_text_of_a_mask_cannot_leave_the_docstring(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    source = standalone(am.compile("causal"), text.replace("#", "&"))
    assert "mask_mod" in loaded(source, monkeypatch)


def test_products_beyond_32_bits_are_computed_in_64() -> None:
    assert "int64" in standalone(am.compile("(q * k) % 7 == 0"), "")
    assert "int64" not in standalone(am.compile("causal & window(512)"), "")


def test_a_table_too_large_for_a_source_file() -> None:
    mask = am.compile("same(doc)", doc=np.zeros((1 << 16) + 1, np.int64))
    with pytest.raises(MaskError, match="'doc' has 65537 entries") as caught:
        standalone(mask, "same(doc)")
    assert caught.value.hint is not None


def test_heads_and_batch_must_be_given_where_they_matter() -> None:
    per_head = am.compile("heads(:2) & causal").emit()
    assert "def block_mask(q_len, kv_len, *, batch=None, heads, device" in per_head
    assert "def block_mask(q_len, kv_len, *, batch=None, heads=None, device" in am.compile("causal").emit()


def test_a_table_may_have_any_name() -> None:
    names = ["device", "batch", "q_len", "kv_len", "build_mask", "block_mask", "create_block_mask"]
    mask = am.compile(" & ".join(f"same({name})" for name in names), **{name: [0, 0, 1] for name in names})
    namespace: dict[str, Any] = {}
    exec(mask.emit(), namespace)
    block_mask = namespace["block_mask"](3, 3)
    assert (
        flex_attention.create_mask(block_mask.mask_mod, 1, 1, 3, 3, "cpu")[0, 0].numpy() == mask.dense(3)
    ).all()
