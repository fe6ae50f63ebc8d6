"""lift: the mask of a FlexAttention function that somebody has written already."""

from __future__ import annotations

from collections.abc import Callable

from attnmask.errors import LiftError
from attnmask.ir.domain import LONGEST, MOST_PLANES, Domain, length
from attnmask.mask import Mask

# Quotients of positions below this, in single precision, lie on the right side of every integer.
_EXACT_FLOATS = 1 << 23

_FIRST = Domain(4, 4)


def lift(mask_mod: Callable[..., object], /, *, batch: int | None = None, heads: int | None = None) -> Mask:
    """The mask of a FlexAttention function `mask_mod(b, h, q, k) -> bool`, which is called with tracers.

    Tensors that it reads become tables of the mask and are copied: a later change does not change the mask.
    A function that computes with floats gives a mask for positions below 2**23.

    Args:
        mask_mod: 0-d integer tensors to a 0-d boolean one, as `create_block_mask` takes it: operators,
            comparisons and torch functions on integers and truth values, and tensors indexed by them.
        batch, heads: how many batch rows and heads the mask is for at most, where a shift or an index needs to
            know that.

    Raises:
        LiftError: with the operation and its place in the function, when it decides by Python's control flow,
            computes with floats that have no integer form, changes tensors in place, or uses an operation that
            masks have no need of.
    """
    from attnmask.lower.lifting import bound, lifted
    from attnmask.lower.sampled import compare_once

    batch = MOST_PLANES if batch is None else length("batch", batch)
    heads = MOST_PLANES if heads is None else length("heads", heads)
    made_for = Domain(LONGEST, LONGEST, 0, batch, heads)
    try:
        found = lifted(mask_mod, made_for, tabulate=False)
    except LiftError:
        made_for = Domain(_EXACT_FLOATS, _EXACT_FLOATS, 0, batch, heads)
        found = lifted(mask_mod, made_for, tabulate=False)
    try:
        compare_once(mask_mod, found, _FIRST)
    except LiftError as error:
        if error.__cause__ is None:  # else the function has nothing to say about the first positions
            raise
    predicate, tables = bound(found)
    return Mask(predicate, None, tables, found.origins, made_for)
