"""What masks that choose from q and k are asked: to choose, and how good a choice is."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from attnmask.ir.choices import choices_of

if TYPE_CHECKING:
    import torch

    from attnmask.lower.choose.choices import Choices
    from attnmask.mask import Mask


class Choosable:
    """A mixin of `Mask`."""

    __slots__ = ()

    @property
    def chooses(self) -> bool:
        """Whether the mask chooses from q and k, and so needs `choose` before it has tiles."""
        return bool(choices_of(cast("Mask", self).predicate))

    def choose(
        self,
        q: torch.Tensor,
        k: torch.Tensor,
        *,
        q_offset: int = 0,
        check: bool | None = None,
        **given: object,
    ) -> Choices:
        """What the mask chooses for these queries and keys, as tensors on their device; nothing is read back.

        Args:
            q: [B, Hq, Q, D]. k: [B, Hkv, K, D], Hkv a divisor of Hq. Scores are computed in float32 (float64 for
                such inputs), without gradients.
            q_offset: position of the first query, as with a KV cache.
            check: whether to look for NaN and infinity among the scores, which makes the host wait; on the CPU
                unless given.
            given: what the mask names and is not bound: scores, weights, thresholds, and tables that stay on the
                device.

        Raises:
            MaskError: where q and k do not go together, something is not given, or does not fit.
        """
        from attnmask.lower.choose.choices import choose

        return choose(cast("Mask", self), q, k, given, q_offset=q_offset, check=check)
