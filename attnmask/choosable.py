"""What masks that choose from q and k are asked: to choose, and how good a choice is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from math import isfinite
from typing import TYPE_CHECKING, Any, cast

from attnmask.errors import MaskError
from attnmask.ir.choices import choices_of, resolved
from attnmask.ir.domain import length
from attnmask.ir.nodes import Choice, Predicate
from attnmask.ir.predicate import or_, truth
from attnmask.ir.rule_names import names_given

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from attnmask.lower.choose.choices import Choices
    from attnmask.mask import Mask
    from attnmask.plan.quality import Quality
    from attnmask.tiles.build import Block


class Choosable:
    """A mixin of `Mask`."""

    __slots__ = ()

    @property
    def chooses(self) -> bool:
        """Whether the mask chooses from q and k, and so needs `choose` before it has tiles."""
        return bool(choices_of(cast("Mask", self).predicate))

    @property
    def needs(self) -> tuple[str, ...]:
        """The names that `choose` takes with q and k: what rules name, and tables that are not bound; sorted."""
        mask = cast("Mask", self)
        return tuple(sorted({*names_given(mask.predicate), *mask.unbound})) if self.chooses else ()

    def choose(
        self,
        q: torch.Tensor | NDArray[Any],
        k: torch.Tensor | NDArray[Any],
        *,
        q_offset: int = 0,
        check: bool | None = None,
        **given: object,
    ) -> Choices:
        """What the mask chooses for these queries and keys, as tensors on their device; nothing is read back.

        Args:
            q: [B, Hq, Q, D]. k: [B, Hkv, K, D], Hkv a divisor of Hq; tensors or numpy arrays. Scores are computed
                in float32 (float64 for such inputs), without gradients.
            q_offset: position of the first query, as with a KV cache.
            check: whether to look for NaN and infinity among the scores, which makes the host wait; on the CPU
                unless given.
            given: what the mask names and is not bound: scores, weights, thresholds, and tables that stay on the
                device.

        Returns:
            The sets, for `attention(..., choices=…)`, `block_mask(..., choices=…)` and `freeze`.

        Raises:
            MaskError: where q and k do not go together, something is not given, or does not fit.
        """
        from attnmask.lower.choose.choices import choose

        return choose(cast("Mask", self), q, k, given, q_offset=q_offset, check=check)

    def freeze(self, choices: Choices, *, name: str = "chosen") -> Mask:
        """The mask with what was chosen written into tables on the host: a static one, for that call alone.

        All that masks offer works on it: `tiles`, `show`, `report`, `dense`, `prove`, `emit`. Waits for the device.

        Args:
            choices: what was chosen.
            name: what the names of the tables begin with; frozen masks that are combined need different ones.
        """
        from attnmask.lower.choose.choices import checked
        from attnmask.lower.choose.lowered import element_wise

        mask, choices = cast("Mask", self), checked(choices)
        if not isinstance(name, str) or not name.isidentifier():
            raise MaskError(f"a name of letters, digits and _ is needed, not {name!r}")
        predicate, tensors = element_wise(mask, choices.call, choices, name)
        limits = choices.call.limits(("b", "h"))
        frozen = replace(mask, predicate=predicate, made_for=mask.made_for.within(limits))
        return frozen.bind(**{name: x.detach() for name, x in tensors.items() if name in frozen.unbound})

    def quality(
        self,
        q: torch.Tensor | NDArray[Any],
        k: torch.Tensor | NDArray[Any],
        choices: Choices | None = None,
        *,
        q_offset: int = 0,
        block: Block = 128,
        scale: float | None = None,
        rows: int = 512,
        **given: object,
    ) -> Quality:
        """What a choice costs and keeps on these queries and keys: estimator, densities, recall of attention.

        Args:
            q, k, q_offset, given: as in `choose`.
            choices: what was chosen, perhaps for other q and k (an earlier layer); chosen here unless given.
            scale: factor of the scores; 1 / sqrt(D) unless given.
            rows: as many queries are looked at, evenly spread; against all of their keys.
        """
        from attnmask.lower.choose.choices import checked, closing
        from attnmask.lower.choose.measure import measure
        from attnmask.plan.estimate import estimator_flops
        from attnmask.plan.quality import Quality
        from attnmask.tiles.build import block_pair

        mask = cast("Mask", self)
        if not mask.chooses:
            raise MaskError(
                "the mask chooses nothing from q and k", hint="report(q_len) tells all of a static mask"
            )
        if choices is not None and (given or q_offset):
            raise MaskError(
                "choices that are made know where their queries begin and what was given with them",
                hint="leave q_offset and names out",
            )
        if choices is None:
            choices = self.choose(q, k, q_offset=q_offset, check=None, **given)
        root, call, pair = closing(mask), checked(choices).call, block_pair(block)
        if scale is not None and (
            not isinstance(scale, int | float) or isinstance(scale, bool) or not isfinite(scale)
        ):
            raise MaskError(f"scale must be a number, not {scale!r}")
        # What the mask attends if everything is chosen, or if nothing is: a choice may stand under a complement.
        extremes = (resolved(root, partial(_all_or_nothing, taken)) for taken in (True, False))
        widest = or_(*extremes)
        everything = replace(mask, predicate=widest)
        found = measure(mask, everything, q, k, choices, pair, scale, length("rows", rows))
        whole = found.queries / call.q_len
        size = pair[0] * pair[1]
        return Quality(
            str(mask),
            call.q_len,
            call.kv_len,
            pair,
            found.queries,
            sum(
                estimator_flops(
                    choice.rule,
                    batch=call.batch,
                    heads=call.heads,
                    q_len=call.q_len,
                    kv_len=call.kv_len,
                    head_dim=q.shape[-1],
                    units=choices.units(choice),
                )
                for choice in choices_of(root)
            ),
            4 * q.shape[-1] * size * sum(map(sum, found.tiles)),
            _shares(found.pairs, found.allowed),
            _shares([[n * size * whole for n in row] for row in found.tiles], found.allowed),
            found.tiles_per_row,
            found.recall,
            found.least_recall,
            found.empty,
        )


def _all_or_nothing(taken: bool, choice: Choice) -> Predicate:
    return truth(taken)


def _shares(parts: Sequence[Sequence[float]], wholes: Sequence[Sequence[int]]) -> list[list[float]]:
    return [
        [part / max(whole, 1) for part, whole in zip(some, every, strict=True)]
        for some, every in zip(parts, wholes, strict=True)
    ]
