"""Superlinear attention: every span in a softmax of its own, added up by a softmax of the anchors' scores."""

from __future__ import annotations

from dataclasses import replace
from typing import Unpack

import torch

from attnmask.errors import MaskError
from attnmask.ir import index
from attnmask.ir.choices import choices_of
from attnmask.ir.nodes import Choice
from attnmask.ir.rules import Blocks, Pool, Spans
from attnmask.lower.choose.choices import Choices, checked, closing
from attnmask.lower.choose.pools import wide
from attnmask.lower.choose.sets import Intervals, tensors
from attnmask.lower.prepare import Lowerable
from attnmask.lower.programs.attend import Options, attend
from attnmask.lower.programs.combine import gated_sum

Tensor = torch.Tensor


def span_sum(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Lowerable,
    choices: Choices,
    *,
    search: tuple[Tensor, Tensor] | None = None,
    **options: Unpack[Options],
) -> Tensor:
    """The sum over the spans of a query of weight · attention, which sees that span and what is always there.

    Args:
        q: [B, Hq, Q, D]. k: [B, Hkv, K, D]. v: [B, Hkv, K, Dv].
        mask: one with `spans` around single keys of single queries, such as `zoo.superlinear(3, 255)`.
        choices: what it chose, `mask.choose(search_q, search_k, …)`.
        search: the queries [B, Hq, Q, E] and keys [B, Hkv, K, E] that it chose by; q and k unless given. The weights
            are the softmax over a query's anchors of their products, through which gradients flow.
        options: scale, block, q_offset and backend, as in `attention`.

    Returns:
        [B, Hq, Q, Dv]. A query without spans attends to what is always there.

    Raises:
        MaskError: when the mask has no such spans, or shapes disagree.

    Superlinear Multi-Step Attention, arXiv:2601.18401.
    """
    choice, scale = _spans_of(mask)
    found = checked(choices).of(choice)
    assert isinstance(found, Intervals), "spans are kept as intervals"
    weights = _weights(*((q, k) if search is None else search), found.unit, scale)
    outs = []
    for number in range(found.unit.shape[-1]):
        low, high, unit = (x[..., number : number + 1] for x in tensors(found))
        one = replace(choices, sets={**choices.sets, choice: replace(found, low=low, high=high, unit=unit)})
        outs.append(attend(q, k, v, mask, one, **options)[0])
    return gated_sum(outs, weights.unbind(-1))


def _spans_of(mask: Lowerable) -> tuple[Choice, float | None]:
    """The spans of a mask, and what their scores are multiplied by (None: 1 / sqrt of the head dimension)."""
    found = [choice for choice in choices_of(closing(mask)) if isinstance(choice.rule, Spans)]
    mean = Pool("mean")
    match found:
        case [Choice(Spans(chosen), q_unit, k_unit) as choice] if (
            isinstance(chosen.score, Blocks)
            and chosen.score == Blocks(mean, mean, chosen.score.scale, "each", "none")
            and (q_unit, k_unit) == (index.var("q"), index.var("k"))
        ):
            return choice, chosen.score.scale
    raise MaskError(
        "the mask needs spans around single keys that each head chooses for single queries",
        hint="spans(top(3, blocks(1)), back=64, ahead=64)",
    )


def _weights(q: Tensor, k: Tensor, unit: Tensor, scale: float | None) -> Tensor:
    """[B, Hq, Q, n]: the softmax of the products with the anchors that there are."""
    if q.shape[:3] != (*unit.shape[:3],) or k.shape[0] != q.shape[0] or k.shape[3] != q.shape[3]:
        raise MaskError(
            f"spans were chosen for {tuple(unit.shape[:3])} batch rows, heads and queries, and not by queries "
            f"{tuple(q.shape)} and keys {tuple(k.shape)}"
        )
    keys = wide(k).repeat_interleave(q.shape[1] // k.shape[1], dim=1)
    logits = []
    for at in unit.clamp(min=0).to(torch.int64).unbind(-1):
        anchors = keys.gather(2, at[..., None].expand(*at.shape, k.shape[3]))
        logits.append((wide(q) * anchors).sum(-1) * (q.shape[3] ** -0.5 if scale is None else scale))
    none = unit < 0
    alone = none.all(-1, keepdim=True)  # all spans are empty, and their outputs equal
    return torch.stack(logits, dim=-1).masked_fill(none & ~alone, -torch.inf).softmax(-1)
