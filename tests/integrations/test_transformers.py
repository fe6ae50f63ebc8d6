"""Models of transformers under their own masks: the numbers of SDPA, or of the eager implementation."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
import torch
from transformers import DynamicCache, StaticCache

import attnmask as am
from attnmask.errors import MaskError
from attnmask.integrations.transformers import NAME, attend, register
from attnmask.integrations.transformers.call import CallMask, mask_forward
from attnmask.integrations.transformers.dense import dense_attention
from attnmask.lower.attention import attention
from tests.integrations.tiny_models import WINDOW, logits, padding, running, tiny, tokens

Caches = Callable[[Any, int], Any]
LONG = 150  # more than a tile
CACHES: dict[str, Caches] = {
    "dynamic": lambda model, length: DynamicCache(config=model.config),
    "static": lambda model, length: StaticCache(config=model.config, max_cache_len=length),
}


@pytest.fixture(autouse=True)
def _registered() -> None:
    register()


def assert_same(found: torch.Tensor, wanted: torch.Tensor) -> None:
    assert not found.isnan().any()
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["llama", "qwen3", "mistral", "gemma3", "bert"])
@pytest.mark.parametrize("side", ["none", "left", "right"])
def test_logits_are_those_of_sdpa(name: str, side: str) -> None:
    model, ids = tiny(name), tokens(3, LONG)
    given = {} if side == "none" else {"attention_mask": padding(LONG, **{side: (0, 9, 131)})}
    with running(model, "sdpa"):
        wanted = logits(model, ids, **given)
    with running(model, NAME):
        found = logits(model, ids, **given)
    real = given.get("attention_mask", torch.ones_like(ids)).bool()
    assert_same(found[real], wanted[real])
    assert not found.isnan().any()


@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_packed_sequences_do_not_see_each_other(name: str) -> None:
    model, ids = tiny(name), tokens(2, LONG)
    positions = torch.stack([torch.arange(LONG) % 61, (torch.arange(LONG) + 20) % 100])
    with running(model, "sdpa"):
        wanted = logits(model, ids, position_ids=positions)
        whole = logits(model, ids)
    with running(model, NAME):
        found = logits(model, ids, position_ids=positions)
    assert_same(found, wanted)
    assert not torch.allclose(found, whole, atol=1e-2), "the sequences are told apart"


@pytest.mark.parametrize("cache", CACHES)
@pytest.mark.parametrize("name", ["llama", "mistral", "gemma3", "gemma2", "gpt_oss"])
def test_in_portions_with_a_cache(name: str, cache: str) -> None:
    """A prompt in two portions, the second past the window, then single tokens and a few at once."""
    model, ids = tiny(name), tokens(2, 84)
    mask = padding(84, left=(0, 11))
    portions = torch.tensor([40, 36, 1, 1, 5, 1]).cumsum(0).tolist()
    found = {}
    for implementation in ("eager", NAME):
        with running(model, implementation):
            state, parts = CACHES[cache](model, 84), []
            for first, last in zip([0, *portions], portions, strict=False):
                part = ids[:, first:last]
                parts.append(logits(model, part, attention_mask=mask[:, :last], cache=state))
            found[implementation] = torch.cat(parts, dim=1)
    assert_same(found[NAME][mask.bool()], found["eager"][mask.bool()])


@pytest.mark.parametrize("cache", ["dynamic", "static"])
@pytest.mark.parametrize("name", ["llama", "qwen3", "mistral", "gemma3"])
def test_generate_gives_the_tokens_of_sdpa(name: str, cache: str) -> None:
    model, ids = tiny(name), tokens(3, 2 * WINDOW + 3)
    options = {
        "attention_mask": padding(ids.shape[1], left=(0, 3, 12)),
        "max_new_tokens": 2 * WINDOW,
        "do_sample": False,
        "cache_implementation": cache,
    }
    with running(model, "sdpa"):
        wanted = model.generate(ids, **options)
    with running(model, NAME):
        found = model.generate(ids, **options)
    assert found.shape[1] == ids.shape[1] + 2 * WINDOW
    assert torch.equal(found, wanted)


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("name", ["llama", "gemma3"])
def test_gradients_are_those_of_sdpa(name: str, checkpointing: bool) -> None:
    model, ids = tiny(name, attention_dropout=0.0).train(), tokens(2, LONG)
    mask = padding(LONG, left=(0, 9))
    if checkpointing:
        model.activation_checkpointing_enable()
    found = {}
    for implementation in ("sdpa", NAME):
        with running(model, implementation):
            model.zero_grad()
            model(input_ids=ids, attention_mask=mask, labels=ids.masked_fill(mask == 0, -100)).loss.backward()
            found[implementation] = [parameter.grad.clone() for parameter in model.parameters()]
    for mine, theirs in zip(found[NAME], found["sdpa"], strict=True):
        assert mine.abs().max() > 0
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("name", ["gemma2", "gpt_oss"])
def test_softcap_and_sinks_in_training(name: str) -> None:
    model, ids = tiny(name).train(), tokens(2, 40)
    found = {}
    for implementation in ("eager", NAME):
        with running(model, implementation):
            model.zero_grad()
            model(input_ids=ids, labels=ids).loss.backward()
            found[implementation] = [parameter.grad.clone() for parameter in model.parameters()]
    for mine, theirs in zip(found[NAME], found["eager"], strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-3, atol=1e-5)


def test_a_mask_that_is_ready_goes_to_sdpa() -> None:
    model, ids = tiny("llama"), tokens(2, 20)
    ready = torch.rand(2, 1, 20, 20) < 0.5
    ready |= torch.eye(20, dtype=torch.bool)
    with running(model, "sdpa"):
        wanted = logits(model, ids, attention_mask=ready)
    with running(model, NAME):
        assert_same(logits(model, ids, attention_mask=ready), wanted)


def test_autocast() -> None:
    model, ids = tiny("llama"), tokens(2, 40)
    found = {}
    for implementation in ("sdpa", NAME):
        with running(model, implementation), torch.autocast("cpu", torch.bfloat16):
            found[implementation] = logits(model, ids)
    torch.testing.assert_close(found[NAME], found["sdpa"], rtol=0.05, atol=0.3)


def test_the_work_is_done_by_attnmask_once_a_forward_pass(monkeypatch: pytest.MonkeyPatch) -> None:
    """Layers of one kind share one lifted mask; long calls go to tiles, and decoding goes over pairs."""
    model, ids = tiny("gemma3"), tokens(1, 30)
    calls: list[str] = []

    def counting(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*args: Any, **options: Any) -> Any:
            calls.append(name)
            return function(*args, **options)

        return counted

    monkeypatch.setattr(attend, "attention", counting("tiles", attention))
    monkeypatch.setattr(attend, "dense_attention", counting("pairs", dense_attention))
    monkeypatch.setattr(CallMask, "own", counting("lift", CallMask.own))
    with running(model, NAME):
        state = DynamicCache(config=model.config)
        logits(model, ids, cache=state)
        assert sorted(calls) == ["lift"] * 2 + ["tiles"] * 4
        calls.clear()
        logits(model, ids[:, :1], cache=state)
        assert calls == ["pairs"] * 4


# ---- the two functions by themselves -----------------------------------------------------------------


class Layer(torch.nn.Module):
    """What an attention function is told of its layer."""

    is_causal = True


def call_mask(q_len: int, kv_len: int, **options: Any) -> CallMask:
    mask: CallMask = mask_forward(batch_size=2, q_length=q_len, kv_length=kv_len, **options)
    return mask


def heads_of(q_len: int, kv_len: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(2, 4, q_len, 8), torch.randn(2, 2, kv_len, 8), torch.randn(2, 2, kv_len, 8)


@pytest.mark.parametrize("q_len", [1, 5, 40])
@pytest.mark.parametrize("cap", [None, 1.5])
@pytest.mark.parametrize("sinks", [False, True])
def test_attention_by_its_formula(q_len: int, cap: float | None, sinks: bool) -> None:
    q, k, v = heads_of(q_len, kv_len=45)
    rows = torch.arange(q_len)[:, None] + 100
    keys = torch.arange(45)[None, :] + 70
    pad = torch.arange(150) >= 80
    allowed = (keys <= rows) & pad[keys]
    call = call_mask(q_len, 45, q_offset=100, kv_offset=70, attention_mask=pad.expand(2, -1))
    sink = torch.randn(4) if sinks else None
    found, weights = attend.attention_forward(Layer(), q, k, v, call, scaling=0.5, softcap=cap, s_aux=sink)
    scores = q @ k.repeat_interleave(2, dim=1).transpose(-1, -2) * 0.5
    scores = scores if cap is None else cap * torch.tanh(scores / cap)
    scores = scores.masked_fill(~allowed, -torch.inf)
    if sink is not None:
        scores = torch.cat([scores, sink[None, :, None, None].expand(2, -1, q_len, 1)], dim=-1)
    wanted = scores.softmax(dim=-1)[..., :45] @ v.repeat_interleave(2, dim=1)
    assert weights is None
    assert_same(found, wanted.transpose(1, 2))


@pytest.mark.parametrize("q_len", [1, 5, 40])
def test_a_mask_over_positions_in_a_rolling_cache(q_len: int) -> None:
    """The last 5 of 60 slots are not written yet, and K is the number of positions so far."""
    q, k, v = heads_of(q_len, kv_len=60)
    rows, keys = torch.arange(100, 100 + q_len)[:, None], torch.arange(45 + q_len, 105 + q_len)[None, :]
    layer = Layer()
    setattr(layer, attend.ATTRIBUTE, am.compile("abs(q - k) < 30 & k + 2 < K & h != 1 | diagonal"))
    call = call_mask(q_len, 60, q_offset=100, kv_offset=45 + q_len)
    found, _ = attend.attention_forward(layer, q, k, v, call)
    seen = ((rows - keys).abs() < 30) & (keys + 2 < 100 + q_len)
    allowed = torch.stack([seen, torch.zeros_like(seen), seen, seen]) | (rows == keys)
    assert (keys[0] >= 100 + q_len).sum() == 5
    wanted = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=allowed, enable_gqa=True)
    assert_same(found, wanted.transpose(1, 2))


@pytest.mark.parametrize("q_len", [4, 40])
def test_queries_without_keys_give_zero(q_len: int) -> None:
    q, k, v = heads_of(q_len, q_len)
    pad = torch.arange(q_len).expand(2, -1) >= 3
    found, _ = attend.attention_forward(Layer(), q, k, v, call_mask(q_len, q_len, attention_mask=pad))
    assert (found[:, :3] == 0).all()
    assert (found[:, 3:] != 0).all()


def test_what_cannot_be_lifted_is_evaluated() -> None:
    def odd(b: torch.Tensor, h: torch.Tensor, q: torch.Tensor, k: torch.Tensor) -> torch.Tensor:
        return (k <= q) & torch.from_numpy(k.numpy() % 3 < 2)

    q, k, v = heads_of(40, 40)
    with pytest.warns(UserWarning, match="attnmask cannot lift it"):
        found, _ = attend.attention_forward(Layer(), q, k, v, call_mask(40, 40, mask_function=odd))
    at = torch.arange(40)
    wanted = torch.nn.functional.scaled_dot_product_attention(
        q, k, v, attn_mask=odd(at, at, at[:, None], at[None, :]), enable_gqa=True
    )
    assert_same(found, wanted.transpose(1, 2))


def test_a_mask_made_ahead_is_kept() -> None:
    call = call_mask(5, 9)
    assert mask_forward(2, 5, 9, attention_mask=call) is call
    assert (call.ndim, call.shape) == (4, (2, 1, 5, 9))


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"dropout": 0.1}, "attnmask computes no attention dropout, and it is 0.1"),
        ({"output_attentions": True}, "attnmask gives no attention weights"),
        ({"position_bias": torch.zeros(1, 4, 5, 5)}, "attnmask does not add a learned bias"),
    ],
)
def test_what_is_refused(options: dict[str, Any], says: str) -> None:
    q, k, v = heads_of(5, 5)
    with pytest.raises(MaskError, match=says):
        attend.attention_forward(Layer(), q, k, v, call_mask(5, 5), **options)


def test_a_mask_of_another_length_is_refused() -> None:
    q, k, v = heads_of(5, 6)
    with pytest.raises(MaskError, match="this layer has 6 keys, and its mask was made for 5"):
        attend.attention_forward(Layer(), q, k, v, call_mask(5, 5))


@pytest.mark.parametrize("option", [{"softcap": 2.0}, {"s_aux": torch.zeros(4)}])
def test_a_mask_that_is_ready_has_no_softcap_and_no_sinks(option: dict[str, Any]) -> None:
    q, k, v = heads_of(5, 5)
    with pytest.raises(MaskError, match="brings a mask that is ready"):
        attend.attention_forward(Layer(), q, k, v, None, **option)


def test_dropout_in_training_is_a_sentence() -> None:
    model = tiny("llama", attention_dropout=0.1).train()
    with running(model, NAME), pytest.raises(MaskError, match="attention dropout"):
        model(input_ids=tokens(1, 8))


def test_transformers_is_optional() -> None:
    program = "import sys; sys.modules['transformers'] = None\nimport attnmask.integrations.transformers"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "ImportError: attnmask.integrations.transformers needs transformers" in done.stderr
    assert "pip install 'attnmask[transformers]'" in done.stderr
