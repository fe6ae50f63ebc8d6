"""Masks that choose from q and k in models of transformers, against attention by definition in every layer."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import eager_mask

import attnmask as am
from attnmask.integrations.transformers import use_mask
from attnmask.ir.chosen import dense_with_choices
from attnmask.ir.domain import Domain
from tests.integrations.test_use_mask import assert_same, positions
from tests.integrations.tiny_models import logits, padding, running, tiny, tokens

Tensor = torch.Tensor
TEXTS = {
    "blocks": "causal & (window(6) | sink(2) | topk_blocks(2, block=8, q_block=8))",
    "moba": "zoo.moba(2, 8)",
    "spans": "causal & (window(4) | spans(top(2, blocks(1)), back=1, ahead=2))",
    "shares": "causal & (diagonal | top_p(0.7, blocks(8, norm=softmax, heads=group_mean)))",
}


def by_definition(text: str, pads: Tensor | None) -> Any:
    """An attention function of transformers' protocol that evaluates the mask on every pair."""
    mask = am.compile(text)

    def forward(module: Any, q: Tensor, k: Tensor, v: Tensor, _: Any, **options: Any) -> tuple[Tensor, None]:
        batch, heads, q_len, dim = q.shape
        kv_len = k.shape[2]
        domain = Domain(q_len, kv_len, kv_len - q_len, batch, heads)
        root, tables = mask.predicate, {}
        if pads is not None:
            whole = mask & am.compile("holds[b, k] == 1")
            reach = torch.nn.functional.pad(pads, (0, max(0, kv_len - pads.shape[1])), value=1)
            root, tables = whole.predicate, {"holds": reach.numpy()}
        seen = torch.from_numpy(
            dense_with_choices(root, q.double().numpy(), k.double().numpy(), domain, tables, {})
        )
        k, v = (x.repeat_interleave(heads // k.shape[1], 1) for x in (k, v))
        scale = options.get("scaling") or 1 / math.sqrt(dim)
        weights = (q @ k.mT * scale).masked_fill(~seen, -1e30).softmax(-1) * seen.any(-1, keepdim=True)
        return (weights @ v).transpose(1, 2), None

    return forward


def wanted(model: Any, text: str, pads: Tensor | None, run: Any) -> Any:
    AttentionInterface.register("by_definition", by_definition(text, pads))
    AttentionMaskInterface.register("by_definition", eager_mask)
    with running(model, "by_definition"), torch.no_grad():
        return run()


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("model", ["llama", "qwen3"])
def test_each_layer_chooses_from_its_own_queries_and_keys(name: str, model: str) -> None:
    made, ids = tiny(model), tokens(2, 45)
    expected = wanted(made, TEXTS[name], None, lambda: logits(made, ids))
    with use_mask(made, TEXTS[name]):
        assert_same(logits(made, ids), expected)


@pytest.mark.parametrize("sides", [((0, 3), (0, 0)), ((0, 0), (0, 13))])
def test_padding_is_never_chosen(sides: Any) -> None:
    made, ids, pads = tiny("llama"), tokens(2, 45), padding(45, left=sides[0], right=sides[1])
    where = {"attention_mask": pads, "position_ids": positions(pads)}
    expected = wanted(made, TEXTS["blocks"], pads, lambda: logits(made, ids, **where))
    with use_mask(made, TEXTS["blocks"]):
        found = logits(made, ids, **where)
    assert_same(found[pads.bool()], expected[pads.bool()])


@pytest.mark.parametrize("name", TEXTS)
def test_every_step_of_generation_chooses(name: str) -> None:
    made, ids = tiny("llama"), tokens(2, 30)
    settings = {"max_new_tokens": 9, "do_sample": False, "attention_mask": torch.ones_like(ids)}
    expected = wanted(made, TEXTS[name], None, lambda: made.generate(ids, **settings))
    with use_mask(made, TEXTS[name]):
        assert torch.equal(made.generate(ids, **settings), expected)


def test_gradients_reach_the_model() -> None:
    made, ids = tiny("llama").train(), tokens(1, 40)
    with use_mask(made, TEXTS["blocks"]):
        made(ids, labels=ids).loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in made.parameters() if p.requires_grad)


def test_numbers_that_a_mask_names() -> None:
    made, ids = tiny("llama"), tokens(1, 40)
    with use_mask(made, "causal & (diagonal | topk_blocks(n, block=8, q_block=8))", n=2):
        named = logits(made, ids)
    with use_mask(made, "causal & (diagonal | topk_blocks(2, block=8, q_block=8))"):
        assert torch.equal(logits(made, ids), named)


def test_a_sentence_for_what_it_cannot_choose_by() -> None:
    made = tiny("llama")
    for text, tables, sentence in (
        ("causal & gate(scores)", {}, "'scores' has no value"),
        ("causal & gate(scores)", {"scores": torch.zeros(1, 1, 2, 2)}, "must come with q and k"),
        ("causal & topk_blocks(n)", {}, "'n' has no value"),
        ("causal & topk_blocks(2, block=label)", {}, "'label' has no value"),
    ):
        with pytest.raises(am.MaskError, match=sentence):
            use_mask(made, text, **tables)


def test_a_cache_that_drops_keys_is_refused() -> None:
    made = tiny("mistral")
    ids = tokens(1, 30)
    settings = {"max_new_tokens": 3, "do_sample": False, "attention_mask": torch.ones_like(ids)}
    with use_mask(made, TEXTS["blocks"]), pytest.raises(am.MaskError, match="needs all keys"):
        made.generate(ids, **settings)
