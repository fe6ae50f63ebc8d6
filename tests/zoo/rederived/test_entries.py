"""Entries that choose at run time, against a second derivation of their rules.

Those of a prompt that are not here have theirs in `choosing_loops` and `choosing_token_loops`.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import attnmask as am
from tests.zoo.choosing_row import Row
from tests.zoo.rederived import clusters, decoding, gates, lines, tokens, vision
from tests.zoo.test_choosing_decode import (
    DIM,
    Drawn,
    Given,
    Shape,
    System,
    along_axes,
    axes,
    centroids,
    compare,
    dense,
    drawn,
    expected,
    floats,
    scores,
    threshold,
    thresholds,
    whole,
)

SHAPES = (
    Shape(2, 4, 2, 23, 23),
    Shape(1, 3, 1, 5, 5),
    Shape(1, 1, 1, 1, 1),
    Shape(1, 2, 2, 32, 32),
    Shape(1, 6, 2, 1, 40, 39),  # decoding
    Shape(2, 2, 1, 6, 37, 31),  # several queries at the end
    Shape(1, 4, 1, 7, 30, 5),  # keys after the last query
)
REAL = (floats,)


def of_key_heads(number: int) -> Given:
    """Centroids for each key head."""
    return lambda shape, n: {"centroids": axes(n, (shape.kv_heads, number, DIM))}


def spans(back: float, ahead: float) -> Given:
    """How far they go from an anchor, for each query."""

    def given(shape: Shape, n: np.random.Generator) -> dict[str, NDArray[np.float64]]:
        root = np.sqrt(shape.q_offset + np.arange(shape.q_len) + 1)
        return {"back": np.ceil(back * root), "ahead": np.ceil(ahead * root)}

    return given


def cells(i: int) -> int:
    """Two rows by two columns of an image four tokens wide."""
    return i // 8 * 2 + i % 4 // 2


SYSTEMS = (
    System("zoo.quest(2, 4)", lambda row: decoding.quest(row, 2, 4)),
    System("zoo.quest(1, 3)", lambda row: decoding.quest(row, 1, 3)),
    System("zoo.quest(3, 5, heads=group_sum)", lambda row: decoding.quest(row, 3, 5, shared=True)),
    System("zoo.snapkv(9, 4, 3, 2, 3)", lambda row: decoding.snapkv(row, 9, 4, 3, 2, 3), REAL),
    System("zoo.snapkv(7, 1, 5, 0, 1)", lambda row: decoding.snapkv(row, 7, 1, 5, 0, 1), REAL),
    System("zoo.kinetics(2, 3, 4, 2)", lambda row: decoding.kinetics(row, 2, 3, 4, 2)),
    System("zoo.kinetics(1, 6, 3, 0)", lambda row: decoding.kinetics(row, 1, 6, 3, 0)),
    System("zoo.delta_pages(3, 2, 4)", lambda row: decoding.delta_pages(row, 3, 2, 4), REAL),
    System("zoo.delta_pages(4, 0, 3)", lambda row: decoding.delta_pages(row, 4, 0, 3), REAL),
    System("zoo.delta_pages(2, 3, 5)", lambda row: decoding.delta_pages(row, 2, 3, 5), REAL),
    System("zoo.tidal_decode(5)", lambda row: decoding.tidal_decode(row, 5)),
    System("zoo.biformer(i // 4, 2)", lambda row: vision.biformer(row, lambda i: i // 4, 2)),
    System("zoo.biformer(i // 8 * 2 + i % 4 // 2, 1)", lambda row: vision.biformer(row, cells, 1)),
    System("zoo.mra(2, 4)", lambda row: vision.mra(row, 2, 4, 0, 0)),
    System("zoo.mra(3, 4, 1, 1)", lambda row: vision.mra(row, 3, 4, 1, 1)),
    System("zoo.mra(1, 3, 1, 2)", lambda row: vision.mra(row, 1, 3, 1, 2)),
    System("zoo.longheads(4, 4)", lambda row: gates.longheads(row, 4, 4), REAL),
    System("zoo.longheads(2, 3)", lambda row: gates.longheads(row, 2, 3), REAL),
    System("zoo.proxy_attn(GROUP, 0.8, 2, 4)", lambda row: lines.proxy_attn(row, row.group, 0.8, 2, 4), REAL),
    System("zoo.proxy_attn(HEADS, 0.5, 3, 5)", lambda row: lines.proxy_attn(row, row.heads, 0.5, 3, 5), REAL),
    System("zoo.top_theta(3)", lambda row: tokens.top_theta(row, 3), (whole, floats), thresholds),
    System("zoo.top_theta(0)", lambda row: tokens.top_theta(row, 0), REAL, threshold),
    System("zoo.dma(5, GROUP)", lambda row: tokens.dma(row, 5), REAL, scores("bias")),
    System("zoo.dma(2, GROUP)", lambda row: tokens.dma(row, 2), REAL, scores("bias", floats)),
    System("zoo.sparsek(4, 3)", lambda row: tokens.sparsek(row, 4, 3), REAL, scores("u")),
    System("zoo.sparsek(3, 1)", lambda row: tokens.sparsek(row, 3, 1), REAL, scores("u", whole, "head")),
    System(
        "zoo.routing_transformer(4)",
        lambda row: clusters.routing_transformer(row, 4),
        (along_axes, floats),
        centroids(3, axes),
    ),
    System(
        "zoo.routing_transformer(3)",
        lambda row: clusters.routing_transformer(row, 3),
        (along_axes, floats),
        of_key_heads(5),
    ),
    System(
        "causal & clusters(centroids)", clusters.nearest_centroid, (along_axes, floats), centroids(4, axes)
    ),
    System("causal & clusters(centroids)", clusters.nearest_centroid, (along_axes, floats), of_key_heads(5)),
    System(
        "zoo.superlinear(2, 3)", lambda row: tokens.superlinear(row, 2, 1, 0.3, 0.5), given=spans(0.3, 0.5)
    ),
    System(
        "zoo.superlinear(1, 8)", lambda row: tokens.superlinear(row, 1, 2, 0.5, 0.2), given=spans(0.5, 0.2)
    ),
    System("zoo.nsa(3, 4, 4, 4, 0, 1)", lambda row: gates.nsa_of_whole_blocks(row, 3, 4), REAL),
    System("zoo.nsa(2, 3, 3, 3, 0, 1)", lambda row: gates.nsa_of_whole_blocks(row, 2, 3), REAL),
)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("system", SYSTEMS, ids=str)
def test_entry_is_its_rule_derived_again(system: System, shape: Shape) -> None:
    for draw in system.draws:
        compare(system, shape, draw, seed=shape.kv_len)


def squeezed(shape: Shape, local: int, t: float, seed: int) -> tuple[Drawn, Row, list[list[int]]]:
    """A call with labels of the prefix, and the weights that the entry's note tells to give."""
    system = System(f"zoo.squeezed_attention({t}, {local})", lambda row: [])
    call = drawn(system, shape, floats, seed)
    n = np.random.default_rng(seed)
    prefix = max(0, shape.kv_len - local)
    labels = n.integers(0, 4, (shape.kv_heads, prefix)).tolist()
    row = Row(call.q[0].tolist(), call.k[0].tolist(), shape.q_offset, {})
    return call, row, labels


