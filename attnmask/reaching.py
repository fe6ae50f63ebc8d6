"""reach, layers_to_reach: how far information travels through layers of attention, one mask or one a layer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from attnmask.errors import MaskError
from attnmask.ir.domain import length, whole
from attnmask.ir.walk import variables
from attnmask.mask import Mask

if TYPE_CHECKING:
    from attnmask.plan.reach.layer import Layer
    from attnmask.plan.reach.result import LayersNeeded, Reach


def reach(
    masks: Mask | Sequence[Mask],
    q_len: int,
    kv_len: int | None = None,
    *,
    layers: int | None,
    block: int = 128,
    batch: int | None = None,
    heads: int | None = None,
    b: int = 0,
    h: int | None = None,
) -> Reach:
    """What every position can have seen after a number of layers of self-attention.

    Position q has seen position k after L layers if attention leads from q to k in at most L steps: layer l
    takes a step by its mask, or none, since a position keeps its own information from layer to layer.

    Exact for every token by a formula where the masks are bands (distances `q - k`, with sinks, within documents
    or chunks that lie end to end), and token by token up to 2048 positions. Beyond that the figures are upper
    bounds from blocks, and what one position has seen is exact as long as that takes seconds; all say which.

    Args:
        masks: one mask, or one a layer, the first nearest the input; they repeat where there are more layers.
        q_len, kv_len: number of positions; there are as many keys as queries.
        layers: number of layers, from 0; None for any number, that is for all that can ever be seen.
        block: positions in a block, for `Reach.blocks` and for bounds.
        batch, heads: number of batch rows and heads, for masks that depend on them.
        b: the batch row.
        h: the head, where information is to stay in it; None for all heads together.

    Raises:
        MaskError: for lengths that differ, no mask, a number of layers below 0, too many blocks, or a mask that
            cannot be evaluated.
    """
    from attnmask.plan.reach.find import reach as found

    q_len = length("q_len", q_len)
    if kv_len is not None and length("kv_len", kv_len) != q_len:
        raise MaskError(
            f"reach through layers needs as many keys as queries, not {q_len} and {kv_len}",
            hint="leave kv_len out",
        )
    listed, b, h = _listed(masks), whole("b", b), None if h is None else whole("h", h)
    return found(
        tuple(str(mask) for mask in listed),
        _layers(listed, q_len, batch, heads, b, h),
        None if layers is None else whole("layers", layers),
        length("block", block),
        b,
        h,
    )


def layers_to_reach(
    masks: Mask | Sequence[Mask],
    q: int,
    k: int,
    *,
    q_len: int | None = None,
    block: int = 128,
    batch: int | None = None,
    heads: int | None = None,
    b: int = 0,
    h: int | None = None,
) -> int | None:
    """After how many layers position q has seen position k; None when it never does.

    A causal window of w alone takes ceil((q - k) / (w - 1)) layers, and a sink one. See `reach` for the arguments.

    Args:
        q_len: number of positions; may be left out where no later position and no length matters, that is for
            masks that are proved causal and do not mention Q or K.

    Raises:
        MaskError: also where only a lower bound is known (see `layers_needed`): where nothing shorter helps than
            looking at more than 2**29 pairs.
    """
    needed = layers_needed(masks, q, k, q_len=q_len, block=block, batch=batch, heads=heads, b=b, h=h)
    if not needed.exact:
        raise MaskError(f"it is only known that {needed}", hint="smaller blocks leave fewer pairs to look at")
    return needed.layers


def layers_needed(
    masks: Mask | Sequence[Mask],
    q: int,
    k: int,
    *,
    q_len: int | None = None,
    block: int = 128,
    batch: int | None = None,
    heads: int | None = None,
    b: int = 0,
    h: int | None = None,
) -> LayersNeeded:
    """The same as `layers_to_reach`, or else a lower bound that says that it is one."""
    from attnmask.plan.reach.find import layers_needed as found

    listed, b, h = _listed(masks), whole("b", b), None if h is None else whole("h", h)
    positions = _enough(listed, q, k) if q_len is None else length("q_len", q_len)
    layers = _layers(listed, positions, batch, heads, b, h)
    return found(layers, q, k, length("block", block))


def _listed(masks: Mask | Sequence[Mask]) -> list[Mask]:
    try:
        listed = [masks] if isinstance(masks, Mask) else list(masks)
    except TypeError:
        listed = [masks]  # type: ignore[list-item]  # which the loop below refuses
    if not listed:
        raise MaskError("there are no layers", hint="give one mask, or a list of one a layer")
    for mask in listed:
        if not isinstance(mask, Mask):
            raise MaskError(f"layers are masks, not {type(mask).__name__}", hint="compile(text) makes one")
    return listed


def _layers(
    masks: Sequence[Mask], q_len: int, batch: int | None, heads: int | None, b: int, h: int | None
) -> list[Layer]:
    from attnmask.plan.reach.layer import layer

    made: dict[Mask, Layer] = {}
    for mask in masks:
        if mask not in made:
            domain = mask.domain(q_len, batch=batch, heads=heads)
            made[mask] = layer(mask.predicate, domain, dict(mask.tables), mask.origins, b, h)
    return [made[mask] for mask in masks]


def _enough(masks: Sequence[Mask], q: int, k: int) -> int:
    """A number of positions that answers for any larger one."""
    for mask in masks:
        if variables(mask.predicate) & {"Q", "K"} or not mask.prove("causal"):
            raise MaskError(
                "later positions or the length may matter to the mask, and q_len is not given",
                hint="give the number of positions: q_len=…",
            )
    return max(whole("q", q), whole("k", k)) + 1
