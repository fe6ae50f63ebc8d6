"""Functions that differ from head to head, and those of tables over tokens, heads and blocks."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import and_masks, or_masks

from attnmask.lower.functions import MaskMod
from benchmarks.mask_functions.entry import chance, mask_function, sized

_HEADS = 4


def _causal(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
    return q_idx >= kv_idx


@mask_function("per head", heads=_HEADS)
def head_windows(length: int) -> MaskMod:
    """MoA and other models whose heads have windows of their own."""
    windows = sized(1024, length) >> torch.arange(_HEADS)
    return lambda b, h, q, k: (q >= k) & (q - k < windows[h])


@mask_function("per head", heads=_HEADS)
def head_halves(length: int) -> MaskMod:
    """Half of the heads see everything before, the others a window."""
    window = sized(512, length)

    def switch(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        everything = q_idx >= kv_idx
        return torch.where(h < _HEADS // 2, everything, everything & (q_idx - kv_idx < window))

    return switch


@mask_function("per head", heads=_HEADS)
def head_retrieval(length: int) -> MaskMod:
    """DuoAttention: retrieval heads are causal, streaming heads keep sinks and a recent window."""
    is_retrieval = torch.tensor([True, False, False, True])
    window, sinks = sized(256, length), sized(64, length)

    def streaming(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        return (kv_idx < sinks) | (q_idx - kv_idx < window)

    def retrieval(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        return is_retrieval[h]

    return and_masks(_causal, or_masks(retrieval, streaming))


@mask_function("per head", heads=_HEADS)
def head_dilations(length: int) -> MaskMod:
    """LongNet-like heads, each with segments and a step of its own."""
    step = torch.tensor([1, 2, 4, 8])
    segment = sized(2048, length) >> torch.tensor([3, 2, 1, 0])

    def visible(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        same = q_idx // segment[h] == kv_idx // segment[h]
        return same & (q_idx % step[h] == kv_idx % step[h]) & (kv_idx <= q_idx)

    return visible


@mask_function("block table", heads=_HEADS)
def bigbird_blocks(length: int) -> MaskMod:
    """BigBird and other layouts of blocks of 64: a table a head of which block sees which."""
    block = sized(64, length)
    blocks = -(-length // block)
    at = torch.arange(blocks)
    near = (at[:, None] - at[None, :]).abs() <= 1
    edge = (at == 0) | (at == blocks - 1)
    selected = chance(3 / max(blocks, 4), (_HEADS, blocks, blocks)) | near | edge[:, None] | edge
    return lambda b, h, q, k: selected[h, q // block, k // block]


@mask_function("block table", batch=2, heads=2)
def selected_blocks(length: int) -> MaskMod:
    """Choices made at run time for each row and head (top-k blocks), causal within."""
    blocks = -(-length // 64)
    selected = chance(8 / max(blocks, 16), (2, 2, blocks, blocks)) | torch.eye(blocks, dtype=torch.bool)

    def chosen(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        return selected[b, h, q_idx // 64, kv_idx // 64]

    return and_masks(chosen, _causal)


@mask_function("global tokens")
def longformer(length: int) -> MaskMod:
    """Longformer with the first tokens global: a window, and they see and are seen by all."""
    window, tokens = sized(256, length), sized(16, length)

    def local(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        return torch.abs(q_idx - kv_idx) <= window

    def first(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        return (q_idx < tokens) | (kv_idx < tokens)

    return or_masks(local, first)


@mask_function("global tokens")
def global_by_table(length: int) -> MaskMod:
    """The same for global tokens that stand anywhere, such as separators."""
    window, is_global = sized(128, length), chance(8 / length, (length,))
    return lambda b, h, q, k: (abs(q - k) < window) | is_global[q] | is_global[k]


@mask_function("global tokens")
def kept_tokens(length: int) -> MaskMod:
    """Eviction from a cache by score: keys that scored high stay, others only while they are recent."""
    score = torch.rand(length, generator=torch.Generator().manual_seed(0))
    window = sized(128, length)
    return lambda b, h, q, k: (q >= k) & ((score[k] > 0.99) | (q - k < window))


@mask_function("cross attention", q_len=lambda length: max(2, length // 3))
def latest_image(length: int) -> MaskMod:
    """Flamingo: text tokens look at the image that came last before them."""
    tokens = sized(64, length)
    images = length // tokens
    n_text = max(2, length // 3)
    begins = chance(images / n_text, (n_text,))
    latest = begins.long().cumsum(0).clamp(max=images) - 1
    return lambda b, h, q, k: latest[q] == k // tokens
