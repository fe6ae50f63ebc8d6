"""attnmask: a mask-algebra compiler to PyTorch FlexAttention."""

from attnmask.errors import MaskError
from attnmask.mask import Mask, ScoreMod, compile

__all__ = ["Mask", "MaskError", "ScoreMod", "compile"]
