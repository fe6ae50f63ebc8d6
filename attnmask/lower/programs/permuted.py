"""Attention in another order of tokens: what is scattered in the text lies together in blocks."""

from __future__ import annotations

import torch

from attnmask.errors import MaskError
from attnmask.ir.choices import reordered
from attnmask.ir.walk import table_names
from attnmask.lower.attention import attention
from attnmask.lower.choose.choices import choose, closing
from attnmask.lower.prepare import Lowerable
from attnmask.lower.programs.attend import require_tensors
from attnmask.lower.programs.written import Written

Tensor = torch.Tensor


def permuted(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Lowerable,
    *,
    q_order: Tensor | None = None,
    k_order: Tensor | None = None,
    scale: float | None = None,
    block: int = 128,
    enable_gqa: bool = False,
    **given: object,
) -> Tensor:
    """Attention computed in another order of queries and of keys, with the result in the order of the text.

    Every position that the mask names is that of the text, so that a static mask gives the same numbers in any
    order. Blocks of choices are blocks of the new order, as are their candidates (PBS-Attn, arXiv:2510.21270, sorts
    keys inside segments; DraftAttention, arXiv:2505.14708, and PAROAttention, arXiv:2506.16054, bring cells of a
    video together).

    Args:
        q: [B, Hq, Q, D]. k: [B, Hkv, K, D]. v: [B, Hkv, K, Dv].
        q_order: int [Q], or [B or 1, Hq or 1, Q]: which token is at each place of the new order.
        k_order: int [K], or [B or 1, Hkv or 1, K]. Either may be left out.
        scale, block, enable_gqa: as in `attention`.
        given: what the mask's choices need (see `Mask.choose`).

    Raises:
        MaskError: where an order does not fit. That it holds every token once is looked at on the CPU.
    """
    require_tensors(q=q, k=k, v=v)
    if not hasattr(mask, "predicate"):
        raise MaskError(f"a mask is needed, not {type(mask).__name__}", hint="make one: compile('causal')")
    if not q.dim() == k.dim() == v.dim() == 4:
        raise MaskError("q, k and v must have 4 dimensions [batch, heads, length, head_dim]")
    q_places, k_places = _order("q_order", q_order, q), _order("k_order", k_order, k)
    q_new, k_new, v_new = (_taken(x, at) for x, at in ((q, q_places), (k, k_places), (v, k_places)))
    group = q.shape[1] // max(k.shape[1], 1)
    roots = (mask.predicate,) if mask.score is None else (mask.predicate, mask.score)
    q_name, k_name = (_fresh(name, table_names(*roots)) for name in ("place_of_q", "place_of_k"))
    root = reordered(closing(mask), q_name, k_name, group)
    score = None if mask.score is None else reordered(mask.score, q_name, k_name, group)
    moved = Written(root, score, mask.tables)
    tables = {name: at for name, at in ((q_name, q_places), (k_name, k_places)) if name in moved.unbound}
    choices = choose(moved, q_new, k_new, {**given, **tables}, q_offset=0, check=None)
    out = attention(
        q_new, k_new, v_new, moved, scale=scale, block=block, enable_gqa=enable_gqa, choices=choices
    )
    back = torch.empty_like(q_places).scatter_(
        2, q_places, torch.arange(q.shape[2], device=q.device).expand_as(q_places)
    )
    return _taken(out, back)


def _fresh(name: str, taken: tuple[str, ...]) -> str:
    while name in taken:
        name += "_"
    return name


def _order(name: str, order: Tensor | None, x: Tensor) -> Tensor:
    """[B, H, n] for a tensor [B, H, n, D]."""
    batch, heads, length, _ = x.shape
    if order is None:
        return torch.arange(length, device=x.device).expand(batch, heads, length)
    if not isinstance(order, Tensor):
        raise MaskError(f"{name} is a tensor of integers, not {type(order).__name__}")
    shape = tuple(order.shape)
    fits = (
        order.dim() in (1, 3)
        and shape[-1] == length
        and not order.is_floating_point()
        and order.dtype != torch.bool
    )
    if not fits or (order.dim() == 3 and (shape[0] not in (1, batch) or shape[1] not in (1, heads))):
        raise MaskError(
            f"{name} has shape {shape}, and an order of {length} tokens is int [{length}] or "
            f"[{batch} or 1, {heads} or 1, {length}]"
        )
    places = order.to(device=x.device, dtype=torch.int64).expand(batch, heads, length)
    if x.device.type == "cpu" and bool((places.sort(-1).values != torch.arange(length)).any()):
        raise MaskError(f"{name} must hold every token from 0 to {length - 1} once")
    return places


def _taken(x: Tensor, places: Tensor) -> Tensor:
    return x.gather(2, places[..., None].expand(*places.shape, x.shape[3]))
