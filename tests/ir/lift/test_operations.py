"""Each operation on each pair of dtypes against torch: results, dtypes and wrap-around."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import attnmask as am
from attnmask.errors import LiftError, MaskError

Tensor = torch.Tensor
N = 11
DTYPES = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def values(dtype: torch.dtype, seed: int) -> Tensor:
    """Small numbers of both signs, and the ends of the range where these are not too far out."""
    if dtype is torch.bool:
        return torch.arange(N) % (seed + 2) == 0
    low, high = torch.iinfo(dtype).min, torch.iinfo(dtype).max
    ends = [low, high] if high < 2**40 else [-(2**20), 2**20]
    inner = [seed, 3, 1, 2, 5, 7, 100 - seed, 64, 9 + seed]
    signed = [-n if low < 0 and place % 2 else n for place, n in enumerate(inner)]
    return torch.tensor(ends + signed, dtype=dtype)


BINARY: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda x, y: x + y,
    "add with alpha": lambda x, y: torch.add(x, y, alpha=3),
    "sub": lambda x, y: x - y,
    "rsub": lambda x, y: torch.rsub(x, y),
    "mul": lambda x, y: x * y,
    "floordiv": lambda x, y: x // (y * y + 1),
    "floor_divide": lambda x, y: torch.floor_divide(x, torch.clamp(y, min=1)),
    "div floor": lambda x, y: torch.div(x, torch.clamp(y, 1, 50), rounding_mode="floor"),
    "div trunc": lambda x, y: torch.div(x, torch.clamp(y, 1, 50), rounding_mode="trunc"),
    "mod": lambda x, y: x % torch.clamp(y, 1, 50),
    "remainder by negative": lambda x, y: torch.remainder(x, -torch.clamp(y, 1, 50)),
    "fmod": lambda x, y: torch.fmod(x, -torch.clamp(y, 1, 50)),
    "minimum": lambda x, y: torch.minimum(x, y),
    "maximum": lambda x, y: x.maximum(y),
    "max": lambda x, y: torch.max(x, y),
    "and": lambda x, y: x & y,
    "or": lambda x, y: x.bitwise_or(y),
    "xor": lambda x, y: torch.bitwise_xor(x, y),
    "lshift": lambda x, y: x << (y & 7),
    "rshift": lambda x, y: torch.bitwise_right_shift(x, y & 7),
    "where": lambda x, y: torch.where(x > y, x, y),
    "clamp by tensors": lambda x, y: torch.clamp(x, y, y + 3),
    "truediv": lambda x, y: ((x & 63) / 4 + (y & 31) / 2) * 8,
    "logical_and": lambda x, y: torch.logical_and(x, y),
    "logical_or": lambda x, y: x.logical_or(y),
    "logical_xor": lambda x, y: torch.logical_xor(x, y),
    "lt": lambda x, y: x < y,
    "le": lambda x, y: x.le(y),
    "gt": lambda x, y: torch.greater(x, y),
    "ge": lambda x, y: x >= y,
    "eq": lambda x, y: x == y,
    "ne": lambda x, y: torch.not_equal(x, y),
}
UNARY: dict[str, Callable[[Any], Any]] = {
    "neg": lambda x: -x,
    "abs": lambda x: abs(x),
    "invert": lambda x: ~x,
    "logical_not": lambda x: x.logical_not(),
    "square": lambda x: torch.square(x),
    "pow": lambda x: x**3,
    "clamp": lambda x: x.clamp(-3, 9),
    "clip": lambda x: torch.clip(x, max=4),
    "clamp_min": lambda x: x.clamp_min(2),
    "shifts by numbers": lambda x: (x << 3) >> 2,
    "shift by all bits": lambda x: x >> 40,
    "shifted number": lambda x: 3 << (x & 3),
    "reversed operators": lambda x: (
        (100 - x) + (7 // (x * x + 1)) + (9 % (x * x + 2)) + (5 & x) + (6 ^ x) * (1 | x)
    ),
    "int": lambda x: x.int(),
    "to uint8": lambda x: x.to(torch.uint8),
    "char": lambda x: x.char(),
    "short": lambda x: x.to(dtype=torch.int16),
    "bool": lambda x: x.bool(),
    "type": lambda x: x.type(torch.int64),
    "to like": lambda x: x.to(torch.zeros((), dtype=torch.int16)),
    "half of": lambda x: ((x & 127) * 0.5).floor().long(),
    "ceil": lambda x: torch.ceil((x & 127) / 3).int(),
    "trunc": lambda x: torch.trunc(((x & 127) - 60) / 7).long(),
    "cast of a quotient": lambda x: (((x & 127) - 60) / 7).to(torch.int64),
    "floats are compared": lambda x: ((x & 127) / 3 > 7).int() + ((x & 127) * 1.5 >= 4.5),
    "constants": lambda x: torch.zeros_like(x) + torch.full_like(x, 3) + x.new_ones(()) + x.new_tensor(2),
    "no change": lambda x: x.clone().detach().contiguous().cpu().to("cpu"),
}


def refused_by_torch(compute: Callable[[], Any]) -> bool:
    try:
        compute()
    except (RuntimeError, TypeError):
        return True
    return False


def agrees(function: Callable[..., Any], expected: Tensor, name: str) -> None:
    """The function's value is, for every pair, the expected one; and it has the expected dtype."""
    kept = expected if expected.dtype in DTYPES else expected.double().mul(1024).long()
    seen: list[str] = []

    def mask_mod(b: Any, h: Any, q: Any, k: Any) -> Any:
        value = function(q, k)
        seen.append(str(value.dtype))
        if expected.dtype not in DTYPES:
            value = (value * 1024).long()
        return value == kept[q, k]

    mask = am.lift(mask_mod)
    assert seen[0] == str(expected.dtype), name
    assert mask.dense(N, N).all(), name


