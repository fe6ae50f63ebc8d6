"""Operations without an integer form, where the lengths are known: computed by torch itself, and equal to it."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from torch.nn.attention.flex_attention import create_block_mask

import attnmask as am
from attnmask.errors import LiftError
from tests.lower.listed import listed

generator = torch.Generator().manual_seed(5)
N = 70
score = torch.rand(N, generator=generator)
per_row = torch.rand(2, N, generator=generator, dtype=torch.float64)
halves = torch.rand(N, generator=generator).half()
starts = torch.tensor([0, 9, 30, 31, 55])
chosen = torch.tensor([3, 17, 40, 63])
scale = torch.tensor(0.37, dtype=torch.float64)
slopes = torch.tensor([0.1, 0.25, 1.5])


numbers = torch.tensor([3, 50, 9], dtype=torch.int32)
pairs = torch.tensor([[1, 40], [7, -3], [60, 2]])
bytes_ = torch.tensor([200, 3, 77], dtype=torch.uint8)
doc = torch.arange(N) // 9


def q_document(q: Any) -> Any:
    return torch.searchsorted(starts, q, right=True)


FUNCTIONS = [
    lambda b, h, q, k: q_document(q) == q_document(k),
    lambda b, h, q, k: torch.bucketize(q, starts) == torch.bucketize(k, starts, right=True),
    lambda b, h, q, k: torch.isin(k, chosen) | (q == k),
    lambda b, h, q, k: (score[k] > 0.8) | (q - k < 4),
    lambda b, h, q, k: score[q] * 2 > score[k] + 0.5,
    lambda b, h, q, k: score[k] <= score[q],
    lambda b, h, q, k: score[q].exp() == score[k].exp(),
    lambda b, h, q, k: per_row[b, q] < per_row[b, k],
    lambda b, h, q, k: per_row[b, q] < score[k],
    lambda b, h, q, k: halves[q] >= halves[k],
    lambda b, h, q, k: (q * 0.37).floor() >= (k * 0.61).ceil(),
    lambda b, h, q, k: q * scale > k,
    lambda b, h, q, k: torch.sqrt(((q // 8 - k // 8) ** 2 + (q % 8 - k % 8) ** 2).float()) <= 2.3,
    lambda b, h, q, k: torch.log2((q - k).abs() + 1).frac() == 0,
    lambda b, h, q, k: (q - k) * slopes[1] < 5,
    lambda b, h, q, k: slopes[h] * q > k,
    lambda b, h, q, k: torch.where(score[q] > 0.5, score[q], 0.25) < score[k],
    lambda b, h, q, k: torch.round(q / 7) > torch.sin(k.float()).abs() * 4,
    lambda b, h, q, k: score[q - 5] > score[k],
    lambda b, h, q, k: score[q].bool() & (k <= q),
    lambda b, h, q, k: (score[q] * 10).to(torch.int64) == (score[k] * 10).long(),
    lambda b, h, q, k: (chosen == q).any() | (q == k),
    lambda b, h, q, k: (starts <= q).sum() == (starts <= k).sum(),
    lambda b, h, q, k: ((q - k) == chosen).any(),
    lambda b, h, q, k: (numbers[:, None].long() * 2 - q > pairs).any(dim=-1).all() | (k < 9),
    lambda b, h, q, k: (bytes_ + bytes_[q % 3]).max() > (bytes_.long() * k).amin(dim=0),
    lambda b, h, q, k: torch.where(chosen > q, chosen, 7).sum(0) > k * 3,
    lambda b, h, q, k: (doc == doc[q]).sum() > k,
    lambda b, h, q, k: torch.stack([q - k == 3, q - k == 5, k < 2]).any(dim=0),
    lambda b, h, q, k: (
        torch.stack((q >= k, q - k < 9)).all(0) | (torch.stack([q >= k, k < 9]).sum(dim=0) == 0)
    ),
]


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("lengths", [(N, N), (33, 61), (1, N)])
def test_what_torch_computes_is_what_the_mask_says(function: Any, lengths: tuple[int, int]) -> None:
    expected = create_block_mask(function, 2, 3, *lengths, device="cpu", BLOCK_SIZE=8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = am.create_block_mask(function, 2, 3, *lengths, device="cpu", BLOCK_SIZE=8, check=True)
    assert listed(found) == listed(expected)


def test_without_lengths_there_are_no_positions_to_compute_for() -> None:
    with pytest.raises(LiftError, match="'searchsorted': this operation cannot be lifted"):
        am.lift(lambda b, h, q, k: q_document(q) == q_document(k))


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda b, h, q, k: score[q] - score[k] < 0.5, "'sub': float32 values have no integer form here"),
        (lambda b, h, q, k: score[(q * k) % 70] + score[k] < 0.5, "'add'"),
        (lambda b, h, q, k: score.sort().values[q].cumsum(0) < 0.5, "'.cumsum' cannot be lifted"),
        (lambda b, h, q, k: torch.searchsorted(starts[None], q) < 2, "captured tensor of one dimension"),
        (lambda b, h, q, k: score[q] / 0 > score[k] / 0, ""),
    ],
)
def test_floats_of_pairs_are_left_to_torch(function: Any, message: str) -> None:
    if message:
        with pytest.raises(LiftError) as caught:
            am.create_block_mask(function, 1, 1, N, N, device="cpu", fallback=False)
        assert message in caught.value.message


def test_entries_that_are_no_numbers_are_refused() -> None:
    table = torch.tensor([0.0, float("nan"), 1.0])
    with pytest.raises(LiftError, match="entries that are no numbers"):
        am.create_block_mask(lambda b, h, q, k: table[q] < table[k], 1, 1, 3, 3, device="cpu", fallback=False)
