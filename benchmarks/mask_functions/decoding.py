"""Functions of generation: fewer queries than keys, drafts that form a tree, denoising of blocks."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import and_masks

from attnmask.lower.functions import MaskMod
from benchmarks.mask_functions.entry import drawn, mask_function, sized


def _causal(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
    return q_idx >= kv_idx


def _shifted(inner: MaskMod, offset: Tensor) -> MaskMod:
    """The same function for queries that start at `offset`."""

    def shifted(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        return inner(b, h, q_idx + offset, kv_idx)

    return shifted


def _new_tokens(length: int) -> int:
    """Queries of a step that appends to a cache."""
    return max(1, length // 8)


@mask_function("offset", q_len=_new_tokens)
def cache_offset(length: int) -> MaskMod:
    """Chunked prefill: queries start behind a cache, by an offset that stays a tensor."""
    return _shifted(_causal, torch.tensor(length - _new_tokens(length)))


@mask_function("offset", q_len=_new_tokens, batch=2)
def cache_offset_per_row(length: int) -> MaskMod:
    """Batched decoding with caches of unequal length, and a window."""
    window, seen = sized(1024, length), drawn(0, length - _new_tokens(length), (2,))

    def near_past(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        position = q_idx + seen[b]
        return (kv_idx <= position) & (position - kv_idx < window)

    return near_past


def _ancestors(nodes: int) -> Tensor:
    """bool [node, node]: itself and what lies above it in a random tree of drafts."""
    parent = [int(drawn(0, max(1, node), (1,), seed=node)) for node in range(nodes)]
    above = torch.eye(nodes, dtype=torch.bool)
    for node in range(1, nodes):
        above[node] |= above[parent[node]]
    return above


def _drafts(length: int) -> int:
    return min(64, max(2, length // 2))


@mask_function("tree", q_len=_drafts)
def tree_verification(length: int) -> MaskMod:
    """Medusa and EAGLE: drafts see the cache and their ancestors."""
    drafts = _drafts(length)
    cached, ancestor = length - drafts, _ancestors(drafts)

    def visible(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        draft = (kv_idx - cached).clamp(min=0)
        return (kv_idx < cached) | ancestor[q_idx, draft]

    return visible


@mask_function("tree")
def tree_after_prefix(length: int) -> MaskMod:
    """The same without a cache: prompt and tree in one forward pass."""
    drafts = _drafts(length)
    prompt, ancestor = length - drafts, _ancestors(drafts)

    def visible(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        q_node = torch.clamp(q_idx - prompt, 0, drafts - 1)
        kv_node = torch.clamp(kv_idx - prompt, 0, drafts - 1)
        in_tree = (q_idx >= prompt) & (kv_idx >= prompt)
        return torch.where(in_tree, ancestor[q_node, kv_node], q_idx >= kv_idx)

    return visible


def _denoising(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor, *, block: int, tokens: int) -> Tensor:
    q_clean, kv_clean = q_idx >= tokens, kv_idx >= tokens
    q_block = torch.where(q_clean, (q_idx - tokens) // block, q_idx // block)
    kv_block = torch.where(kv_clean, (kv_idx - tokens) // block, kv_idx // block)
    within_noisy = (q_block == kv_block) & (q_clean == kv_clean)
    noisy_to_clean = (q_block > kv_block) & kv_clean & ~q_clean
    clean_to_clean = (q_block >= kv_block) & kv_clean & q_clean
    return within_noisy | noisy_to_clean | clean_to_clean


@mask_function("block diffusion")
def block_diffusion(length: int) -> MaskMod:
    """Training of block diffusion models on the noisy sequence and the clean one behind it."""
    return partial(_denoising, block=16, tokens=length // 2)


@mask_function("block diffusion")
def block_diffusion_prompted(length: int) -> MaskMod:
    """Diffusion language models that denoise an answer in blocks after a prompt."""
    prompt, block = length // 3, sized(32, length)

    def place(index: Tensor) -> Tensor:
        return torch.where(index < prompt, 0, (index - prompt) // block + 1)

    def by_block(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        return place(kv_idx) <= place(q_idx)

    def not_last(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        return kv_idx != length - 1

    return and_masks(by_block, not_last)
