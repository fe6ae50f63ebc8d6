"""Values that a function changes in place: each shows its change under all of its names, as a tensor does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

import attnmask as am

N = 9
BYTES = torch.arange(N, dtype=torch.uint8) * 31


def narrowed(q: Any, k: Any) -> Any:
    mask = q >= k
    mask &= q - k < 3
    mask |= k == 0
    mask ^= q == 5
    return mask


def two_names(q: Any, k: Any) -> Any:
    x = q
    x += 1
    return q > k


def detached(q: Any, k: Any) -> Any:
    x = q.detach()
    x *= 2
    return q > k


def no_cast(q: Any, k: Any) -> Any:
    x = q.to(torch.int64)
    x -= 2
    return q > k


def a_cast(q: Any, k: Any) -> Any:
    x = q.to(torch.int32)
    x -= 2
    return (q > k) ^ (x > k)


def a_copy(q: Any, k: Any) -> Any:
    x = q.clone()
    x += 3
    return (q > k) ^ (x > k)


def before_and_after(q: Any, k: Any) -> Any:
    early = q > k
    q += 2
    return early ^ (q > k)


def wrapped(q: Any, k: Any) -> Any:
    x = BYTES[q].clone()
    x += BYTES[k]
    x <<= 1
    return x > 100


def by_methods(q: Any, k: Any) -> Any:
    x = (q - k).abs_().clamp_(1, 5)
    x.mul_(2).add_(k)
    mask = x > 7
    mask.logical_or_(k < 2).logical_not_()
    mask.masked_fill_(q == 3, True)
    return mask


def filled(q: Any, k: Any) -> Any:
    x = q - k
    x.fill_(3)
    y = k.clone().zero_()
    return (x > k) & (y == 0)


@pytest.mark.parametrize(
    "function",
    [narrowed, two_names, detached, no_cast, a_cast, a_copy, before_and_after, wrapped, by_methods, filled],
)
def test_changes_in_place(function: Callable[[Any, Any], Any]) -> None:
    expected = [[bool(function(torch.tensor(q), torch.tensor(k))) for k in range(N)] for q in range(N)]
    mask = am.lift(lambda b, h, q, k: function(q, k))
    assert mask.dense(N).tolist() == expected
    assert BYTES.tolist() == [31 * n % 256 for n in range(N)]
