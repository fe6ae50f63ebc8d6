"""Nothing is read back: choices and their block masks are made on the device, for every entry of the zoo."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import attnmask as am
from attnmask import zoo
from tests.lower.test_device import NoWaiting

ARGUMENTS = {
    "biformer": "49, 4",
    "delta_pages": "20",
    "dma": "64, 2",
    "flex_prefill": "2",
    "kinetics": "8, 64",
    "longheads": "4, 256",
    "minference": "verticals=100, slashes=200",
    "moba": "3, 128",
    "mra": "4",
    "proxy_attn": "4",
    "quest": "8",
    "routing_transformer": "64",
    "seer_decode": "4, 2",
    "snapkv": "300",
    "sparsed": "prompt=256, n_prompt=2, n_generated=3",
    "sparsek": "64, 64",
    "squeezed_attention": "t=0.9, local=100",
    "superlinear": "2, 63",
    "tidal_decode": "64",
    "top_theta": "64",
}
ENTRIES = [entry for entry in zoo.entries() if entry.needs]
N, HEADS, KV_HEADS, DIM = 600, 4, 2, 16


def inputs(device: str) -> tuple[torch.Tensor, torch.Tensor, dict[str, Any]]:
    q, k = (torch.randn(2, heads, N, DIM).to(device) for heads in (HEADS, KV_HEADS))
    given = {
        "k_gate": torch.randn(1, 3 * DIM, 32),
        "q_gate": torch.randn(1, 3 * DIM, 32),
        "bias": torch.randn(1, KV_HEADS, 1, N),
        "u": torch.randn(1, HEADS, 1, N),
        "weights": torch.rand(1, HEADS, 1, N),
        "theta": torch.ones(HEADS),
        "centroids": torch.randn(1, 16, DIM),
        "back": torch.full((N,), 9),
        "ahead": torch.full((N,), 4),
    }
    return q, k, {name: value.to(device) for name, value in given.items()}


def mask_of(entry: zoo.Entry) -> am.Mask:
    return am.compile(f"zoo.{entry.name}({ARGUMENTS.get(entry.name, '')})")


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_values_are_not_needed_at_all(entry: zoo.Entry) -> None:
    """On a device without values: whatever would read one raises there."""
    q, k, given = inputs("meta")
    mask = mask_of(entry)
    named = {name: given[name] for name in entry.needs if name in given}
    choices = mask.choose(q, k, check=False, **named)
    assert mask.block_mask(N, choices=choices).kv_indices.is_meta


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda entry: entry.name)
def test_nothing_is_read_back(entry: zoo.Entry) -> None:
    q, k, given = inputs("cpu")
    mask = mask_of(entry)
    named = {name: given[name] for name in entry.needs if name in given}
    mask.block_mask(N, choices=mask.choose(q, k, check=False, **named))  # what is static is kept from here on
    with NoWaiting() as mode:
        mask.block_mask(N, choices=mask.choose(q, k, check=False, **named))
    assert mode.seen > 10


def test_other_data_need_no_other_kernel() -> None:
    mask = am.compile("causal & (window(20) | topk_blocks(2, block=32, q_block=32))")
    before = None
    for seed in range(4):
        torch.manual_seed(seed)
        q, k, v = (torch.randn(1, 2, 192, 16) for _ in range(3))
        am.attention(q, k, v, mask, backend="flex", block=64)
        graphs = torch._dynamo.utils.counters["stats"]["unique_graphs"]
        assert before is None or graphs == before
        before = graphs


def test_inside_a_compiled_model() -> None:
    mask = am.compile("causal & (window(20) | topk_blocks(2, block=32, q_block=32))")

    def layer(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
        return am.attention(q * 1.5, k, v, mask, backend="tiled") + 1

    torch.manual_seed(0)
    q, k, v = (torch.randn(1, 2, 150, 16) for _ in range(3))
    torch.testing.assert_close(torch.compile(layer)(q, k, v), layer(q, k, v))
