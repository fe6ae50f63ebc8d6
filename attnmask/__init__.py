"""attnmask: a mask algebra that compiles to PyTorch FlexAttention.

import attnmask as am
m = am.compile("causal & (window(512) | sink(4))")
m.tiles(32768)                    # which tiles are full, partial, empty: exactly, without torch
m.block_mask(32768, device=...)   # a torch BlockMask
am.attention(q, k, v, m)          # attention under the mask
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attnmask import library, zoo
from attnmask.errors import MaskError
from attnmask.mask import Mask, ScoreMod, compile

if TYPE_CHECKING:
    from attnmask.lower.attention import attention

__version__ = "0.1.0"
__all__ = ["Mask", "MaskError", "ScoreMod", "attention", "compile", "library", "zoo"]


def __dir__() -> list[str]:
    return sorted(__all__)


def __getattr__(name: str) -> Any:
    # attention needs torch, which takes seconds to import; tiles, reports and pictures do not.
    if name == "attention":
        from attnmask.lower.attention import attention

        return attention
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