def weights_of(call: Drawn, labels: list[list[int]]) -> torch.Tensor:
    """For every key of the prefix: the mean over queries of exp(q · c) / Σ N exp(q · c); 0 after it."""
    _, heads, _, dim = call.q.shape
    n = call.k.shape[2]
    found = torch.zeros(1, heads, 1, n, dtype=call.q.dtype)
    for h in range(heads):
        hk = h * call.k.shape[1] // heads
        one_hot = torch.nn.functional.one_hot(torch.tensor(labels[hk], dtype=torch.int64), 4).to(call.k.dtype)
        sizes = one_hot.sum(0)
        centres = one_hot.T @ call.k[0, hk, : len(labels[hk])] / sizes.clamp(min=1)[:, None]
        power = (call.q[0, h] @ centres.T / dim**0.5).exp()
        share = (power / (power * sizes).sum(-1, keepdim=True)).mean(0)
        found[0, h, 0, : len(labels[hk])] = share[labels[hk]]
    return found


@pytest.mark.parametrize("t", [0.02, 0.04])
@pytest.mark.parametrize("shape", [s for s in SHAPES if s.batch == 1 and s.kv_len > 5], ids=str)
def test_squeezed_attention_from_clusters_of_keys(shape: Shape, t: float) -> None:
    call, row, labels = squeezed(shape, 6, t, seed=shape.kv_len)
    mask = am.compile(f"zoo.squeezed_attention({t}, 6)")
    choices = mask.choose(call.q, call.k, q_offset=shape.q_offset, weights=weights_of(call, labels))
    wanted = clusters.squeezed_attention(row, labels, t)
    np.testing.assert_array_equal(dense(mask, shape, choices)[0], np.array(wanted))


