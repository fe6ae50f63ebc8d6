"""What the attention benchmarks share: inputs, masks, a check against float64, and counts of work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

import attnmask as am
from benchmarks.masks import CASES, documents

Tensor = torch.Tensor
MASKS = ("causal", "window_sink", "causal_documents")
_MEAN_DOCUMENT, _LEAST_DOCUMENTS = 2048, 3
_CHECKED_QUERIES = 64
_CHECKED_HEADS = 2
# ‖out − reference‖ / ‖reference‖: bf16 operands give 1e-3 to 1e-2, float32 far less.
_MOST_ERROR = {torch.bfloat16: 2e-2, torch.float16: 5e-3, torch.float32: 1e-4}


@dataclass(frozen=True, slots=True)
class Shape:
    """One batch row of `heads` heads."""

    heads: int
    head_dim: int
    dtype: torch.dtype
    device: str

    def inputs(self, length: int, *, gradients: bool = False) -> tuple[Tensor, Tensor, Tensor]:
        """q, k, v [1, heads, length, head_dim], fresh random numbers."""
        size = (1, self.heads, length, self.head_dim)
        q, k, v = (torch.randn(size, device=self.device, dtype=self.dtype) for _ in range(3))
        return (q, k, v) if not gradients else (q.requires_grad_(), k.requires_grad_(), v.requires_grad_())

    def to_dict(self) -> dict[str, str | int]:
        dtype = str(self.dtype).removeprefix("torch.")
        return {"batch": 1, "heads": self.heads, "head_dim": self.head_dim, "dtype": dtype}


def packed(case: str, length: int) -> am.Mask:
    """The mask of a case; where it has documents, they have 2048 tokens on average."""
    if not CASES[case].documents:
        return CASES[case].mask(length)
    return am.compile(
        CASES[case].text, doc=documents(length, max(_LEAST_DOCUMENTS, length // _MEAN_DOCUMENT))
    )


@dataclass(frozen=True, slots=True)
class Work:
    """`pairs` attended, of length²; `density`: the share of tiles that are live, which kernels compute."""

    pairs: int
    density: float

    def flops(self, shape: Shape, direction: str) -> int:
        """Multiplications and additions for attended pairs: two products forward, five backward."""
        return 2 * {"forward": 2, "backward": 5}[direction] * self.pairs * shape.head_dim * shape.heads


def work(mask: am.Mask, length: int) -> Work:
    tiles = mask.tiles(length)
    live = len(tiles.partial.indices) + len(tiles.full.indices)
    return Work(int(mask.report(length).pairs), live / (tiles.rows * tiles.cols))


def error(out: Tensor, q: Tensor, k: Tensor, v: Tensor, mask: am.Mask) -> float:
    """‖out − reference‖ / ‖reference‖ over some queries and heads, against float64 and the dense definition."""
    length, scale = q.shape[2], q.shape[3] ** -0.5
    heads = slice(0, min(_CHECKED_HEADS, q.shape[1]))
    errors: list[float] = []
    count = min(_CHECKED_QUERIES, length)
    for first in (0, (length - count) // 2, length - count):
        rows = slice(first, first + count)
        allowed = torch.from_numpy(np.array(mask.dense(count, length, q_offset=first)))
        wide_q, wide_k, wide_v = (t.detach()[:, heads].double().cpu() for t in (q[:, :, rows], k, v))
        scores = (wide_q @ wide_k.transpose(-1, -2) * scale).masked_fill(~allowed, -torch.inf)
        expected = scores.softmax(dim=-1) @ wide_v
        found = out.detach()[:, heads, rows].double().cpu()
        errors.append(float((found - expected).norm() / expected.norm()))
    return float(np.max(errors))  # which is NaN when one of them is


def assert_right(name: str, out: Tensor, q: Tensor, k: Tensor, v: Tensor, mask: am.Mask) -> None:
    """AssertionError when the result is wrong, NaN included: what is wrong is not worth timing."""
    found = error(out, q, k, v, mask)
    if not found <= _MOST_ERROR[out.dtype]:
        raise AssertionError(f"{name}: relative error {found:.1e} against float64 for {mask}")


def assert_close(name: str, found: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    """AssertionError when the gradients of two ways differ by more than rounding, NaN included."""
    for which, one, other in zip("qkv", found, expected, strict=True):
        difference = float((one.double() - other.double()).norm() / other.double().norm())
        if not difference <= _MOST_ERROR[one.dtype]:
            raise AssertionError(f"{name}: the gradients of {which} differ by {difference:.1e}")
