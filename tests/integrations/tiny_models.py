"""transformers models small enough for tests, with random weights, and ways to run them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from transformers import (
    BertConfig,
    BertModel,
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GptOssConfig,
    GptOssForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

VOCABULARY = 67
WINDOW = 8
_SIZES: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
}
_DECODER = {**_SIZES, "num_key_value_heads": 2, "head_dim": 16, "bos_token_id": 1, "eos_token_id": None}
_KINDS = ["sliding_attention", "full_attention"]


def tiny(name: str, **changes: Any) -> Any:
    """A model in evaluation mode; Any, since much of a model has no types.

    Weights are larger than those that training starts with, so that attention matters.
    """
    torch.manual_seed(0)
    model = _built(name, changes)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 2:
                parameter.normal_(std=0.3)
    return model.eval()


def _built(name: str, changes: dict[str, Any]) -> Any:
    match name:
        case "llama":
            return LlamaForCausalLM(LlamaConfig(**_DECODER | changes))
        case "qwen3":
            return Qwen3ForCausalLM(Qwen3Config(**_DECODER | changes))
        case "mistral":
            return MistralForCausalLM(MistralConfig(**_DECODER, sliding_window=WINDOW, **changes))
        case "gemma2":
            config = Gemma2Config(**_DECODER, sliding_window=WINDOW, attn_logit_softcapping=2.0, **changes)
            return Gemma2ForCausalLM(config)
        case "gemma3":
            layers = {"sliding_window": WINDOW, "layer_types": _KINDS * 2, "num_hidden_layers": 4}
            return Gemma3ForCausalLM(Gemma3TextConfig(**_DECODER | layers | changes))
        case "gpt_oss":
            experts = {"num_local_experts": 2, "num_experts_per_tok": 1, "sliding_window": WINDOW}
            return GptOssForCausalLM(GptOssConfig(**_DECODER | experts | changes))
        case "bert":
            return BertModel(BertConfig(**_SIZES | changes))
        case _:
            raise AssertionError(name)


def tokens(batch: int, length: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(3, VOCABULARY, (batch, length), generator=generator)


def padding(length: int, *, left: tuple[int, ...] = (), right: tuple[int, ...] = ()) -> torch.Tensor:
    """attention_mask with a row for each number of padding tokens."""
    mask = torch.ones(max(len(left), len(right)), length, dtype=torch.int64)
    for row, count in enumerate(left):
        mask[row, :count] = 0
    for row, count in enumerate(right):
        mask[row, length - count :] = 0
    return mask


@contextmanager
def running(model: Any, implementation: str) -> Iterator[None]:
    before = model.config._attn_implementation
    model.set_attn_implementation(implementation)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


@torch.no_grad()
def logits(model: Any, ids: torch.Tensor, **options: Any) -> torch.Tensor:
    """The last hidden state where a model has no head."""
    output = model(input_ids=ids, **options)
    found: torch.Tensor = output.logits if "logits" in output else output.last_hidden_state
    return found