MORE_FORCED = (
    # Text with a number below what is forced, and the same with the number that these need.
    ("zoo.snapkv(4, 2, 1, 3, 3)", "zoo.snapkv(6, 2, 1, 3, 3)"),
    ("zoo.longheads(1, 4)", "zoo.longheads(3, 4)"),
    ("zoo.nsa(1, 4, 4, 2, 1, 2)", "zoo.nsa(3, 4, 4, 2, 1, 2)"),
    ("zoo.minference(1, 2, 4, 3, 5)", "zoo.minference(3, 5, 4, 3, 5)"),
)


@pytest.mark.parametrize(("less", "enough"), MORE_FORCED)
def test_what_is_forced_is_there_where_it_is_more_than_the_number(less: str, enough: str) -> None:
    """As the notes say: authors cut infinite scores by the order of topk, which no rule fixes."""
    shape = Shape(1, 4, 2, 24, 24)
    call = drawn(System(less, lambda row: []), shape, floats, 0)
    one, other = (dense(mask, shape, mask.choose(call.q, call.k)) for mask in map(am.compile, (less, enough)))
    np.testing.assert_array_equal(one, other)


def test_snapkv_with_less_room_than_forced_keys_differs_from_the_authors() -> None:
    shape = Shape(1, 4, 2, 24, 24)
    system = System("zoo.snapkv(4, 2, 1, 3, 3)", lambda row: decoding.snapkv(row, 4, 2, 1, 3, 3))
    call = drawn(system, shape, floats, 0)
    mask = am.compile(system.text)
    found, authors = dense(mask, shape, mask.choose(call.q, call.k)), expected(system, shape, call)
    assert np.flatnonzero(authors[0, 0, -1]).tolist() == [0, 1, 2, 21]
    assert np.flatnonzero(found[0, 0, -1]).tolist() == [0, 1, 2, 21, 22, 23]


@pytest.mark.parametrize(("n", "same"), [(24, True), (32, True), (23, False), (30, False)])
def test_budget_of_proxy_attn_is_the_one_described_where_blocks_divide_the_length(n: int, same: bool) -> None:
    """Elsewhere the note tells the difference: shares of the last `block` queries, and sums."""
    system = System(
        "zoo.proxy_attn(2, 0.8, 2, 4)", lambda row: lines.proxy_attn(row, 2, 0.8, 2, 4, described=True)
    )
    shape, equal = Shape(1, 4, 2, n, n), True
    for seed in range(4):
        call, mask = drawn(system, shape, floats, seed), am.compile(system.text)
        found = dense(mask, shape, mask.choose(call.q, call.k))
        equal &= bool((found == expected(system, shape, call)).all())
    assert equal == same