@pytest.mark.parametrize("name", BINARY)
def test_binary_operations(name: str) -> None:
    operation, tried = BINARY[name], 0
    for left in DTYPES:
        for right in DTYPES:
            x, y = values(left, 1), values(right, 4)
            if refused_by_torch(lambda: operation(x[:, None], y[None])):  # noqa: B023  # called at once
                continue
            agrees(lambda q, k: operation(x[q], y[k]), operation(x[:, None], y[None]), f"{left} {right}")  # noqa: B023
            tried += 1
    assert tried >= 16


@pytest.mark.parametrize("name", UNARY)
def test_unary_operations(name: str) -> None:
    operation, tried = UNARY[name], 0
    for dtype in DTYPES:
        x = values(dtype, 2)
        if refused_by_torch(lambda: operation(x)):  # noqa: B023  # called at once
            continue
        expected = operation(x)[:, None].expand(N, N)
        try:
            agrees(lambda q, k: operation(x[q]), expected, f"{dtype}")  # noqa: B023
        except LiftError as error:  # a number that does not fit the dtype; torch lets it wrap
            assert "does not fit into" in error.message
            continue
        tried += 1
    assert tried >= 3


@pytest.mark.parametrize("number", [-3, 0, 2, True, 2.5, 0.1, 1e-3])
@pytest.mark.parametrize("op", ["lt", "le", "gt", "ge", "eq", "ne"])
def test_comparisons_with_numbers(number: float, op: str) -> None:
    x = torch.tensor([-3, -2, 0, 1, 2, 3, 5, 7, 9, 11, 13])
    expected = getattr(x, op)(number)[:, None].expand(N, N)
    agrees(lambda q, k: getattr(x[q], op)(number), expected, op)


def test_indices_of_every_kind() -> None:
    cube = torch.arange(N * 3 * N).reshape(N, 3, N) % 7
    one = torch.tensor(1)
    readings: list[tuple[Callable[[Any, Any], Any], Callable[[int, int], Any]]] = [
        (lambda q, k: cube[q, 1, k], lambda q, k: cube[q, 1, k]),
        (lambda q, k: cube[q][1][k], lambda q, k: cube[q, 1, k]),
        (lambda q, k: cube[:, one][q, k], lambda q, k: cube[q, 1, k]),
        (lambda q, k: cube[q, :, k][one], lambda q, k: cube[q, 1, k]),
        (lambda q, k: cube[..., k][q, -1], lambda q, k: cube[q, 2, k]),
        (lambda q, k: cube[q, ..., k][2], lambda q, k: cube[q, 2, k]),
        (lambda q, k: cube[q - 11, 0, k - 3], lambda q, k: cube[q, 0, k - 3]),
        (lambda q, k: torch.take(cube, q * 3 + 2), lambda q, k: cube.flatten()[q * 3 + 2]),
        (lambda q, k: cube[cube[q, 0, k], cube[0, 1, 2] % 3, k], lambda q, k: cube[cube[q, 0, k], 0, k]),
        (lambda q, k: torch.ops.aten.index(cube[:, 0], [q, k]), lambda q, k: cube[q, 0, k]),
    ]
    for number, (read, meant) in enumerate(readings):
        expected = torch.tensor([[int(meant(q, k)) for k in range(N)] for q in range(N)])
        agrees(read, expected, f"reading {number}")


def test_an_index_past_the_end_is_an_error() -> None:
    doc = torch.arange(5)
    mask = am.lift(lambda b, h, q, k: doc[q - 6] == k)
    with pytest.raises(MaskError, match="'doc' has 5 entries"):
        mask.dense(3, 3)
