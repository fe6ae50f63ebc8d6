"""Systems that choose from q and k, against plain loops over small random calls: decoding and other sparse reads."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import attnmask as am
from tests.zoo import choosing_decode_loops as loops
from tests.zoo.choosing_row import Row, Sets

Tensor = torch.Tensor
DIM = 4


@dataclass(frozen=True, slots=True)
class Shape:
    """batch, query heads, key heads, queries, keys, and the position of the first query."""

    batch: int
    heads: int
    kv_heads: int
    q_len: int
    kv_len: int
    q_offset: int = 0


SHAPES = (
    Shape(2, 4, 2, 23, 23),
    Shape(1, 3, 1, 5, 5),
    Shape(1, 2, 2, 40, 40),
    Shape(2, 4, 2, 1, 29, 28),  # decoding
    Shape(1, 6, 2, 1, 40, 39),
    Shape(1, 2, 1, 1, 9, 8),
    Shape(2, 2, 1, 6, 37, 31),  # several queries at the end
    Shape(1, 4, 1, 7, 30, 5),  # keys after the last query
)


def whole(n: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Few different numbers, of which means over 2, 3 and 4 positions and heads are exact: many scores are equal."""
    return 144 * n.integers(-1, 2, shape).astype(np.float64)


def floats(n: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    return n.standard_normal(shape)


def along_axes(n: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Vectors along an axis, of which cosines are -1, 0 and 1."""
    lengths = n.choice([-2.0, 1.0, 3.0], shape[:-1])
    return np.asarray(
        np.eye(shape[-1])[n.integers(0, shape[-1], shape[:-1])] * lengths[..., None], np.float64
    )


Draw = Callable[[np.random.Generator, tuple[int, ...]], NDArray[np.float64]]


def nothing(shape: Shape, n: np.random.Generator) -> dict[str, NDArray[np.float64]]:
    return {}


Given = Callable[[Shape, np.random.Generator], Mapping[str, NDArray[np.float64]]]


@dataclass(frozen=True)
class System:
    """`text` in the language, what it means, how q and k are drawn, and what is given besides."""

    text: str
    reference: Callable[[Row], Sets]
    draws: tuple[Draw, ...] = (whole, floats)
    given: Given = nothing

    def __str__(self) -> str:
        return self.text

    def written(self, shape: Shape) -> str:
        """The text for a call: GROUP is the number of query heads for each key head, HEADS that of all."""
        return self.text.replace("GROUP", str(shape.heads // shape.kv_heads)).replace(
            "HEADS", str(shape.heads)
        )


@dataclass(frozen=True, slots=True)
class Drawn:
    q: Tensor
    k: Tensor
    given: dict[str, Any]


def drawn(system: System, shape: Shape, draw: Draw, seed: int) -> Drawn:
    n = np.random.default_rng(seed)
    q = draw(n, (shape.batch, shape.heads, shape.q_len, DIM))
    k = draw(n, (shape.batch, shape.kv_heads, shape.kv_len, DIM))
    given = {name: torch.from_numpy(x) for name, x in system.given(shape, n).items()}
    return Drawn(torch.from_numpy(q), torch.from_numpy(k), given)


def expected(system: System, shape: Shape, call: Drawn) -> NDArray[np.bool_]:
    """bool [B, Hq, Q, K]"""
    planes = []
    for b in range(shape.batch):
        # Scores come for each batch row, thresholds and centroids for all.
        given = {
            name: x[min(b, len(x) - 1)].tolist() if x.dim() == 4 else x.tolist()
            for name, x in call.given.items()
        }
        row = Row(call.q[b].tolist(), call.k[b].tolist(), shape.q_offset, given)
        planes.append(system.reference(row))
    return np.array(planes, np.bool_)


def dense(mask: am.Mask, shape: Shape, choices: Any) -> NDArray[np.bool_]:
    return mask.freeze(choices).dense(
        shape.q_len, shape.kv_len, batch=shape.batch, heads=shape.heads, q_offset=shape.q_offset
    )


def attended(q: Tensor, k: Tensor, v: Tensor, seen: NDArray[np.bool_], bias: Tensor | float = 0.0) -> Tensor:
    """Plain softmax attention over `seen`; zeros where nothing is."""
    k, v = (x.repeat_interleave(q.shape[1] // k.shape[1], dim=1) for x in (k, v))
    logits = q @ k.mT / math.sqrt(q.shape[-1]) + bias
    return logits.masked_fill(~torch.from_numpy(seen), -torch.inf).softmax(-1).nan_to_num() @ v


def compare(system: System, shape: Shape, draw: Draw, seed: int) -> None:
    call = drawn(system, shape, draw, seed)
    mask = am.compile(system.written(shape))
    choices = mask.choose(call.q, call.k, q_offset=shape.q_offset, **call.given)
    found = dense(mask, shape, choices)
    np.testing.assert_array_equal(
        found, expected(system, shape, call), err_msg=f"{system} {draw.__name__} {seed}"
    )


def centroids(number: int, draw: Draw = floats) -> Given:
    """For each head (for all of them where the call has one batch row)."""

    def given(shape: Shape, n: np.random.Generator) -> Mapping[str, NDArray[np.float64]]:
        return {"centroids": draw(n, (1 if shape.batch == 1 else shape.heads, number, DIM))}

    return given


def axes(n: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """Vectors of length 1 along an axis, some of them equal."""
    return np.asarray(np.eye(shape[-1])[n.integers(0, shape[-1], shape[:-1])], np.float64)


def scores(name: str, draw: Draw = whole, each: str = "key head") -> Given:
    """Scores of keys, [B, sets, 1, keys]: a set for each key head, each head, or each batch row."""

    def given(shape: Shape, n: np.random.Generator) -> Mapping[str, NDArray[np.float64]]:
        sets = {"key head": shape.kv_heads, "head": shape.heads, "batch row": 1}[each]
        return {name: draw(n, (shape.batch, sets, 1, shape.kv_len))}

    return given


def thresholds(shape: Shape, n: np.random.Generator) -> Mapping[str, NDArray[np.float64]]:
    """One for each head; products of whole numbers are often equal to them."""
    return {"theta": n.choice([-10368.0, 0.0, 0.5, 10368.0], shape.heads)}


def threshold(shape: Shape, n: np.random.Generator) -> Mapping[str, NDArray[np.float64]]:
    return {"theta": np.array(0.25)}


SYSTEMS = (
    System("zoo.quest(2, 4)", lambda row: loops.quest(row, 2, 4)),
    System("zoo.quest(3, 5)", lambda row: loops.quest(row, 3, 5)),
    System("zoo.quest(2, 3, heads=group_sum)", lambda row: loops.quest(row, 2, 3, shared=True)),
    System("zoo.quest(20, 16)", lambda row: loops.quest(row, 20, 16)),
    System("zoo.snapkv(9, 4, 3, 2, 3)", lambda row: loops.snapkv(row, 9, 4, 3, 2, 3), (floats,)),
    System("zoo.snapkv(12, 16, 7, 1, 4)", lambda row: loops.snapkv(row, 12, 16, 7, 1, 4), (floats,)),
    System("zoo.snapkv(4, 2, 1, 3, 3)", lambda row: loops.snapkv(row, 4, 2, 1, 3, 3), (floats,)),
    System("zoo.kinetics(2, 3, 4, 2)", lambda row: loops.kinetics(row, 2, 3, 4, 2)),
    System("zoo.kinetics(1, 5, 3, 1)", lambda row: loops.kinetics(row, 1, 5, 3, 1)),
    System("zoo.kinetics(3, 1, 2, 5)", lambda row: loops.kinetics(row, 3, 1, 2, 5)),
    System("zoo.delta_pages(3, 2, 4)", lambda row: loops.delta_pages(row, 3, 2, 4), (floats,)),
    System("zoo.delta_pages(4, 1, 3)", lambda row: loops.delta_pages(row, 4, 1, 3), (floats,)),
    System("zoo.delta_pages(2, 3, 5)", lambda row: loops.delta_pages(row, 2, 3, 5), (floats,)),
    System("zoo.tidal_decode(5)", lambda row: loops.tidal_decode(row, 5)),
    System("zoo.tidal_decode(50)", lambda row: loops.tidal_decode(row, 50)),
    System("zoo.biformer(i // 4, 2)", lambda row: loops.biformer(row, lambda i: i // 4, 2)),
    System(
        "zoo.biformer(i // 2 % 3 + i // 12 * 3, 3)",  # cells of 2 × 2 in rows of 6
        lambda row: loops.biformer(row, lambda i: i // 2 % 3 + i // 12 * 3, 3),
    ),
    System("zoo.biformer(i * 7 % 5, 9)", lambda row: loops.biformer(row, lambda i: i * 7 % 5, 9), (floats,)),
    System(
        "zoo.routing_transformer(4)",
        lambda row: loops.routing_transformer(row, 4),
        (along_axes, floats),
        centroids(3, axes),
    ),
    System(
        "zoo.routing_transformer(2)",
        lambda row: loops.routing_transformer(row, 2),
        (along_axes, floats),
        centroids(35, axes),
    ),
    System(
        "zoo.routing_transformer(60)", lambda row: loops.routing_transformer(row, 60), (floats,), centroids(1)
    ),
    System("causal & clusters(centroids)", loops.nearest_centroid, (along_axes, floats), centroids(5, axes)),
    System("causal & clusters(centroids)", loops.nearest_centroid, (along_axes, floats), centroids(4)),
    System("zoo.dma(5, GROUP)", lambda row: loops.dma(row, 5), (whole,), scores("bias")),
    System("zoo.dma(3, GROUP)", lambda row: loops.dma(row, 3), (floats,), scores("bias", floats)),
    System("zoo.sparsek(4, 3)", lambda row: loops.sparsek(row, 4, 3), (whole,), scores("u")),
    System(
        "zoo.sparsek(1, 1)", lambda row: loops.sparsek(row, 1, 1), (whole,), scores("u", floats, "batch row")
    ),
    System("zoo.sparsek(60, 2)", lambda row: loops.sparsek(row, 60, 2), (whole,), scores("u", whole, "head")),
    System(
        "zoo.proxy_attn(GROUP, 0.8, 2, 4)", lambda row: loops.proxy_attn(row, row.group, 0.8, 2, 4), (floats,)
    ),
    System("zoo.proxy_attn(1, 0.5, 3, 5)", lambda row: loops.proxy_attn(row, 1, 0.5, 3, 5), (floats,)),
    System(
        "zoo.proxy_attn(HEADS, 0.6, 1, 3)", lambda row: loops.proxy_attn(row, row.heads, 0.6, 1, 3), (floats,)
    ),
    System("zoo.longheads(4, 4)", lambda row: loops.longheads(row, 4, 4), (floats,)),
    System("zoo.longheads(2, 3)", lambda row: loops.longheads(row, 2, 3), (floats,)),
    System("zoo.longheads(5, 5)", lambda row: loops.longheads(row, 5, 5), (floats,)),
    System("zoo.mra(2, 4)", lambda row: loops.mra(row, 2, 4, 0, 0)),
    System("zoo.mra(3, 4, 1, 1)", lambda row: loops.mra(row, 3, 4, 1, 1)),
    System("zoo.mra(1, 3, 1, 2)", lambda row: loops.mra(row, 1, 3, 1, 2)),
    System("zoo.top_theta(3)", lambda row: loops.top_theta(row, 3), (whole, floats), thresholds),
    System("zoo.top_theta(4)", lambda row: loops.top_theta(row, 4), (whole, floats), threshold),
    System(
        "zoo.squeezed_attention(0, 3)",
        lambda row: loops.squeezed_attention(row, 0, 3),
        (whole,),
        scores("weights", whole, "head"),
    ),
    System(
        "zoo.squeezed_attention(0.4, 1)",
        lambda row: loops.squeezed_attention(row, 0.4, 1),
        (whole,),
        scores("weights", floats, "head"),
    ),
)


@pytest.mark.parametrize(
    "shape", SHAPES, ids=lambda s: f"{s.batch}x{s.heads}/{s.kv_heads}x{s.q_len}x{s.kv_len}"
)
@pytest.mark.parametrize("system", SYSTEMS, ids=str)
def test_system_chooses_what_its_rule_says(system: System, shape: Shape) -> None:
    for draw in system.draws:
        for seed in range(3):
            compare(system, shape, draw, seed)


@pytest.mark.parametrize("shape", (SHAPES[0], SHAPES[3], SHAPES[6]), ids=str)
@pytest.mark.parametrize("system", [system for system in SYSTEMS if "dma" not in system.text], ids=str)
def test_attention_is_over_what_was_chosen(system: System, shape: Shape) -> None:
    call = drawn(system, shape, floats, 7)
    v = torch.randn(call.k.shape, dtype=call.k.dtype, generator=torch.Generator().manual_seed(7))
    mask = am.compile(system.written(shape))
    choices = mask.choose(call.q, call.k, q_offset=shape.q_offset, **call.given)
    found = am.attention(
        call.q, call.k, v, mask, choices=choices, q_offset=shape.q_offset, enable_gqa=True, block=(8, 4)
    )
    torch.testing.assert_close(found, attended(call.q, call.k, v, expected(system, shape, call)))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_bias_of_dma_is_added_to_the_score_and_carries_the_gradient(shape: Shape) -> None:
    n, group = np.random.default_rng(3), shape.heads // shape.kv_heads
    system = System("zoo.dma(5, GROUP)", lambda row: loops.dma(row, 5), given=scores("bias", floats))
    call = drawn(system, shape, floats, 11)
    v = torch.from_numpy(floats(n, tuple(call.k.shape)))
    bias = call.given["bias"].requires_grad_()
    mask = am.compile(system.written(shape))
    choices = mask.choose(call.q, call.k, q_offset=shape.q_offset, bias=bias)
    found = am.attention(
        call.q, call.k, v, mask, choices=choices, q_offset=shape.q_offset, enable_gqa=True, block=16
    )
    seen = expected(system, shape, Drawn(call.q, call.k, {"bias": bias.detach()}))
    wanted = attended(call.q, call.k, v, seen, bias.repeat_interleave(group, dim=1))
    torch.testing.assert_close(found, wanted)
    towards = torch.from_numpy(floats(n, tuple(found.shape)))
    (of_found,), (of_wanted,) = (torch.autograd.grad(out, bias, towards) for out in (found, wanted))
    torch.testing.assert_close(of_found, of_wanted)
    assert of_wanted.abs().max() > 0


@pytest.mark.parametrize("draw", [whole, floats])
def test_a_key_that_sparsek_drops_never_comes_back(draw: Draw) -> None:
    shape = Shape(2, 4, 2, 40, 40)
    system = System("zoo.sparsek(6, 1)", lambda row: loops.sparsek(row, 6, 1), given=scores("u", draw))
    call = drawn(system, shape, draw, 5)
    mask = am.compile(system.text)
    found = dense(mask, shape, mask.choose(call.q, call.k, **call.given))
    for j in range(shape.kv_len):
        later = found[:, :, j + 1 :, j]
        assert not (later[:, :, 1:] & ~later[:, :, :-1]).any()
    assert not found[:, :, -1].all(), "keys are dropped"
