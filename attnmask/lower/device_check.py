"""What can be told of a mask whose tables stay on their device: their shapes and types, and no value."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import numpy as np
import torch

from attnmask.errors import MaskError
from attnmask.ir import index
from attnmask.ir.check import check, fits_int32
from attnmask.ir.domain import Domain
from attnmask.ir.nodes import BoolTable, Compare, Expr, FloorDiv, Mod, Predicate, Table
from attnmask.ir.tables import TableData, fit, require_bound
from attnmask.ir.walk import children, postorder, table_names

Shapes = tuple[tuple[str, tuple[int, ...], np.dtype[np.generic]], ...]


def shapes(tables: Mapping[str, torch.Tensor], device: torch.device) -> Shapes:
    """Name, shape and kind of each table, sorted. MaskError for a table that is on another device."""
    for name, table in tables.items():
        if table.device != device:
            raise MaskError(
                f"the table '{name}' is on {table.device} and the block mask on {device}",
                hint=f"{name}.to('{device}') moves it",
            )
        if table.requires_grad:
            raise MaskError(
                f"the table '{name}' requires gradients, and tables are constants",
                hint=f"give {name}.detach()",
            )
    return tuple((name, tuple(tables[name].shape), _kind(tables[name].dtype)) for name in sorted(tables))


def _kind(dtype: torch.dtype) -> np.dtype[np.generic]:
    if dtype == torch.bool:
        return np.dtype(np.bool_)
    return np.dtype(np.float64 if dtype.is_floating_point or dtype.is_complex else np.int64)


@lru_cache(maxsize=256)
def fitted(root: Predicate, shapes: Shapes) -> Predicate:
    """`root` with its cells made to fit the tables; numbers stay names. MaskError where tables do not fit."""
    known = {name: _stand_in(shape, kind) for name, shape, kind in shapes}
    require_bound(root, known, {})
    for name, data in known.items():
        if not data.array.size:
            raise MaskError(f"the table '{name}' is empty")
    for node in postorder(root):
        if isinstance(node, Table | BoolTable) and not known[node.name].array.ndim:
            _require_number(node, known[node.name].array.dtype)
    return fit(root, {name: data for name, data in known.items() if data.array.ndim}, {})[0]


def _require_number(node: Table | BoolTable, dtype: np.dtype[np.generic]) -> None:
    if node.indices:
        raise MaskError(f"'{node.name}' is used with indices, and its table is a single number")
    if isinstance(node, Table) and dtype.kind != "i":
        raise MaskError(f"'{node.name}' must be an integer, not {dtype}")
    if isinstance(node, BoolTable) and dtype.kind != "b":
        raise MaskError(f"'{node.name}' must be a truth value, not {dtype}")


def _stand_in(shape: tuple[int, ...], kind: np.dtype[np.generic]) -> TableData:
    """A table of zeros that takes no memory, of which only shape and type mean anything."""
    return TableData(np.broadcast_to(np.zeros((), kind), shape), digest="", bounds=(0, 0))


@lru_cache(maxsize=256)
def check_shapes(root: Predicate, shapes: Shapes, domain: Domain) -> None:
    """MaskError where positions alone show that evaluating a fitted `root` over the domain goes wrong.

    What depends on the values of tables is not looked at: indices that come from them, divisors, overflow.
    """
    sizes = {name: shape for name, shape, _ in shapes}
    tabled = {node for node in postorder(root) if table_names(node)}
    for part in (root, *(child for node in tabled for child in children(node))):
        if part not in tabled:
            check(part, domain, {}, {})
    for node in tabled:
        match node:
            case Table(name, indices) | BoolTable(name, indices):
                for item, size in zip(indices, sizes[name], strict=True):
                    if item not in tabled:
                        along = {name: _stand_in((size,), np.dtype(np.int64))}
                        check(index.table(name, (item,)), domain, along, {})
            case FloorDiv(_, divisor) | Mod(_, divisor) if divisor not in tabled:
                check(index.mod(index.const(0), divisor), domain, {}, {})


def fits_narrow(root: Predicate, padded: Domain) -> bool:
    """Whether int32 holds every integer of a mask, and every difference of compared sides, over the domain.

    Nothing is known of the values of tables, so never with these.
    """
    if table_names(root):
        return False
    differences = [index.sub(node.lhs, node.rhs) for node in postorder(root) if isinstance(node, Compare)]
    parts: list[Expr] = [root, *differences]
    return all(fits_int32(part, padded, {}) for part in parts)
