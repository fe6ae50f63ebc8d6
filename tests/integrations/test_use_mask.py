"""use_mask: models of transformers under masks of the user's, against 4-D masks made by hand."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import (
    DynamicCache,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    StaticCache,
    T5Config,
    T5ForConditionalGeneration,
)

import attnmask as am
from attnmask.errors import MaskError
from attnmask.integrations.transformers import NAME, register, use_mask
from tests.integrations.tiny_models import WINDOW, logits, padding, running, tiny, tokens

TEXT = "causal & (window(20) | sink(4))"


def sees(q: int, k: int) -> bool:
    """TEXT, in Python."""
    return k <= q and (q - k < 20 or k < 4)


def by_hand(rule: Callable[[int, int], bool], mask: torch.Tensor) -> torch.Tensor:
    """The additive mask [B, 1, N, N] of a rule with padding [B, N], as eager attention takes it."""
    length = mask.shape[1]
    allowed = torch.tensor([[rule(q, k) for k in range(length)] for q in range(length)])
    allowed = allowed & mask.bool()[:, None, None, :]
    return torch.where(allowed, 0.0, torch.finfo(torch.float32).min)


def assert_same(found: torch.Tensor, wanted: torch.Tensor) -> None:
    assert not found.isnan().any()
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def eager(model: Any, ids: torch.Tensor, ready: Any, mask: torch.Tensor) -> torch.Tensor:
    """Logits under masks that are ready, at the positions that they would have by themselves."""
    with running(model, "eager"):
        return logits(model, ids, attention_mask=ready, position_ids=positions(mask))


def positions(mask: torch.Tensor) -> torch.Tensor:
    return (mask.cumsum(-1) - 1).clamp(min=0)


GIVEN: dict[str, Callable[[], Any]] = {
    "text": lambda: TEXT,
    "mask": lambda: am.library.causal & (am.library.window(20) | am.library.sink(4)),
    "mask_mod": lambda: lambda b, h, q, k: (k <= q) & ((q - k < 20) | (k < 4)),
    "dict": lambda: {0: TEXT, 1: TEXT},
    "function": lambda: lambda layer: TEXT,
}


@pytest.mark.parametrize("given", GIVEN)
@pytest.mark.parametrize("length", [12, 150])
def test_every_way_to_give_a_mask(given: str, length: int) -> None:
    model, ids, mask = tiny("llama"), tokens(2, length), padding(length, left=(0, 3), right=(0, 0))
    wanted = eager(model, ids, by_hand(sees, mask), mask)
    with use_mask(model, GIVEN[given]()):
        found = logits(model, ids, attention_mask=mask, position_ids=positions(mask))
    assert_same(found[mask.bool()], wanted[mask.bool()])


def test_padding_on_the_right() -> None:
    model, ids, mask = tiny("qwen3"), tokens(2, 40), padding(40, right=(0, 13))
    wanted = eager(model, ids, by_hand(lambda q, k: abs(q - k) < 9, mask), mask)
    with use_mask(model, "window(9)"):
        found = logits(model, ids, attention_mask=mask, position_ids=positions(mask))
    assert_same(found[mask.bool()], wanted[mask.bool()])


def test_an_encoder() -> None:
    model, ids, mask = tiny("bert"), tokens(2, 40), padding(40, right=(0, 13))
    with running(model, "eager"):
        wanted = logits(model, ids, attention_mask=by_hand(lambda q, k: abs(q - k) < 9, mask))
    with use_mask(model, "window(9)"):
        found = logits(model, ids, attention_mask=mask)
    assert_same(found[mask.bool()], wanted[mask.bool()])


@pytest.mark.parametrize("length", [12, 40])
def test_layers_of_their_own(length: int) -> None:
    """A dict leaves layers to the model; `layer` in a text, and a function of the layer, say the same."""
    model, ids = tiny("llama", num_hidden_layers=3), tokens(1, length)
    with use_mask(model, {1: "causal & window(5)"}):
        one = logits(model, ids)
    with use_mask(model, lambda layer: "causal & window(5)" if layer == 1 else None):
        assert torch.equal(logits(model, ids), one)
    with use_mask(model, "causal & (window(5) | layer != 1)"):
        assert_same(logits(model, ids), one)
    with use_mask(model, "causal & (window(width) | layer != which)", width=5, which=1):
        assert_same(logits(model, ids), one)
    with use_mask(model, "causal & window(5)"):
        assert not torch.allclose(logits(model, ids), one, atol=1e-2)
    with running(model, "sdpa"):
        assert not torch.allclose(logits(model, ids), one, atol=1e-2)


@pytest.mark.parametrize("length", [12, 40])
def test_heads_and_tables(length: int) -> None:
    model, ids, at = tiny("llama"), tokens(2, length), torch.arange(length)
    documents = torch.stack([at // 11, at // 25])
    allowed = (at[None, :] <= at[:, None]) & (documents[:, :, None] == documents[:, None, :])
    near = (at[:, None] - at[None, :]).abs() < 4
    ready = torch.stack([allowed, allowed & near, allowed & near, allowed], dim=1)
    with running(model, "eager"):
        wanted = logits(model, ids, attention_mask=torch.where(ready, 0.0, torch.finfo(torch.float32).min))
    with use_mask(model, "causal & same(doc) & (h == 0 | h == 3 | window(4))", doc=documents):
        assert_same(logits(model, ids), wanted)


def test_scores_come_after_the_cap_of_the_model() -> None:
    """The second entry of the mask would change nothing below the cap of the model, 2."""
    model, ids = tiny("gemma2"), tokens(1, 30)
    with use_mask(model, "causal & window(6)"):
        plain = logits(model, ids)
    with use_mask(model, "causal & window(6) with softcap(1000)"):
        torch.testing.assert_close(logits(model, ids), plain, rtol=1e-2, atol=1e-3)
    with use_mask(model, "causal with where(q - k < 6, s, s - 10000)"):
        assert_same(logits(model, ids), plain)


@pytest.mark.parametrize("cache", [DynamicCache, StaticCache])
def test_with_a_cache(cache: Any) -> None:
    """Positions go on from the cache, and slots of a static cache that are not written are not seen."""
    model, ids, mask = tiny("llama"), tokens(2, 50), padding(50, left=(0, 5))
    rule = "(window(9) | sink(2)) & k + 7 < K | diagonal"
    state = cache(config=model.config, **({"max_cache_len": 64} if cache is StaticCache else {}))
    with use_mask(model, rule):
        parts = [
            logits(
                model,
                ids[:, first:last],
                attention_mask=mask[:, :last],
                position_ids=positions(mask)[:, first:last],
                cache=state,
            )
            for first, last in ((0, 30), (30, 48), (48, 49), (49, 50))
        ]

    def seen(q: int, k: int) -> bool:
        length = next(last for last in (30, 48, 49, 50) if q < last)
        return k < length and (((abs(q - k) < 9 or k < 2) and k + 7 < length) or q == k)

    wanted = eager(model, ids, by_hand(seen, mask), mask)
    assert_same(torch.cat(parts, dim=1)[mask.bool()], wanted[mask.bool()])


@pytest.mark.parametrize("cache", [DynamicCache, StaticCache])
def test_keys_that_a_sliding_cache_has_dropped(cache: Any) -> None:
    """Full layers keep the sink; sliding ones forget it, and what they keep stays where it was."""
    model, ids, prompt = tiny("gemma3"), tokens(1, 60), 30
    mask = padding(60, left=(0,))
    portions = [(0, prompt), (prompt, prompt + 20), *((at, at + 1) for at in range(prompt + 20, 60))]

    def kept(q: int, k: int) -> bool:
        first = next(first for first, last in portions if q < last)
        return k > first - WINDOW and sees(q, k)

    ready = {"full_attention": by_hand(sees, mask), "sliding_attention": by_hand(kept, mask)}
    wanted = eager(model, ids, ready, mask)
    with use_mask(model, TEXT):
        state = cache(config=model.config, **({"max_cache_len": 64} if cache is StaticCache else {}))
        parts = [logits(model, ids[:, first:last], cache=state) for first, last in portions]
    assert_same(torch.cat(parts, dim=1), wanted)


@pytest.mark.parametrize("cache", ["dynamic", "static"])
def test_generate(cache: str) -> None:
    """Token by token the same as without a cache."""
    model, ids = tiny("llama"), tokens(2, 21)
    mask = padding(21, left=(0, 4))
    options = {"max_new_tokens": 12, "do_sample": False, "attention_mask": mask}
    with use_mask(model, TEXT):
        found = model.generate(ids, cache_implementation=cache, **options)
    for length in range(21, 33):
        whole = torch.nn.functional.pad(mask, (0, length - 21), value=1)
        best = eager(model, found[:, :length], by_hand(sees, whole), whole)[:, -1].argmax(-1)
        assert torch.equal(found[:, length], best)


def test_undone_at_the_end() -> None:
    model, ids = tiny("llama"), tokens(1, 20)
    before = logits(model, ids)
    handle = use_mask(model, "causal & window(3)")
    inside = logits(model, ids)
    with pytest.raises(RuntimeError, match="on purpose"), use_mask(model, "causal & window(2)"):
        assert not torch.allclose(logits(model, ids), inside, atol=1e-2)
        raise RuntimeError("on purpose")
    assert model.config._attn_implementation == NAME
    assert torch.equal(logits(model, ids), inside)
    handle.undo()
    handle.undo()
    assert model.config._attn_implementation == "sdpa"
    assert torch.equal(logits(model, ids), before)
    assert not torch.allclose(inside, before, atol=1e-2)


def test_undone_out_of_order() -> None:
    model = tiny("llama")
    first, second = use_mask(model, "causal"), use_mask(model, "window(3)")
    with pytest.raises(MaskError, match="another use_mask came after this one"):
        first.undo()
    second.undo()
    first.undo()


def test_a_copy_keeps_its_mask() -> None:
    model, ids = tiny("llama"), tokens(1, 20)
    with use_mask(model, "causal & window(3)"):
        inside, twin = logits(model, ids), copy.deepcopy(model)
    assert torch.equal(logits(twin, ids), inside)


# ---- what goes wrong -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mask", "tables", "says"),
    [
        ("casual & window(3)", {}, "unknown name 'casual'\n  casual & window(3)\n  ^^^^^^\nhint: did you mean"),
        ("causal & same(doc)", {}, "the table 'doc' is not bound"),
        ("causal & same(doc)", {"dok": [1, 2]}, "no mask names 'dok'\nhint: did you mean 'doc'?"),
        ({2: "causal"}, {}, "there is no attention layer 2\nhint: layers are 0, 1, counted from 0"),
        ({"0": "causal"}, {}, "there is no attention layer '0'"),
        (3, {}, "int is not a mask"),
        (["causal"], {}, "list is not a mask"),
        (lambda layer: 3, {}, "int is not a mask"),
        (lambda q, k: k <= q, {}, "a function of the layer, or of b, h, q and k is expected"),
        (lambda *positions: True, {}, "takes both"),
        (lambda b, h, q, k: k <= q if q > 3 else k > q, {}, "line"),
        ("causal & doc[k] == 0", {"padding_of_the_call": [1], "doc": [1]}, "the name 'padding_of_the_call' is taken"),
    ],
)  # fmt: skip
def test_mistakes_are_sentences(mask: Any, tables: dict[str, Any], says: str) -> None:
    model = tiny("llama")
    with pytest.raises(MaskError) as caught:
        use_mask(model, mask, **tables)
    assert says in str(caught.value)
    assert model.config._attn_implementation == "sdpa", "nothing is left half done"


def test_a_table_that_is_too_short_for_the_call() -> None:
    model = tiny("llama")
    with use_mask(model, "causal & same(doc)", doc=[0, 0, 1]), pytest.raises(MaskError, match="doc"):
        logits(model, tokens(1, 8))


def test_a_mask_that_is_ready_is_no_padding() -> None:
    model = tiny("llama")
    ready = torch.ones(1, 1, 8, 8, dtype=torch.bool)
    with use_mask(model, "causal"), pytest.raises(MaskError, match="the model brings one that is ready"):
        logits(model, tokens(1, 8), attention_mask=ready)


def test_models_that_cannot() -> None:
    with pytest.raises(MaskError, match="use_mask needs a transformers model, not Linear"):
        use_mask(torch.nn.Linear(2, 2), "causal")  # type: ignore[arg-type]  # the mistake that is tried
    sizes: dict[str, Any] = {
        "d_model": 16,
        "d_kv": 8,
        "d_ff": 16,
        "num_layers": 1,
        "num_heads": 2,
        "vocab_size": 11,
    }
    with pytest.raises(MaskError, match="has an encoder and a decoder"):
        use_mask(T5ForConditionalGeneration(T5Config(**sizes)), "causal")
    recurrent = MambaForCausalLM(
        MambaConfig(hidden_size=16, num_hidden_layers=1, vocab_size=11, state_size=4)
    )
    with pytest.raises(MaskError, match="has no attention layers"):
        use_mask(recurrent, "causal")


def test_a_model_without_the_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny("llama")
    monkeypatch.setattr(type(model), "_can_set_attn_implementation", lambda *_: False)
    with pytest.raises(MaskError, match="LlamaForCausalLM cannot run under attnmask"):
        use_mask(model, "causal")


def test_chosen_when_a_model_is_made() -> None:
    register()
    options: dict[str, Any] = {**tiny("llama").config.to_dict(), "attn_implementation": NAME}
    config = LlamaConfig(**options)
    model, ids = LlamaForCausalLM(config).eval(), tokens(1, 20)  # type: ignore[no-untyped-call]  # transformers' own
    found = logits(model, ids)
    with running(model, "sdpa"):
        assert_same(found, logits(model, ids))
