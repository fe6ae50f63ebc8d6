"""The library's definitions and twenty published masks, with arguments small enough to be looked at in full."""

from __future__ import annotations

import attnmask as am
from attnmask.mask import Mask

_LIBRARY = (
    "all",
    "none",
    "causal",
    "diagonal",
    "window(5)",
    "recent(5)",
    "band(-2, 6)",
    "sink(4)",
    "tail(3)",
    "prefix(6)",
    "rows(i < 7)",
    "cols(i % 3 == 0)",
    "global(i < 2)",
    "same(doc)",
    "before(doc)",
    "before(i // 4, strict=true)",
    "chunk(8)",
    "dilated(3, 2)",
    "strided(4)",
    "heads(:2)",
)
_PUBLISHED = (
    "bigbird(block=4, random=1)",
    "blockrank(8)",
    "clear(8, 3)",
    "gemma2(layer=0, window=6)",
    "gemma3(layer=0, window=6)",
    "halonet(12, 4, 1)",
    "infini_attention(8)",
    "landmark(5)",
    "llama4(layer=0, chunk=8)",
    "longformer(4, 2, i < 2)",
    "longlive(3, 2, 4, 1)",
    "longlora_flash(8)",
    "maxvit_block(8, 4)",
    "maxvit_grid(8, 8, 2)",
    "mistral(6)",
    "natten(5, length=16)",
    "prefix_lm(6)",
    "sparse_transformer_fixed(8, 2)",
    "sparse_transformer_strided(6)",
    "star_attention(8, 2, 20)",
    "streaming_llm(2, 6)",
    "swin(8, 8, 4, 2)",
)


def _name(text: str) -> str:
    return text.partition("(")[0]


LIBRARY: dict[str, Mask] = {text: am.compile(text) for text in _LIBRARY}
PUBLISHED: dict[str, Mask] = {_name(text): am.compile(f"zoo.{text}") for text in _PUBLISHED}
