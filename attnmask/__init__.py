"""attnmask: a mask algebra that compiles to PyTorch FlexAttention.

import attnmask as am
m = am.compile("causal & (window(512) | sink(4))")
m.tiles(32768)                    # which tiles are full, partial, empty: exactly, without torch
m.block_mask(32768, device=...)   # a torch BlockMask
am.attention(q, k, v, m)          # attention under the mask

am.create_block_mask(mask_mod, None, None, 32768, 32768)   # torch's builder, for functions that you have
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from attnmask import library, zoo
from attnmask.compiling import compile
from attnmask.errors import LiftError, MaskError
from attnmask.lifted import lift
from attnmask.mask import Mask
from attnmask.reaching import layers_to_reach, reach
from attnmask.score_mod import ScoreMod

if TYPE_CHECKING:
    from attnmask import programs
    from attnmask.lower.accelerate import accelerate
    from attnmask.lower.attention import attention
    from attnmask.lower.builder import create_block_mask

__version__ = "0.1.0"
__all__ = [
    "LiftError",
    "Mask",
    "MaskError",
    "ScoreMod",
    "accelerate",
    "attention",
    "compile",
    "create_block_mask",
    "layers_to_reach",
    "library",
    "lift",
    "programs",
    "reach",
    "zoo",
]

# These need torch, which takes seconds to import; tiles, reports and pictures do not.
_NEED_TORCH = {"accelerate": "accelerate", "attention": "attention", "create_block_mask": "builder"}


def __dir__() -> list[str]:
    return sorted(__all__)


def __getattr__(name: str) -> Any:
    if name in _NEED_TORCH:
        return getattr(importlib.import_module(f"attnmask.lower.{_NEED_TORCH[name]}"), name)
    if name == "programs":
        return importlib.import_module("attnmask.programs")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
