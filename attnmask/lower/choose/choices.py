"""choose(q, k): what a mask's rules take, kept as small tensors that later calls can share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from attnmask.errors import MaskError, did_you_mean
from attnmask.ir.choices import choices_of, closed
from attnmask.ir.domain import Domain, length, offset
from attnmask.ir.nodes import Choice, Predicate
from attnmask.ir.rules import (
    Above,
    Amount,
    Blocks,
    Clusters,
    Concat,
    Counted,
    Given,
    Linear,
    Pooling,
    Rule,
    Top,
    TopP,
)
from attnmask.ir.text import one_line, to_text
from attnmask.ir.walk import table_names
from attnmask.lower.choose.clusters import Members, members
from attnmask.lower.choose.evaluate import Inputs, chosen
from attnmask.lower.prepare import Lowerable

Tensor = torch.Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """bool [B, heads, query units, key units]: pairs of units; each set serves as many query heads in a row."""

    taken: Tensor


Chosen = Pairs | Members


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Choices:
    """The sets that a mask chose for a call, on the device of q and k.

    Keep them to use them again: in other layers, heads or steps (`block_mask(..., choices=kept)`), for any mask
    that chooses by the same rules. `&` and `|` intersect and unite the sets of two of them, rule by rule.
    """

    sets: Mapping[Choice, Chosen]
    call: Domain
    device: torch.device
    tables: Mapping[str, Tensor] = field(default_factory=dict, repr=False)

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
        sets: dict[Choice, Chosen] = {}
        for choice, mine in self.sets.items():
            theirs = other.sets[choice]
            if not isinstance(mine, Pairs) or not isinstance(theirs, Pairs):
                raise MaskError("clusters cannot be combined: they are not sets of units")
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
        """How many units of queries and of keys were chosen from; for clusters, twice their number."""
        found = self.of(choice)
        if isinstance(found, Pairs):
            return found.taken.shape[2], found.taken.shape[3]
        return found.q.shape[3], found.k.shape[3]

    @property
    def nbytes(self) -> int:
        """Bytes that the sets take."""
        tensors = (
            tensor
            for found in self.sets.values()
            for tensor in ((found.taken,) if isinstance(found, Pairs) else (found.q, found.k))
        )
        return sum(tensor.nbytes for tensor in tensors)


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


def names_given(root: Predicate) -> frozenset[str]:
    """The names that the rules of a mask's choices read."""
    return frozenset[str]().union(*(_names(choice.rule) for choice in choices_of(root)))


def _names(rule: Rule) -> set[str]:
    if isinstance(rule, Clusters):
        return {rule.centroids}
    selector, score = rule.selector, rule.score
    names: set[str] = set()
    if isinstance(score, Given):
        names.add(score.name)
    if isinstance(score, Blocks):
        names |= _weights(score.pool) | _weights(score.q_pool)
    amount: Amount | Counted
    match selector:
        case Top(amount, _, _) | TopP(amount, _, _, _, _) | Above(amount, _, _):
            if isinstance(amount, str):
                names.add(amount)
            elif isinstance(amount, Counted):
                names |= _names(amount.rule)
    return names


def _weights(pool: Pooling) -> set[str]:
    match pool:
        case Linear(weights, inner):
            return {weights} | _weights(inner)
        case Concat(pools):
            return set[str]().union(*map(_weights, pools))
    return set()


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
    tensors = _given(mask, root, given, q)
    looked_at = q.device.type == "cpu" if check is None else check
    if looked_at:
        _require_finite({name: tensors[name] for name in names_given(root)})
        for choice in choices_of(root):
            _require_amounts(choice.rule, tensors)
    inputs = Inputs(q, k, domain, dict(mask.tables), tensors, looked_at)
    sets: dict[Choice, Chosen] = {}
    with _no_autocast(q.device.type):
        for choice in choices_of(root):
            rule = choice.rule
            if isinstance(rule, Clusters):
                sets[choice] = members(rule, q, k, tensors[rule.centroids])
            else:
                sets[choice] = Pairs(chosen(choice, rule, inputs))
    kept = {name: tensor for name, tensor in tensors.items() if name in _tables_of(mask, root)}
    return Choices(sets, domain, q.device, kept)


def _no_autocast(device: str) -> AbstractContextManager[object]:
    """Scores are computed in float32 whatever the model around is cast to: rounded ones rank otherwise."""
    if torch.amp.is_autocast_available(device):
        return torch.autocast(device, enabled=False)
    return nullcontext()


