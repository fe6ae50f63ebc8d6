"""One mask function of the suite, and what its sizes follow from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from attnmask.lower.functions import MaskMod

Make = Callable[[int], MaskMod]
Arguments = tuple[MaskMod, int | None, int | None, int, int]


@dataclass(frozen=True, slots=True)
class MaskFunction:
    """A mask_mod as its users write it, for any length.

    `make(length)` gives the function for `length` keys; `q_len` tells the number of queries. `batch` and `heads`
    are what such a function needs of B and H, None where it looks at neither. `has_integer_form` is False for one
    that computes with floats of q and k together, which attnmask leaves to torch.
    """

    make: Make
    family: str
    batch: int | None
    heads: int | None
    q_len: Callable[[int], int]
    has_integer_form: bool = True

    @property
    def name(self) -> str:
        return self.make.__name__

    @property
    def use(self) -> str:
        """Where such masks are used, in a line."""
        return (self.make.__doc__ or "").strip().split("\n")[0]

    @property
    def is_grid(self) -> bool:
        """Whether it is about images or videos."""
        return self.family.startswith(("2-D", "3-D"))

    def arguments(self, length: int) -> Arguments:
        """What `create_block_mask` takes first: mask_mod, B, H, Q_LEN and KV_LEN."""
        return self.make(length), self.batch, self.heads, self.q_len(length), length


def mask_function(
    family: str,
    *,
    batch: int | None = None,
    heads: int | None = None,
    q_len: Callable[[int], int] = lambda length: length,
    has_integer_form: bool = True,
) -> Callable[[Make], MaskFunction]:
    """Makes an entry of the suite out of a function from length to mask_mod."""
    return lambda make: MaskFunction(make, family, batch, heads, q_len, has_integer_form)


def sized(size: int, length: int) -> int:
    """`size` tokens, or an eighth of a sequence too short for them, so that short ones have every case too."""
    return max(1, min(size, length // 8))


def drawn(low: int, high: int, shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """Random integers from low to high - 1, the same in every process."""
    return torch.randint(low, high, shape, generator=torch.Generator().manual_seed(seed))


def chance(share: float, shape: tuple[int, ...], seed: int = 0) -> Tensor:
    """Random booleans, `share` of them true, the same in every process."""
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed)) < share
