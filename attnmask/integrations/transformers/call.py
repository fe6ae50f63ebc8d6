"""The mask of one forward pass: what transformers says about it, and the masks that come of that when asked for."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch.nn.functional import pad
from transformers.masking_utils import causal_mask_function, sdpa_mask

from attnmask.errors import MaskError
from attnmask.ir.check import check
from attnmask.ir.domain import Domain
from attnmask.ir.index import add, const, table, var
from attnmask.ir.nodes import Expr
from attnmask.ir.predicate import bool_table
from attnmask.ir.tables import table_data
from attnmask.ir.walk import substitute
from attnmask.lower.functions import untraced
from attnmask.lower.lifting import bound, lifted
from attnmask.mask import Mask

Tensor = torch.Tensor
T = TypeVar("T")

# Tables that a call adds to masks; a mask of the user's must not have them.
PADDING = "padding_of_the_call"
KV_OFFSET = "kv_offset_of_the_call"


class CallMask:
    """What travels through the model as `attention_mask`.

    Masks count positions from the first token that the cache ever saw: query row i is position q_offset + i, and
    key slot j is position kv_offset + j (a sliding cache has dropped the keys before kv_offset).

    Not a dataclass: what wraps modules (FSDP) rebuilds dataclasses that it finds among the arguments.
    """

    # Models ask this of their mask, to tell padding [B, K] from a mask that is ready.
    ndim = 4

    def __init__(
        self,
        *,
        batch: int,
        q_len: int,
        kv_len: int,
        q_offset: int,
        kv_offset: int,
        mask_function: Callable[..., Any],
        padding: Tensor | None,
        use_vmap: bool,
        device: torch.device,
    ) -> None:
        self.batch = batch
        self.q_len = q_len
        self.kv_len = kv_len
        self.q_offset = q_offset
        self.kv_offset = kv_offset
        self.mask_function = mask_function
        self.padding = padding
        self.use_vmap = use_vmap
        self.device = device
        self._kept: dict[Hashable, Any] = {}

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return self.batch, 1, self.q_len, self.kv_len

    def __repr__(self) -> str:
        return (
            f"CallMask(batch={self.batch}, q_len={self.q_len}, kv_len={self.kv_len}, "
            f"q_offset={self.q_offset}, kv_offset={self.kv_offset})"
        )

    def kept(self, key: Hashable, make: Callable[[], T]) -> T:
        """`make()`, called once a forward pass and not once a layer."""
        if key not in self._kept:
            self._kept[key] = make()
        result: T = self._kept[key]
        return result

    @property
    def filled(self) -> int:
        """Key slots that hold keys; the rest of a static cache is not written yet."""
        return min(self.kv_len, self.q_offset + self.q_len - self.kv_offset)

    def own_dense(self) -> Tensor:
        """The model's own mask, with padding: bool [B, 1, q_len, kv_len], by transformers' definition."""
        mask = sdpa_mask(
            batch_size=self.batch,
            q_length=self.q_len,
            kv_length=self.kv_len,
            q_offset=self.q_offset,
            kv_offset=self.kv_offset,
            mask_function=self.mask_function,
            attention_mask=self.padding,
            use_vmap=self.use_vmap,
            device=self.device,
            allow_is_causal_skip=False,
        )
        assert mask is not None, "left out only where that was allowed"
        return mask

    def own(self) -> Mask | None:
        """The model's own mask without padding; None, after a warning, when it cannot be lifted."""
        domain = Domain(self.q_len, self.kv_offset + self.kv_len, self.q_offset, self.batch)
        try:
            found = lifted(self.mask_function, domain, self.device, tabulate=True)
            root, tables = bound(found)
            check(root, domain, dict(tables), found.origins)
        except MaskError as error:
            warnings.warn(
                f"this model's own mask is evaluated on every pair, since attnmask cannot lift it: {error}",
                stacklevel=2,
            )
            return None
        return Mask(root, None, tables, found.origins)

    def slots(self, mask: Mask) -> Mask:
        """A mask over positions as one over the key slots of this call, and without padding."""
        padding = self.kept("padding", self._padding_mask)
        mask = mask if padding is None else mask & padding
        if not self.kv_offset:
            return mask
        # A table, and not a constant: the generated code stays the same when the cache moves on.
        offset = table(KV_OFFSET, (const(0),))
        moved: dict[Expr, Expr] = {var(name): add(var(name), offset) for name in ("k", "K")}
        tables = {**dict(mask.tables), KV_OFFSET: table_data(KV_OFFSET, [self.kv_offset])}
        return replace(
            mask,
            predicate=substitute(mask.predicate, moved),
            score=None if mask.score is None else substitute(mask.score, moved),
            tables=tuple(sorted(tables.items())),
        )

    def _padding_mask(self) -> Mask | None:
        """Which positions hold tokens; None where all do. Waits for the device."""
        padding = self.padding_to(self.kv_offset + self.kv_len)
        if padding is None or bool(padding[:, self.kv_offset :].all()):
            return None
        return Mask(
            bool_table(PADDING, (var("b"), var("k"))), None, ((PADDING, table_data(PADDING, padding)),)
        )

    def padding_to(self, length: int) -> Tensor | None:
        """Padding [B, length]: positions that attention_mask does not reach hold no token."""
        if self.padding is None:
            return None
        return pad(self.padding, (0, max(0, length - self.padding.shape[1])))[:, :length]


@untraced
def mask_forward(
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: int | Tensor = 0,
    kv_offset: int = 0,
    mask_function: Callable[..., Any] = causal_mask_function,
    attention_mask: Tensor | CallMask | None = None,
    use_vmap: bool = False,
    device: torch.device | str = "cpu",
    **_: Any,
) -> CallMask:
    """The mask function of transformers' protocol; waits for the device where a static cache keeps its length."""
    # With a static cache `generate` makes the masks before the forward pass, which then asks for them again.
    if isinstance(attention_mask, CallMask):
        return attention_mask
    return CallMask(
        batch=batch_size,
        q_len=q_length,
        kv_len=kv_length,
        q_offset=int(q_offset),
        kv_offset=kv_offset,
        mask_function=mask_function,
        padding=attention_mask,
        use_vmap=use_vmap,
        device=torch.device(device),
    )