def as_tensor(name: str, x: Tensor | NDArray[Any]) -> Tensor:
    """`x`, which may be an array of floats, as a tensor."""
    if isinstance(x, Tensor):
        return x
    if isinstance(x, np.ndarray) and x.dtype.kind == "f":
        return torch.from_numpy(np.ascontiguousarray(x))
    raise MaskError(
        f"{name} must be a tensor of floats [batch, heads, length, head_dim], not {type(x).__name__}"
    )


def _call(q: Tensor, k: Tensor, q_offset: int) -> Domain:
    """The call that q and k belong to. MaskError where they do not go together."""
    for name, tensor in (("q", q), ("k", k)):
        if tensor.dim() != 4 or not tensor.is_floating_point():
            what = f"of {str(tensor.dtype).removeprefix('torch.')} and shape {tuple(tensor.shape)}"
            raise MaskError(f"{name} must be a tensor of floats [batch, heads, length, head_dim], not {what}")
    if q.shape[0] != k.shape[0] or q.shape[3] != k.shape[3]:
        raise MaskError(f"q {tuple(q.shape)} and k {tuple(k.shape)} differ in batch or head dimension")
    if not k.shape[1] or q.shape[1] % k.shape[1]:
        raise MaskError(f"{q.shape[1]} query heads are not a multiple of {k.shape[1]} key heads")
    if q.device != k.device or q.dtype != k.dtype:
        raise MaskError(f"q is {q.dtype} on {q.device}, and k {k.dtype} on {k.device}")
    q_len, kv_len = length("the number of queries", q.shape[2]), length("the number of keys", k.shape[2])
    return Domain(q_len, kv_len, offset(q_offset, q_len), q.shape[0], q.shape[1])


def _given(mask: Lowerable, root: Predicate, given: Mapping[str, object], q: Tensor) -> dict[str, Tensor]:
    """What is given by name, as tensors on the device of q. MaskError for names that are missing or unknown."""
    tables = _tables_of(mask, root)
    bound, wanted = dict(mask.tables), names_given(root)
    for name in given:
        if name not in wanted | tables or name in bound:
            hint = did_you_mean(name, sorted((wanted | tables) - bound.keys()))
            what = f"'{name}' is bound already" if name in bound else f"the mask reads no '{name}'"
            raise MaskError(what, hint=hint)
    missing = sorted((wanted | (tables - bound.keys())) - given.keys())
    if missing:
        raise MaskError(
            f"'{missing[0]}' is not given", hint=f"give it with q and k: choose(q, k, {missing[0]}=…)"
        )
    found: dict[str, Tensor] = {}
    for name, value in given.items():
        try:
            found[name] = torch.as_tensor(value, device=q.device)
            if found[name].is_complex():
                raise TypeError("complex numbers have no order")
        except (TypeError, ValueError, RuntimeError) as error:
            raise MaskError(
                f"the value given for '{name}' is not an array of numbers", hint=str(error)
            ) from None
    return found


def _tables_of(mask: Lowerable, root: Predicate) -> frozenset[str]:
    roots = (root,) if mask.score is None else (root, mask.score)
    return frozenset(table_names(*roots))


def _require_finite(named: Mapping[str, Tensor]) -> None:
    for name, tensor in named.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise MaskError(f"'{name}' holds NaN or infinity, and what is not a number cannot be ranked")


def _require_amounts(rule: Rule, named: Mapping[str, Tensor]) -> None:
    """Numbers that are given are whole and not negative, shares lie between 0 and 1."""
    if isinstance(rule, Clusters):
        return
    amount: Amount | Counted
    match rule.selector:
        case Top(Counted(inner)):
            _require_amounts(inner, named)
            return
        case Top(str(amount), "number"):
            given = named[amount].to(torch.float64)
            if bool(((given < 0) | (given != given.floor()) | (given > 2**31)).any()):
                raise MaskError(f"'{amount}' must hold whole numbers from 0")
        case Top(str(amount)) | TopP(str(amount)) | Above(str(amount), True):
            given = named[amount].to(torch.float64)
            if bool(((given < 0) | (given > 1)).any()):
                raise MaskError(f"'{amount}' must lie between 0 and 1")


def checked(choices: object) -> Choices:
    """MaskError where these are no choices."""
    if not isinstance(choices, Choices):
        raise MaskError(f"choices come from choose(q, k), and this is {type(choices).__name__}")
    return choices
