"""Functions of the distance and of the position alone: causal, windows, sinks, prefixes, chunks, strides."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import and_masks, or_masks

from attnmask.lower.functions import MaskMod
from benchmarks.mask_functions.entry import drawn, mask_function, sized


def _causal(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
    return q_idx >= kv_idx


@mask_function("causal")
def causal(length: int) -> MaskMod:
    """Every decoder-only language model."""
    return _causal


@mask_function("causal")
def causal_of_several(length: int) -> MaskMod:
    """Decoders that compose small functions: the past, no padding at the end, and not the token itself."""
    used = length - length // 10

    def in_use(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        return (q_idx < used) & (kv_idx < used)

    def others(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        return q_idx != kv_idx

    return and_masks(_causal, and_masks(in_use, others))


@mask_function("bidirectional")
def bidirectional(length: int) -> MaskMod:
    """Encoders such as BERT without padding, where code asks for a function anyway."""
    return lambda b, h, q, k: q >= 0


@mask_function("sliding window")
def window_exclusive(length: int) -> MaskMod:
    """Mistral and Gemma: the last `window` keys, self included."""
    window = sized(512, length)

    def sliding(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        distance = q_idx - kv_idx
        return (distance >= 0) & (distance < window)

    return sliding


@mask_function("sliding window")
def window_inclusive(length: int) -> MaskMod:
    """Tutorials of FlexAttention: `window` keys besides the token itself, out of two functions."""
    window = sized(1024, length)

    def near(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        return q_idx - kv_idx <= window

    return and_masks(_causal, near)


def _after(window: int, b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
    return kv_idx > q_idx - window


@mask_function("sliding window")
def window_by_bound(length: int) -> MaskMod:
    """Overlays of mask libraries: a lower bound for the key, given by functools.partial."""
    return and_masks(partial(_after, sized(256, length)), _causal)


@mask_function("sliding window")
def window_two_sided(length: int) -> MaskMod:
    """ModernBERT's local layers."""
    half = sized(128, length) // 2
    return lambda b, h, q, k: (q - k).abs() <= half


class _Band:
    """A window of its own size on either side, as an object that is called."""

    def __init__(self, left: int, right: int) -> None:
        self.left = left
        self.right = right

    def __call__(self, b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        return torch.logical_and(kv_idx >= q_idx - self.left, kv_idx <= q_idx + self.right)


@mask_function("sliding window")
def window_with_lookahead(length: int) -> MaskMod:
    """Streaming speech recognition: much of the past, a little of the future."""
    return _Band(sized(300, length), sized(40, length))


@mask_function("sliding window")
def window_in_place(length: int) -> MaskMod:
    """Code that narrows a mask down step by step, in place."""
    window = sized(512, length)

    def narrowed(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        mask = q_idx >= kv_idx
        mask &= q_idx - kv_idx < window
        return mask

    return narrowed


@mask_function("sliding window", has_integer_form=False)
def event_window(length: int) -> MaskMod:
    """Histories of events in recommenders: what happened within a span of time, in seconds."""
    steps = torch.rand(length, generator=torch.Generator().manual_seed(0))
    seconds, span = steps.cumsum(0), sized(512, length) / 2
    return lambda b, h, q, k: (q >= k) & (seconds[q] - seconds[k] < span)


@mask_function("sink and window")
def sink_window(length: int) -> MaskMod:
    """StreamingLLM: the first few keys stay in sight."""
    window, sinks = sized(512, length), 4
    return and_masks(
        _causal,
        or_masks(lambda b, h, q, k: q - k < window, lambda b, h, q, k: k < sinks),
    )


@mask_function("prefix")
def prefix_lm(length: int) -> MaskMod:
    """T5-like and vision-language decoders with a prompt that sees itself whole."""
    prefix = length // 3
    return or_masks(lambda b, h, q, k: k < prefix, _causal)


@mask_function("prefix", batch=2)
def prefix_lm_per_row(length: int) -> MaskMod:
    """The same in training, where each row of the batch has a prompt of its own."""
    prefix = drawn(1, length // 2, (2,))

    def visible(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        return (kv_idx < prefix[b]) | (kv_idx <= q_idx)

    return visible


@mask_function("chunked")
def chunked(length: int) -> MaskMod:
    """Llama 4's local layers: causal within chunks."""
    size = sized(8192, length)
    return lambda b, h, q, k: (q // size == k // size) & (q >= k)


@mask_function("chunked", batch=2)
def chunked_left_padded(length: int) -> MaskMod:
    """The same in generation, where rows are padded on the left and chunks start after it."""
    size, left = sized(2048, length), drawn(0, max(2, length // 5), (2,))

    def same_chunk(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        return (kv_idx - left[b]) // size == (q_idx - left[b]) // size

    def not_padding(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        return kv_idx >= left[b]

    return and_masks(same_chunk, _causal, not_padding)


@mask_function("chunked")
def block_causal(length: int) -> MaskMod:
    """Block-autoregressive generation: blocks see themselves whole, and all earlier ones."""
    size = sized(96, length)
    return lambda b, h, q, k: (
        torch.div(q, size, rounding_mode="floor") >= torch.div(k, size, rounding_mode="floor")
    )


@mask_function("dilated")
def dilated(length: int) -> MaskMod:
    """Dilated windows of Longformer and LongNet: every fourth key of the nearer past."""
    step, keys = 4, sized(256, length)

    def every_few(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        distance = q_idx - kv_idx
        return (distance >= 0) & (distance < step * keys) & (distance % step == 0)

    return every_few


@mask_function("dilated")
def listed_distances(length: int) -> MaskMod:
    """Hand-made patterns: a list of distances, any of which will do."""
    distances = [distance for distance in (0, 1, 2, 4, 8, 64, 512) if distance <= length // 8]

    def any_of(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        return torch.stack([q_idx - kv_idx == distance for distance in distances]).any(dim=0)

    return any_of


@mask_function("strided")
def strided(length: int) -> MaskMod:
    """Sparse Transformer, strided: a window, and each stride-th key before it."""
    stride = sized(128, length)
    return lambda b, h, q, k: (q >= k) & ((q - k < stride) | ((q - k) % stride == 0))


@mask_function("strided")
def strided_fixed(length: int) -> MaskMod:
    """Sparse Transformer, fixed: the own segment, and the last keys of every segment."""
    stride = sized(128, length)
    summary = max(1, stride // 16)

    def fixed(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        own = q_idx // stride == kv_idx // stride
        summaries = torch.remainder(kv_idx, stride) >= stride - summary
        return (own | summaries) & (kv_idx <= q_idx)

    return fixed


@mask_function("strided")
def log_sparse(length: int) -> MaskMod:
    """LogSparse Transformer for time series: keys at a distance of a power of two."""

    def powers(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        distance = q_idx - kv_idx
        return (distance >= 0) & ((distance & (distance - 1)) == 0)

    return powers
