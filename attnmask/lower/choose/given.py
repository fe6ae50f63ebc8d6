"""What the rules of a mask name and a caller gives with q and k: its names, its tensors, and whether they will do."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch

from attnmask.errors import MaskError, did_you_mean
from attnmask.ir.check import check
from attnmask.ir.choices import choices_of
from attnmask.ir.domain import Domain
from attnmask.ir.nodes import Predicate
from attnmask.ir.rule_names import names_given
from attnmask.ir.rules import (
    Above,
    Amount,
    Clusters,
    Counted,
    Rule,
    Spans,
    Top,
    TopP,
)
from attnmask.ir.tables import TableData, fit
from attnmask.ir.walk import table_names
from attnmask.lower.prepare import Lowerable

Tensor = torch.Tensor


def given_tensors(
    mask: Lowerable, root: Predicate, given: Mapping[str, object], q: Tensor
) -> dict[str, Tensor]:
    """What is given by name, as tensors on the device of q. MaskError for names that are missing or unknown."""
    tables = tables_of(mask, root)
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
            # Python's floats are float64, which torch alone would make float32 of.
            array = value if isinstance(value, Tensor) else np.asarray(value)
            found[name] = torch.as_tensor(array, device=q.device)
            if found[name].is_complex():
                raise TypeError("complex numbers have no order")
            if found[name].dtype == torch.uint64:
                raise TypeError("64 unsigned bits hold more than 64 signed ones: give int64")
        except (TypeError, ValueError, RuntimeError) as error:
            raise MaskError(
                f"the value given for '{name}' is not an array of numbers", hint=str(error)
            ) from None
    return found


def tables_of(mask: Lowerable, root: Predicate) -> frozenset[str]:
    roots = (root,) if mask.score is None else (root, mask.score)
    return frozenset(table_names(*roots))


def require_tables(mask: Lowerable, root: Predicate, named: Mapping[str, Tensor], domain: Domain) -> None:
    """MaskError where tables that came with q and k do not go with a call, as `check` tells. Waits for the device."""
    late = {name: _looked_at(tensor) for name, tensor in named.items() if name in tables_of(mask, root)}
    known = {**dict(mask.tables), **late}
    if late:
        fitting, places = fit(root, known, mask.origins)
        check(fitting, domain, known, {**mask.origins, **places})
    if late and mask.score is not None:
        score, places = fit(mask.score, known, mask.origins)
        check(score, domain, known, {**mask.origins, **places})


def _looked_at(tensor: Tensor) -> TableData:
    """A table for `check`: the values of integers, and of floats the shape alone."""
    if tensor.is_floating_point():
        return TableData(np.broadcast_to(np.zeros(()), tuple(tensor.shape)), "", (0, 0))
    if tensor.dtype == torch.bool:
        return TableData(tensor.detach().cpu().numpy(), "", (0, 1))
    values = tensor.detach().to(torch.int64).cpu().numpy()
    return TableData(values, "", (int(values.min()), int(values.max())) if values.size else (0, 0))


def require_given(root: Predicate, tensors: Mapping[str, Tensor]) -> None:
    """MaskError where what rules name holds numbers that they cannot choose by. Waits for the device."""
    _require_finite({name: tensors[name] for name in names_given(root)})
    for choice in choices_of(root):
        _require_amounts(choice.rule, tensors)


def _require_finite(named: Mapping[str, Tensor]) -> None:
    for name, tensor in named.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise MaskError(f"'{name}' holds NaN or infinity, and what is not a number cannot be ranked")


def _require_amounts(rule: Rule, named: Mapping[str, Tensor]) -> None:
    """Numbers that are given are whole and not negative, shares lie between 0 and 1."""
    if isinstance(rule, Clusters):
        return
    if isinstance(rule, Spans):
        for reach in (rule.back, rule.ahead):
            if isinstance(reach, str):
                _require_whole(reach, named)
        return
    amount: Amount | Counted
    match rule.selector:
        case Top(Counted(inner)):
            _require_amounts(inner, named)
            return
        case Top(str(amount), "number"):
            _require_whole(amount, named)
        case Top(str(amount)) | TopP(str(amount)) | Above(str(amount), True):
            given = named[amount].to(torch.float64)
            if bool(((given < 0) | (given > 1)).any()):
                raise MaskError(f"'{amount}' must lie between 0 and 1")


def _require_whole(name: str, named: Mapping[str, Tensor]) -> None:
    given = named[name].to(torch.float64)
    if bool(((given < 0) | (given != given.floor()) | (given > 2**31)).any()):
        raise MaskError(f"'{name}' must hold whole numbers from 0")
