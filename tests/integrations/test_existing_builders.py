"""transformers' own FlexAttention masks, built by attnmask inside `accelerate`: the same lists."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from transformers import masking_utils

import attnmask as am
from attnmask.lower import builder
from attnmask.lower.builder import built
from tests.lower.listed import listed

PADDING = torch.ones(2, 300, dtype=torch.bool)
PADDING[0, :17] = 0
PADDING[1, 250:] = 0
PACKED = torch.arange(300).repeat(2, 1) // 70
MASKS: dict[str, tuple[Any, dict[str, Any]]] = {
    "causal": (masking_utils.causal_mask_function, {}),
    "padded": (masking_utils.causal_mask_function, {"attention_mask": PADDING}),
    "sliding": (masking_utils.sliding_window_causal_mask_function(60), {"attention_mask": PADDING}),
    "chunked": (masking_utils.chunked_causal_mask_function(64, torch.tensor([17, 0])), {}),
    "packed": (
        masking_utils.and_masks(
            masking_utils.causal_mask_function, masking_utils.packed_sequence_mask_function(PACKED)
        ),
        {},
    ),
    "bidirectional": (masking_utils.bidirectional_mask_function, {"attention_mask": PADDING}),
}


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize(("q_length", "q_offset"), [(300, 0), (40, 260)])
@pytest.mark.filterwarnings("ignore:_compile flag:DeprecationWarning")
def test_masks_of_transformers(
    name: str, q_length: int, q_offset: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    function, options = MASKS[name]
    options = {
        **options,
        "batch_size": 2,
        "q_length": q_length,
        "q_offset": q_offset,
        "kv_length": 300,
        "mask_function": function,
    }
    built.cache_clear()
    with am.accelerate():
        assert vars(masking_utils)["create_block_mask"] is not builder.TORCH_BUILDER
        found = masking_utils.flex_attention_mask(**options)
    assert len(built.kept) == 1
    assert vars(masking_utils)["create_block_mask"] is builder.TORCH_BUILDER
    eager = lambda **asked: builder.TORCH_BUILDER(**{**asked, "_compile": False})  # noqa: E731  # compiling takes long
    monkeypatch.setattr(masking_utils, "create_block_mask", eager)
    assert listed(found) == listed(masking_utils.flex_attention_mask(**options))
