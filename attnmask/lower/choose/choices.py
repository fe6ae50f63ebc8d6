"""choose(q, k): what a mask's rules take, kept as small tensors that later calls can share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, assert_never

import numpy as np
import torch
from numpy.typing import NDArray

from attnmask.errors import MaskError
from attnmask.ir.choices import choices_of, closed
from attnmask.ir.domain import Domain, length, offset
from attnmask.ir.nodes import Choice, Predicate
from attnmask.ir.rules import (
    Clusters,
    Selected,
    Spans,
)
from attnmask.ir.tables import TableData
from attnmask.ir.text import one_line, to_text
from attnmask.ir.walk import table_names
from attnmask.lower.choose.clusters import members
from attnmask.lower.choose.distances import few_distances
from attnmask.lower.choose.evaluate import chosen
from attnmask.lower.choose.given import given_tensors, require_given, require_tables, tables_of
from attnmask.lower.choose.planes import apart, differs
from attnmask.lower.choose.scores import Inputs
from attnmask.lower.choose.sets import Chosen, Intervals, Members, Pairs, tensors
from attnmask.lower.choose.spans import intervals
from attnmask.lower.prepare import Lowerable

Tensor = torch.Tensor


_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Choices:
    """The sets that a mask chose for a call, on the device of q and k.

    Keep them to use them again: in other layers, heads or steps (`block_mask(..., choices=kept)`), for any mask
    that chooses by the same rules. `&` and `|` intersect and unite the sets of two of them, rule by rule.
    """

    sets: Mapping[Choice, Chosen]
    call: Domain
    device: torch.device
    # Tables that came with q and k, and those of the mask that its choices read.
    tables: Mapping[str, Tensor] = field(default_factory=dict, repr=False)
    bound: Mapping[str, TableData] = field(default_factory=dict, repr=False)

    def __repr__(self) -> str:
        shown = ", ".join(one_line(to_text(choice), 60) for choice in self.sets)
        call = self.call
        lengths = f"{call.q_len} queries from {call.q_offset}, {call.kv_len} keys, {call.batch} × {call.heads} heads"
        return f"Choices({shown}: {lengths}, on {self.device})"

    def __and__(self, other: Choices) -> Choices:
        return self._combined(other, torch.logical_and)

    def __or__(self, other: Choices) -> Choices:
        return self._combined(other, torch.logical_or)

    def _combined(self, other: Choices, law: Callable[[Tensor, Tensor], Tensor]) -> Choices:
        if not isinstance(other, Choices):
            return NotImplemented
        if self.call != other.call:
            raise MaskError("the two were chosen for different calls")
        if self.sets.keys() != other.sets.keys():
            raise MaskError("the two were chosen by different rules", hint="choose both with one mask")
        if self.device != other.device:
            raise MaskError(f"choices on {self.device} and on {other.device} do not fit together")
        if self.bound != other.bound:
            raise MaskError("the two were chosen with different tables")
        for name, table in self.tables.items():
            if name not in other.tables or not _equal(table, other.tables[name]):
                raise MaskError(f"the two were chosen with different '{name}'")
        sets: dict[Choice, Chosen] = {}
        for choice, mine in self.sets.items():
            theirs = other.sets[choice]
            if not isinstance(mine, Pairs) or not isinstance(theirs, Pairs):
                raise MaskError("clusters and spans cannot be combined: they are not sets of units")
            if not _same_units(mine.taken, theirs.taken):
                raise MaskError(
                    f"choices of shapes {tuple(mine.taken.shape)} and {tuple(theirs.taken.shape)} do not fit together"
                )
            sets[choice] = Pairs(law(mine.taken, theirs.taken))
        return replace(self, sets=sets)

    def of(self, choice: Choice) -> Chosen:
        """What was chosen for one choice of a mask. MaskError where none was."""
        if choice not in self.sets:
            raise MaskError(
                "these choices were made by other rules than the mask's",
                hint="choose with this mask, or with one that has the same rules and candidates",
            )
        return self.sets[choice]

    def units(self, choice: Choice) -> tuple[int, int]:
        """How many units of queries there are, and with how many of keys each is scored; for clusters, twice their
        number.
        """
        found = self.of(choice)
        if (near := few_distances(choice, self.call)) is not None:
            return self.call.q_len, len(near)
        match found:
            case Pairs(taken):
                return taken.shape[2], taken.shape[3]
            case Intervals():
                return found.low.shape[2], found.units
            case Members():
                return found.q.shape[3], found.k.shape[3]
            case _:
                assert_never(found)

    @property
    def nbytes(self) -> int:
        """Bytes that the sets take."""
        return sum(kept.nbytes for found in self.sets.values() for kept in tensors(found))


def _equal(a: Tensor, b: Tensor) -> bool:
    """Waits for the device, unless they are one tensor."""
    return a is b or (a.shape == b.shape and a.dtype == b.dtype and bool(torch.equal(a, b)))


def _same_units(a: Tensor, b: Tensor) -> bool:
    """Whether two sets have the same batch rows and units, of which one must not stand for many.

    One set may serve all heads.
    """
    return (
        a.shape[0] == b.shape[0]
        and a.shape[2:] == b.shape[2:]
        and (a.shape[1] == b.shape[1] or 1 in (a.shape[1], b.shape[1]))
    )


def closing(mask: Lowerable) -> Predicate:
    """The mask with the candidates of its choices; tables that are not bound are not known to these."""
    return closed(mask.predicate, frozenset(mask.unbound))


@torch.no_grad()
def choose(
    mask: Lowerable,
    q: Tensor | NDArray[Any],
    k: Tensor | NDArray[Any],
    given: Mapping[str, object],
    *,
    q_offset: int,
    check: bool | None,
) -> Choices:
    """See `Mask.choose`."""
    root = closing(mask)
    q, k = as_tensor("q", q), as_tensor("k", k)
    domain = _call(q, k, q_offset)
    named = given_tensors(mask, root, given, q)
    looked_at = q.device.type == "cpu" if check is None else check
    if looked_at:
        require_given(root, named)
        require_tables(mask, root, named, domain)
    inputs = Inputs(q, k, domain, dict(mask.tables), named, looked_at)
    sets: dict[Choice, Chosen] = {}
    with _no_autocast(q.device.type):
        for choice in choices_of(root):
            sets[choice] = apart(choice, inputs, _chosen) if differs(choice) else _chosen(choice, inputs)
    kept = {name: tensor for name, tensor in named.items() if name in tables_of(mask, root)}
    read = set(table_names(*sets))
    bound = {name: data for name, data in mask.tables if name in read}
    return Choices(sets, domain, q.device, kept, bound)


def _chosen(choice: Choice, inputs: Inputs) -> Chosen:
    match choice.rule:
        case Clusters() as rule:
            return members(rule, inputs.q, inputs.k, inputs.given[rule.centroids], check=inputs.check)
        case Spans() as rule:
            return intervals(choice, rule, inputs)
        case Selected() as rule:
            return Pairs(chosen(choice, rule, inputs))
        case _:
            assert_never(choice.rule)


def _no_autocast(device: str) -> AbstractContextManager[object]:
    """Scores are computed in float32 whatever the model around is cast to: rounded ones rank otherwise."""
    if torch.amp.is_autocast_available(device):
        return torch.autocast(device, enabled=False)
    return nullcontext()


def as_tensor(name: str, x: Tensor | NDArray[Any]) -> Tensor:
    """`x`, which may be an array of floats, as a tensor."""
    if isinstance(x, Tensor):
        return x
    if isinstance(x, np.ndarray) and x.dtype.kind == "f" and x.dtype.itemsize <= 8:
        return torch.from_numpy(np.ascontiguousarray(x, x.dtype.newbyteorder("=")))
    what = f"an array of {x.dtype}" if isinstance(x, np.ndarray) else type(x).__name__
    raise MaskError(f"{name} must be a tensor of floats [batch, heads, length, head_dim], not {what}")


def _call(q: Tensor, k: Tensor, q_offset: int) -> Domain:
    """The call that q and k belong to. MaskError where they do not go together."""
    for name, tensor in (("q", q), ("k", k)):
        if tensor.dim() != 4 or not tensor.is_floating_point():
            what = f"of {str(tensor.dtype).removeprefix('torch.')} and shape {tuple(tensor.shape)}"
            raise MaskError(f"{name} must be a tensor of floats [batch, heads, length, head_dim], not {what}")
        if tensor.layout != torch.strided:
            raise MaskError(f"{name} must be a dense tensor, not {str(tensor.layout).removeprefix('torch.')}")
        if tensor.dtype not in _FLOATS:
            found, *known = (str(dtype).removeprefix("torch.") for dtype in (tensor.dtype, *_FLOATS))
            raise MaskError(f"{name} is of {found}, and scores are made of {', '.join(known)}")
    if not q.shape[3]:
        raise MaskError("q and k have a head dimension of 0, and nothing to score by")
    if q.shape[0] != k.shape[0] or q.shape[3] != k.shape[3]:
        raise MaskError(f"q {tuple(q.shape)} and k {tuple(k.shape)} differ in batch or head dimension")
    if not k.shape[1] or q.shape[1] % k.shape[1]:
        raise MaskError(f"{q.shape[1]} query heads are not a multiple of {k.shape[1]} key heads")
    if q.device != k.device or q.dtype != k.dtype:
        raise MaskError(f"q is {q.dtype} on {q.device}, and k {k.dtype} on {k.device}")
    q_len, kv_len = length("the number of queries", q.shape[2]), length("the number of keys", k.shape[2])
    return Domain(q_len, kv_len, offset(q_offset, q_len), q.shape[0], q.shape[1])


def checked(choices: object) -> Choices:
    """MaskError where these are no choices."""
    if not isinstance(choices, Choices):
        raise MaskError(f"choices come from choose(q, k), and this is {type(choices).__name__}")
    return choices
