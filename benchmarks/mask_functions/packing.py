"""Functions that read which document, sample or row a token belongs to: packing, padding, shared prefixes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import and_masks, or_masks

from attnmask.lower.functions import MaskMod
from benchmarks.mask_functions.entry import chance, drawn, mask_function, sized
from benchmarks.masks import documents


def _causal(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
    return q_idx >= kv_idx


def _document_ids(length: int) -> Tensor:
    """Documents of a thousand tokens on average, in order; three in a short sequence."""
    return torch.from_numpy(documents(length, max(3, length // 1000)))


def _starts(ids: Tensor) -> Tensor:
    """Where each document starts, and where the last one ends: cu_seqlens of variable-length kernels."""
    return torch.cat([torch.zeros(1, dtype=torch.int64), torch.bincount(ids).cumsum(0)])


@mask_function("packed documents")
def packed_ids(length: int) -> MaskMod:
    """Pretraining on packed sequences: causal within the document."""
    document = _document_ids(length)

    def own_past(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        return (document[q_idx] == document[kv_idx]) & (q_idx >= kv_idx)

    return own_past


@mask_function("packed documents")
def packed_bounds(length: int) -> MaskMod:
    """Packed encoders that keep first and last position of the own document with every token."""
    ids = _document_ids(length)
    cu_seqlens = _starts(ids)
    start, end = cu_seqlens[ids], cu_seqlens[ids + 1]
    return lambda b, h, q, k: (start[q] <= k) & (k < end[q])


@mask_function("packed documents")
def packed_cu_seqlens(length: int) -> MaskMod:
    """Code that comes from variable-length kernels and looks documents up in cu_seqlens."""
    cu_seqlens = _starts(_document_ids(length))

    def own_past(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        q_doc = torch.searchsorted(cu_seqlens, q_idx, right=True)
        kv_doc = torch.searchsorted(cu_seqlens, kv_idx, right=True)
        return (q_doc == kv_doc) & (q_idx >= kv_idx)

    return own_past


@mask_function("packed documents")
def packed_prompts(length: int) -> MaskMod:
    """Packed prompt and answer pairs: an inner function that gets positions within the document."""
    ids = _document_ids(length)
    offsets, prompt = _starts(ids), sized(100, length)

    def inner(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        return (kv_idx < prompt) | (q_idx >= kv_idx)

    def per_document(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        q_in_document = q_idx - offsets[ids[q_idx]]
        kv_in_document = kv_idx - offsets[ids[kv_idx]]
        return (ids[q_idx] == ids[kv_idx]) & inner(b, h, q_in_document, kv_in_document)

    return per_document


@mask_function("packed documents", batch=2)
def packed_rows(length: int) -> MaskMod:
    """Trainers that find documents by the end-of-text tokens of every row of the batch."""
    ends = chance(3 / min(length, 3000), (2, length))
    ids = torch.cumsum(ends, dim=1) - ends.long()

    def same(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        return ids[b, q_idx] == ids[b, kv_idx]

    return and_masks(same, _causal)


@mask_function("packed documents")
def packed_to_length(length: int) -> MaskMod:
    """Packed rows filled up to a fixed length: the filling has document -1 and sees nothing."""
    document = _document_ids(length).to(torch.int32)
    document[length - length // 7 :] = -1

    def visible(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        q_doc, kv_doc = document[q_idx], document[kv_idx]
        return (q_doc == kv_doc) & (q_doc != -1) & (kv_idx <= q_idx)

    return visible


@mask_function("packed documents", q_len=lambda length: max(3, length // 2))
def packed_cross_attention(length: int) -> MaskMod:
    """Encoder-decoder models: packed targets look at the source of their own pair."""
    target = torch.from_numpy(documents(max(3, length // 2), 3 + length // 3000))
    source = torch.from_numpy(documents(length, 3 + length // 3000))
    return lambda b, h, q, k: target[q] == source[k]


@mask_function("shared prefix")
def shared_prefix(length: int) -> MaskMod:
    """Several answers to one prompt in one sequence, as in best-of-n and GRPO."""
    prompt, answer = length // 4, sized(700, length)

    def visible(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        in_prompt = kv_idx < prompt
        same_answer = (q_idx - prompt) // answer == (kv_idx - prompt) // answer
        return (q_idx >= kv_idx) & (in_prompt | same_answer)

    return visible


@mask_function("shared prefix")
def shared_prefix_groups(length: int) -> MaskMod:
    """The same for several prompts: tables of prompt and answer, answer 0 being the prompt itself."""
    group = _document_ids(length)
    within = torch.arange(length) - _starts(group)[group]
    answer = within // sized(250, length)

    def visible(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        same_group = group[q_idx] == group[kv_idx]
        same_answer = answer[q_idx] == answer[kv_idx]
        return (q_idx >= kv_idx) & same_group & (same_answer | (answer[kv_idx] == 0))

    return visible


@mask_function("padding", batch=2)
def padded_keys(length: int) -> MaskMod:
    """Encoders with the tokenizer's attention mask, one row of the batch each."""
    lengths = drawn(length // 2, length, (2,))
    attention_mask = torch.arange(length)[None, :] < lengths[:, None]
    return lambda b, h, q, k: attention_mask[b, k]


@mask_function("padding", batch=2)
def padded_lengths(length: int) -> MaskMod:
    """The same from a tensor of lengths, for queries as well as keys."""
    lengths = drawn(length // 2, length, (2,))

    def in_row(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        return torch.maximum(q_idx, kv_idx) < lengths[b]

    return in_row


@mask_function("padding", batch=2)
def padded_causal_packed(length: int) -> MaskMod:
    """Mask libraries of model collections: causal, then padding, then packed sequences, joined one by one."""
    padding = torch.ones(2, length, dtype=torch.bool)
    padding[0, : length // 9] = False
    packed = torch.stack([_document_ids(length), _document_ids(length).flip(0)])

    def padding_function(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        return padding[b, kv_idx]

    def packed_function(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        return packed[b, q_idx] == packed[b, kv_idx]

    return and_masks(and_masks(_causal, padding_function), packed_function)


@mask_function("roles")
def clusters(length: int) -> MaskMod:
    """Routing Transformer: tokens see their own cluster, whose members stand anywhere."""
    cluster = drawn(0, 32, (length,))
    return lambda b, h, q, k: (cluster[q] == cluster[k]) & (q >= k)


@mask_function("roles")
def modalities(length: int) -> MaskMod:
    """Multimodal encoders with a table of which modality may look at which."""
    role = drawn(0, 4, (length // sized(100, length) + 1,)).repeat_interleave(sized(100, length))[:length]
    allowed = torch.tensor([[1, 1, 0, 0], [1, 1, 1, 0], [0, 1, 1, 1], [1, 0, 0, 1]], dtype=torch.bool)
    return lambda b, h, q, k: allowed[role[q], role[k]]


@mask_function("roles", batch=2)
def image_groups(length: int) -> MaskMod:
    """Gemma 3 and its like: causal, but the tokens of one image see each other."""
    span = sized(256, length)
    is_image = chance(0.3, (2, length // span + 1)).repeat_interleave(span, dim=1)[:, :length]
    starts = is_image & ~torch.nn.functional.pad(is_image, (1, 0))[:, :-1]
    image = torch.where(is_image, starts.cumsum(1), -1)

    def one_image(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        return (image[b, q_idx] == image[b, kv_idx]) & (image[b, q_idx] >= 0)

    return or_masks(_causal, one_image)


@mask_function("roles")
def gist_tokens(length: int) -> MaskMod:
    """Gist tokens and context compression: what lies before a gist is seen through it only."""
    is_gist = torch.zeros(length, dtype=torch.bool)
    is_gist[sized(500, length) :: sized(500, length)] = True
    segment = is_gist.long().cumsum(0) - is_gist.long()

    def visible(b: Tensor, h: Tensor, q_idx: Tensor, kv_idx: Tensor) -> Tensor:
        return ((segment[q_idx] == segment[kv_idx]) | is_gist[kv_idx]) & (kv_idx <= q_idx)

    return visible
