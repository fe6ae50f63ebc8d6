"""Functions whose meaning is easily mistaken: each is built as torch builds it, or is left to torch."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn.attention.flex_attention import create_block_mask

import attnmask as am
from attnmask.errors import LiftError, MaskError
from tests.lower.listed import listed

N = 40
generator = torch.Generator().manual_seed(11)
flags = torch.tensor([0, 1, 2, 3] * 16)
valid = torch.rand(64, generator=generator) < 0.5
score, score2 = torch.rand(64, generator=generator), torch.rand(64, generator=generator)
halves = torch.randn(64, generator=generator).half()
brains = (torch.randn(64, generator=generator) * 9).bfloat16()
octets = torch.randint(0, 256, (64,), generator=generator).to(torch.uint8)
shorts = torch.randint(-(2**15), 2**15, (64,), generator=generator).to(torch.int16)
words = torch.randint(0, 2**16, (64,), generator=generator).to(torch.uint16)
grid = torch.randint(-9, 99, (64, 64), generator=generator)
distances = torch.rand(64, 64, generator=generator)
slopes = torch.tensor([0.25, 0.5, 0.7])
seven = torch.tensor(7, dtype=torch.int32)
powers_of_two = torch.arange(64) % 9


def changed_while_read(b: Any, h: Any, q: Any, k: Any) -> Any:
    offset = torch.tensor(0)
    mask = q < 0
    for _ in range(3):
        mask = mask | (q - k == offset)
        offset += 4
    return mask


def changed_between_reads(b: Any, h: Any, q: Any, k: Any) -> Any:
    table = torch.zeros(64, dtype=torch.long)
    before = table[q] == 0
    table[5:] = 1
    return before & (table[k] == 1)


def float_table_changed_between_reads(b: Any, h: Any, q: Any, k: Any) -> Any:
    table = torch.linspace(0, 1, 64)
    before = table[q]
    table += 0.3
    return before > table[k]


FUNCTIONS: list[Callable[..., Any]] = [
    changed_while_read,
    changed_between_reads,
    float_table_changed_between_reads,
    # Python's types as dtypes
    lambda b, h, q, k: flags[q].to(bool) == flags[k].to(bool),  # type: ignore[call-overload]  # torch takes it
    lambda b, h, q, k: (q * 0.5).to(int) == (k * 0.5).to(int),
    lambda b, h, q, k: flags[q].to(bool) & (q >= k),  # type: ignore[call-overload]  # torch takes it
    lambda b, h, q, k: flags[q].to(float) * 0.1 > flags[k].to(dtype=float),  # type: ignore[call-overload]  # torch takes it
    # reductions of floats
    lambda b, h, q, k: torch.stack([q * 0.5, k * 0.5]).sum(0) > 3.2,
    lambda b, h, q, k: (q * 0.5).sum() > k * 0.5,
    lambda b, h, q, k: torch.stack([q, k * 2]).max() > 30,
    # arguments in the other order
    lambda b, h, q, k: torch.rsub(score[q], score2[q]) > 0.2,
    lambda b, h, q, k: torch.rsub(score[q], 0.5) > score2[k],
    lambda b, h, q, k: 0.5 - score[q] > 1 / (score2[k] + 1) - 0.6,
    # numbers that do not fit, and floats of few bits
    lambda b, h, q, k: (halves[k] * 0.3).float() * 1e4 % 7 < 3,
    lambda b, h, q, k: score[q] < brains[k] / 0.3,
    lambda b, h, q, k: brains[q] > brains[k],
    lambda b, h, q, k: octets[q] / 1000 < 0.1,
    lambda b, h, q, k: octets[q] > torch.tensor(-100, dtype=torch.int8),
    lambda b, h, q, k: shorts[q] < torch.tensor(70000, dtype=torch.int32),
    lambda b, h, q, k: q.int() < torch.tensor(2**40),
    lambda b, h, q, k: octets[q] <= ~seven,
    lambda b, h, q, k: (q + (2**63 - 1) > q) & (k >= 0),
    lambda b, h, q, k: ~(valid[q] ** 1) < 0,
    lambda b, h, q, k: torch.add(valid[q], valid[k], alpha=0),
    lambda b, h, q, k: (q.double() * 2.0**28).int() > k,
    lambda b, h, q, k: torch.sqrt(q * 2.0**-140) > k * 2.0**-75,
    lambda b, h, q, k: 1 / (-q.float()) < 0,
    lambda b, h, q, k: 1 / (q * -1.0) > k,
    lambda b, h, q, k: powers_of_two[q] + 0 * k >= (1 << (k % 8)),
    lambda b, h, q, k: torch.sqrt((1 << (q & 7)).float()) > k,
    lambda b, h, q, k: score[1 << (q % 5)] > score2[k],
    lambda b, h, q, k: words[q] == words[k],
    # tables of floats over pairs, and numbers of heads beside one integer
    lambda b, h, q, k: torch.sqrt(grid[q, k].abs().float()) < 5,
    lambda b, h, q, k: torch.sign(grid[q, k]) > 0,
    lambda b, h, q, k: distances[q, k] > 0.4,
    lambda b, h, q, k: distances[k][q] * 2 > 0.4,
    lambda b, h, q, k: distances[flags[q], flags[k]] > 0.4,
    lambda b, h, q, k: distances[q - 3, k] > 0.4,
    lambda b, h, q, k: slopes[h] * (q - k) < 3.3,
    lambda b, h, q, k: q.new_tensor(2.0).sqrt() * torch.tensor(3.0) * q > k,
    # vectors and numbers of few bits beside positions
    lambda b, h, q, k: (torch.tensor([5, 44, 100], dtype=torch.int8) == q * 60).any(),
    lambda b, h, q, k: torch.isin(k * 60, torch.tensor([5, 44, 100], dtype=torch.int8)),
    lambda b, h, q, k: torch.isin(k, torch.tensor([5, 14, 30], dtype=torch.int32)),
    lambda b, h, q, k: (torch.tensor([3, 20], dtype=torch.uint8) <= q).sum() == 1,
    lambda b, h, q, k: (torch.tensor([3, 20], dtype=torch.int32) <= q).sum() == (k < 9).int(),
    lambda b, h, q, k: torch.where(torch.tensor([1, 20], dtype=torch.int8) > 5, q * 60, k).sum() > 600,
    lambda b, h, q, k: (torch.tensor([1.5, 3.0]) == torch.tensor(1.5, dtype=torch.float64) * (q + 1)).any(),
    lambda b, h, q, k: torch.where(q > 3, octets[q], torch.tensor(300)) > k,
    lambda b, h, q, k: octets[q].clamp(max=torch.tensor(300)) > k,
    lambda b, h, q, k: torch.where(q >= 9, torch.tensor([1, 2]), torch.tensor([3, 4])).sum() > k,
    lambda b, h, q, k: score[k] > torch.tensor(0.5),
    lambda b, h, q, k: score[-1] > score[k],
    lambda b, h, q, k: (torch.tensor([200, 3, 77], dtype=torch.uint8) + q).max() > k,
    # numbers without end
    lambda b, h, q, k: (q - k < float("inf")) & (q * 1.0 < 1e30),
    lambda b, h, q, k: torch.where(q >= k, 0.0, float("-inf")) == 0,
]


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_traps(function: Callable[..., Any]) -> None:
    expected = create_block_mask(function, 2, 3, N, N, device="cpu", BLOCK_SIZE=4)
    assert listed(am.create_block_mask(function, 2, 3, N, N, device="cpu", BLOCK_SIZE=4)) == listed(expected)


def test_many_traps_are_lifted_all_the_same() -> None:
    lifted = 0
    for function in FUNCTIONS:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                am.create_block_mask(function, 2, 3, N, N, device="cpu", fallback=False)
            except MaskError:
                continue
            lifted += 1
    assert lifted >= 24, lifted


def test_operations_of_other_libraries_are_not_torchs() -> None:
    with torch.library._scoped_library("attnmask_tests", "DEF") as library:
        library.define("clip(Tensor a, Tensor b) -> Tensor")
        library.impl("clip", lambda a, b: a * b, "CompositeImplicitAutograd")
        with pytest.raises(LiftError, match="'clip' is an operation of somebody else's"):
            am.lift(lambda b, h, q, k: torch.ops.attnmask_tests.clip(q, k) > 3)


def test_names_of_the_language_are_changed() -> None:
    for name in ("causal", "window", "sink", "same", "min", "abs", "all", "let"):
        function = eval(f"lambda b, h, q, k: {name}[q] == {name}[k]", {name: flags})
        mask = am.lift(function)
        ((table, _),) = mask.tables
        assert am.compile(str(mask), **{table: flags}) == mask, name


def test_long_chains_of_choices_take_no_time_to_speak_of() -> None:
    def function(b: Any, h: Any, q: Any, k: Any) -> Any:
        x = q
        for i in range(30):
            x = torch.where(x > i, x * 3 + 1, x - k.to(torch.int8))
        return x > k

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = am.create_block_mask(function, 1, 1, 64, 64, device="cpu", BLOCK_SIZE=16)
        assert listed(found) == listed(create_block_mask(function, 1, 1, 64, 64, device="cpu", BLOCK_SIZE=16))
