"""One attention call of a program: with lse, and with grouped heads wherever they divide."""

from __future__ import annotations

from typing import TypedDict, Unpack

import torch

from attnmask.errors import MaskError
from attnmask.lower.attention import Backend, attention
from attnmask.lower.choose.choices import Choices
from attnmask.lower.prepare import Lowerable
from attnmask.tiles.build import Block

Tensor = torch.Tensor


class Options(TypedDict, total=False):
    """What a program hands on to `attention`, with the meaning and the defaults that it has there."""

    scale: float | None
    block: Block
    q_offset: int
    backend: Backend | None


def require_tensors(**named: object) -> None:
    """MaskError where one of them is no tensor of real numbers."""
    for name, x in named.items():
        if not isinstance(x, Tensor) or x.is_complex():
            what = "complex" if isinstance(x, Tensor) else type(x).__name__
            raise MaskError(f"{name.replace('_', ' ')} must be a tensor of real numbers, not {what}")


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Lowerable,
    choices: Choices | None = None,
    **options: Unpack[Options],
) -> tuple[Tensor, Tensor]:
    """q [B, Hq, Q, D], k [B, Hkv, K, D], v [B, Hkv, K, Dv] → out [B, Hq, Q, Dv] and lse [B, Hq, Q]."""
    found = attention(q, k, v, mask, enable_gqa=True, return_lse=True, choices=choices, **options)
    assert isinstance(found, tuple)
    return found
