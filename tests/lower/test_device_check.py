"""What shapes and types tell of a mask whose tables nobody looks at."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import torch

import attnmask as am
from attnmask.errors import MaskError
from attnmask.ir.domain import Domain
from attnmask.lower.device import device_block_mask, planned

CPU = torch.device("cpu")
ALL = am.compile("all").mask_mod
Tables = Mapping[str, torch.Tensor]


def test_integers_are_as_narrow_as_is_safe() -> None:
    def dtype(text: str, length: int = 1 << 20, **tables: torch.Tensor) -> torch.dtype:
        domain = Domain(length, length)
        return planned(am.compile(text).predicate, tables, domain, (128, 128), CPU).dtype

    assert dtype("causal & window(4096)") == torch.int32
    assert dtype("same(doc)", doc=torch.zeros(1 << 20, dtype=torch.int32)) == torch.int64
    assert dtype("q * 2047 <= k") == torch.int32
    assert dtype("q * 2048 <= k") == torch.int64
    assert dtype("q * 1500 <= -(k * 1500)") == torch.int64  # the difference of the two sides
    assert dtype("((q - k) ^ 5) < 9", 99) == torch.int64  # bounds of bits need room


@pytest.mark.parametrize(
    ("text", "tables", "says"),
    [
        ("same(doc)", {}, "'doc' is not bound"),
        ("same(doc)", {"doc": torch.zeros(100).long()}, "has 100 entries and entry 127 is asked for"),
        ("same(doc)", {"doc": torch.zeros(128)}, "holds floats"),
        ("same(doc)", {"doc": torch.zeros(2, 2, 128).long()}, "3 dimensions"),
        ("live[k]", {"live": torch.zeros(128).long()}, "truth values are needed"),
        ("k < n", {"n": torch.tensor(2.5)}, "must be an integer"),
        ("live[q] & k < 9", {"live": torch.tensor(True)}, "single number"),
        (
            "t[min(q, 3), doc[k]] == 1",
            {"t": torch.zeros(3, 9).int(), "doc": torch.zeros(128).int()},
            "entry 3",
        ),
        ("t[q // (k - 5)] == 1", {"t": torch.zeros(128).int()}, "divisor can be zero"),
        ("doc[q] // (k % 3) == 1", {"doc": torch.zeros(128).int()}, "divisor can be zero"),
        (f"q * {2**62} < doc[k]", {"doc": torch.zeros(128).int()}, "64 bits"),
        ("t[doc[q]] == 1", {"t": torch.zeros(0).int(), "doc": torch.zeros(128).int()}, "'t' is empty"),
        ("same(doc)", {"doc": torch.zeros(128, device="meta").int()}, "is on meta"),
    ],
)
def test_what_shapes_tell_is_refused(text: str, tables: Tables, says: str) -> None:
    root = am.compile(text).predicate
    with pytest.raises(MaskError, match=says):
        device_block_mask(root, tables, Domain(128, 128), (64, 64), CPU, ALL, batch=1, heads=1)
