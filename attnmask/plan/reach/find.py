"""Reach of layers, by the most exact way there is: a formula, token by token, or block by block."""

from __future__ import annotations

from collections.abc import Sequence

from attnmask.errors import MaskError
from attnmask.plan.reach.band import band
from attnmask.plan.reach.blocks import MOST_BLOCKS, Blocks, after, fewest_layers
from attnmask.plan.reach.formula import Formula, formula
from attnmask.plan.reach.layer import Layer
from attnmask.plan.reach.result import LayersNeeded, Reach, place
from attnmask.plan.reach.search import MOST_PAIRS, Search

# As many positions are told apart one by one, for all of them at once.
MOST_TOKENS = MOST_BLOCKS


def reach(
    masks: tuple[str, ...],
    layers: Sequence[Layer],
    depth: int | None,
    block: int,
    batch_row: int,
    head: int | None,
) -> Reach:
    """What every position has seen after `depth` of the layers, which repeat in order; None for any number.

    `masks` are their texts. MaskError where there are too many blocks for bounds, and nothing better is known.
    """
    length = layers[0].length
    enough = len(layers) * length if depth is None else min(depth, len(layers) * length)
    if (known := _formula(layers)) is not None:
        found = known.after(enough)
        return Reach(masks, length, depth, block, batch_row, head, "formula", found, known)
    distinct, order = _distinct(layers)
    if length <= MOST_TOKENS:
        dense = [layer.dense() for layer in distinct]
        tokens = Blocks(after([dense[number] for number in order], enough), 1, length)
        search = _search(distinct, order, block)
        return Reach(masks, length, depth, block, batch_row, head, "tokens", tokens, search)
    _require_few(length, block)
    search = _search(distinct, order, block)
    live = [tiles.dense() > 0 for tiles in search.maps]
    blocks = Blocks(after([live[number] for number in order], enough), block, length)
    affordable = search if search.pairs <= MOST_PAIRS else None
    return Reach(masks, length, depth, block, batch_row, head, "blocks", blocks, affordable)


def layers_needed(layers: Sequence[Layer], q: int, k: int, block: int) -> LayersNeeded:
    """After how many of the layers, which repeat in order, position q has seen position k."""
    length = layers[0].length
    q, k = place("q", q, length), place("k", k, length)
    if (known := _formula(layers)) is not None:
        return LayersNeeded(q, k, length, known.layers(q, k), exact=True)
    search = _search(*_distinct(layers), block)
    if search.pairs <= MOST_PAIRS:
        return LayersNeeded(q, k, length, search.layers(q, k), exact=True)
    least = fewest_layers(search.maps, search.order, q, k)
    return LayersNeeded(q, k, length, least, exact=not least)


def _formula(layers: Sequence[Layer]) -> Formula | None:
    found = {layer: band(layer) for layer in dict.fromkeys(layers)}
    bands = [each for layer in layers if (each := found[layer]) is not None]
    return formula(bands) if len(bands) == len(layers) else None


def _distinct(layers: Sequence[Layer]) -> tuple[tuple[Layer, ...], tuple[int, ...]]:
    """The layers that differ, and which of them each layer is."""
    numbers: dict[Layer, int] = {}
    order = tuple(numbers.setdefault(layer, len(numbers)) for layer in layers)
    return tuple(numbers), order


def _search(distinct: Sequence[Layer], order: tuple[int, ...], block: int) -> Search:
    return Search(tuple(layer.tiles(block) for layer in distinct), order)


def _require_few(length: int, block: int) -> None:
    if -(-length // block) > MOST_BLOCKS:
        enough = 1 << (-(-length // MOST_BLOCKS) - 1).bit_length()
        raise MaskError(
            f"the reach of {length} positions in blocks of {block} has too many blocks",
            hint=f"take blocks of {enough}: block={enough} (--block {enough} on the command line)",
        )
