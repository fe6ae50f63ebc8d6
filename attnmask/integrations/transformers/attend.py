"""The attention function of transformers' protocol."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from attnmask.errors import MaskError
from attnmask.integrations.transformers.call import CallMask, mask_forward
from attnmask.integrations.transformers.dense import dense_attention
from attnmask.ir.predicate import TRUE
from attnmask.library import softcap as capped
from attnmask.lower.attention import attention
from attnmask.lower.functions import untraced
from attnmask.mask import Mask
from attnmask.score_mod import ScoreMod

Tensor = torch.Tensor

NAME = "attnmask"
# Where an attention module keeps the mask that use_mask gave it.
ATTRIBUTE = "_attnmask_mask"
# Up to this many queries, looking at every pair costs less than finding tiles.
_FEW = 16
_EVERYTHING = Mask(TRUE)


def register() -> None:
    """Makes "attnmask" an attention implementation of transformers, with masks of its own. May be repeated."""
    AttentionInterface.register(NAME, attention_forward)
    AttentionMaskInterface.register(NAME, mask_forward)


@untraced
def attention_forward(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: CallMask | Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **options: Any,
) -> tuple[Tensor, None]:
    """q [B, Hq, Q, D], k [B, Hkv, K, D], v [B, Hkv, K, Dv] → out [B, Q, Hq, Dv], and no attention weights.

    A mask that somebody made without transformers' mask functions ([B, H, Q, K], or None) goes to SDPA.
    MaskError for what attnmask cannot compute: dropout, weights as output, learned biases of positions.
    """
    user: Mask | None = getattr(module, ATTRIBUTE, None)
    if not isinstance(attention_mask, CallMask):
        _require_plain(user, softcap, s_aux)
        out, _ = sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, **options
        )
        return out, None
    call = attention_mask
    _require_possible(call, key, dropout, options)
    query, key, value = (_as_autocast(tensor) for tensor in (query, key, value))
    own = user is None
    mask = _EVERYTHING if user is None else user
    if softcap is not None:
        mask = call.kept(("capped", mask, softcap), lambda: _capped(mask, softcap))
    if not own:
        key, value = key[:, :, : call.filled], value[:, :, : call.filled]
    scale = 1 / math.sqrt(query.shape[-1]) if scaling is None else scaling
    out, lse = _attention(query, key, value, call, mask, own, scale, s_aux is not None)
    if s_aux is not None and lse is not None:
        # A sink is one more score a head, whose share of the softmax goes nowhere.
        out = out * torch.sigmoid(lse - s_aux[:, None].to(lse.dtype))[..., None].to(out.dtype)
    return out.transpose(1, 2).contiguous(), None


def _attention(
    q: Tensor, k: Tensor, v: Tensor, call: CallMask, mask: Mask, own: bool, scale: float, lse: bool
) -> tuple[Tensor, Tensor | None]:
    """out [B, Hq, Q, Dv], and lse [B, Hq, Q] if asked; `mask` is over positions, `own` as in dense_attention.

    A mask that chooses does so for the queries of the call, and among the keys that the cache has kept: all of them.
    """
    if mask.chooses and call.kv_offset:
        raise MaskError(
            "a mask that chooses needs all keys, and this model's cache drops those that slide out of its window",
            hint="give the mask to the layers whose cache keeps them: use_mask(model, {layer: mask})",
        )
    few = call.q_len <= _FEW and not mask.chooses
    lifted = call.kept("own", call.own) if own and not few else None
    if few or (own and lifted is None):
        return dense_attention(q, k, v, call, mask, own, scale, lse)
    whole = call.kept(("slots", mask, own), lambda: call.slots(mask if lifted is None else mask & lifted))
    found = attention(q, k, v, whole, scale=scale, enable_gqa=True, return_lse=lse, q_offset=call.q_offset)
    return found if isinstance(found, tuple) else (found, None)


def _capped(mask: Mask, cap: float) -> Mask:
    """The mask with the model's own change of scores before that of the mask."""
    first = replace(mask, score=None).with_score(capped(cap))
    return first if mask.score is None else first.with_score(ScoreMod(mask.score, mask.tables, mask.origins))


def _as_autocast(tensor: Tensor) -> Tensor:
    """Under autocast a model may give q and k in another precision than v, as SDPA allows."""
    kind = tensor.device.type
    if torch.is_autocast_enabled(kind) and tensor.dtype != torch.float64:
        return tensor.to(torch.get_autocast_dtype(kind))
    return tensor


def _require_plain(user: Mask | None, softcap: float | None, s_aux: Tensor | None) -> None:
    if user is not None:
        raise MaskError(
            "use_mask gave this layer a mask, and the model brings one that is ready",
            hint="pass attention_mask as padding [batch, length], or undo use_mask",
        )
    for what, value in (("soft-capping", softcap), ("attention sinks", s_aux)):
        if value is not None:
            raise MaskError(
                f"this model has {what}, and brings a mask that is ready",
                hint="pass attention_mask as padding [batch, length], or use the eager implementation",
            )


def _require_possible(call: CallMask, key: Tensor, dropout: float, options: dict[str, Any]) -> None:
    if dropout:
        raise MaskError(
            f"attnmask computes no attention dropout, and it is {dropout}",
            hint="set attention_dropout to 0 in the model's config, or call model.eval()",
        )
    if options.get("output_attentions"):
        raise MaskError(
            "attnmask gives no attention weights", hint="use the eager implementation for output_attentions"
        )
    if options.get("position_bias") is not None:
        raise MaskError(
            "attnmask does not add a learned bias of positions to scores", hint="use the sdpa implementation"
        )
    if key.shape[2] != call.kv_len:
        raise MaskError(f"this layer has {key.shape[2]} keys, and its mask was made for {call.kv_len}")
