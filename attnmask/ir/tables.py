"""Tables: the arrays that names of a mask are bound to, and how nodes come to fit them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from attnmask.errors import MaskError, Place, did_you_mean
from attnmask.ir import index, predicate, score
from attnmask.ir.nodes import BoolTable, Choice, Const, Expr, RealTable, Table
from attnmask.ir.walk import E, children, postorder, rebuild, transform

Origins = Mapping[Expr, Place]


@dataclass(frozen=True, slots=True, eq=False)
class TableData:
    """A read-only copy of an array. Equal content is equal, so masks over equal tables are equal."""

    array: NDArray[Any]
    digest: str = field(repr=False)
    bounds: tuple[int, int] = field(repr=False)  # of the entries; (0, 0) where these are none, or floats

    def __eq__(self, other: object) -> bool:
        return isinstance(other, TableData) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)


def table_data(name: str, value: object) -> TableData:
    """The copy that a mask keeps of `value`: a number, a sequence, or a numpy or torch array."""
    if getattr(value, "requires_grad", False):
        raise MaskError(
            f"the table '{name}' requires gradients, and tables are constants",
            hint=f"bind {name}.detach(), or learn a bias in a score_mod of your own",
        )
    try:
        array = _as_numpy(value)
    except Exception as error:  # whatever the object does when it is asked for its numbers
        raise MaskError(
            f"the value given for '{name}' is not an array of numbers", hint=f"numpy says: {error}"
        ) from None
    if array.dtype.kind not in "biuf":
        raise MaskError(
            f"the table '{name}' holds {array.dtype} values",
            hint="tables hold integers, booleans, or floats in scores",
        )
    if array.dtype.kind == "u" and array.size and int(array.max()) > 2**63 - 1:
        raise MaskError(f"the table '{name}' holds a number that does not fit into 64 signed bits")
    dtype = {"b": np.bool_, "f": np.float64}.get(array.dtype.kind, np.int64)
    kept: NDArray[Any] = np.array(array, dtype=dtype, order="C")
    kept.setflags(write=False)
    head = f"{kept.dtype}{kept.shape}".encode()
    digest = hashlib.blake2b(head, digest_size=16)
    digest.update(kept.data)
    bounds = (int(kept.min()), int(kept.max())) if kept.size and dtype is not np.float64 else (0, 0)
    return TableData(kept, digest.hexdigest(), bounds)


def _as_numpy(value: Any) -> NDArray[Any]:
    if hasattr(value, "detach"):  # a torch tensor, recognised without importing torch
        value = value.detach().cpu()
        value = (value.float() if value.is_floating_point() else value).numpy()
    array = np.array(value)
    return array if array.size or hasattr(value, "dtype") else array.astype(np.int64)


def fit(root: E, tables: Mapping[str, TableData], origins: Origins) -> tuple[E, dict[Expr, Place]]:
    """`root` with the cells of bound tables made to fit them, and where the changed cells stand.

    A number takes the place of its name; a table with one dimension more than its indices is taken per batch
    row. MaskError where a table has another number of dimensions or another type than its use needs.
    """
    places: dict[Expr, Place] = {}
    done: dict[Expr, Expr] = {}
    for node in postorder(root):
        try:
            changed = rebuild(node, [done[child] for child in children(node)])
            if isinstance(changed, Table | BoolTable | RealTable) and changed.name in tables:
                changed = _fit_cell(changed, tables[changed.name].array)
        except MaskError as error:
            raise MaskError(error.message, hint=error.hint, place=_place_of(node, origins)) from None
        if changed is not node and node in origins:
            places.setdefault(changed, origins[node])
        done[node] = changed
    return cast(E, done[root]), places


def _place_of(node: Expr, origins: Origins) -> Place | None:
    """Where an expression stands, or a part of it: nodes that came about by rewriting have no place."""
    return next((origins[part] for part in reversed(postorder(node)) if part in origins), None)


def _fit_cell(node: Table | BoolTable | RealTable, array: NDArray[Any]) -> Expr:
    _check_type(node, array)
    indices = node.indices
    if array.ndim == len(indices) + 1 and indices:
        indices = (index.var("b"), *indices)
    if array.ndim != len(indices):
        raise MaskError(
            f"'{node.name}' is used with {_count(len(node.indices), 'index', 'indices')} and its table has "
            f"{_count(array.ndim, 'dimension', 'dimensions')}",
            hint=None
            if node.indices
            else f"write {node.name}[q] or {node.name}[k]; in a token function {node.name}[i]",
        )
    match node:
        case Table() if not indices:
            return index.const(int(array[()]))
        case Table(name) if array.dtype.kind == "b":
            return predicate.where(predicate.bool_table(name, indices), index.const(1), index.const(0))
        case Table(name):
            return index.table(name, indices)
        case RealTable() if not indices:
            return score.real(float(array[()]))
        case RealTable(name) if array.dtype.kind == "b":
            return score.score_where(predicate.bool_table(name, indices), score.real(1), score.real(0))
        case RealTable(name):
            return score.real_table(name, indices)
        case BoolTable() if not indices:
            return predicate.truth(bool(array[()]))
        case BoolTable(name):
            return predicate.bool_table(name, indices)


def _check_type(node: Table | BoolTable | RealTable, array: NDArray[Any]) -> None:
    if isinstance(node, Table) and not node.indices and not array.ndim and array.dtype.kind != "i":
        raise MaskError(f"'{node.name}' must be an integer, not {array[()]}", hint="write a whole number")
    if isinstance(node, Table) and array.dtype.kind == "f":
        raise MaskError(
            f"the table '{node.name}' holds floats, and integers are needed here",
            hint="floats have a meaning in scores only, after 'with'",
        )
    if isinstance(node, BoolTable) and array.dtype.kind != "b":
        raise MaskError(
            f"the table '{node.name}' holds {array.dtype} values, and truth values are needed here",
            hint=f"compare it, as in {node.name}[…] != 0, or bind a table of booleans",
        )


def _count(number: int, one: str, many: str) -> str:
    return f"{number or 'no'} {one if number == 1 else many}"


def fold_constants(root: E, tables: Mapping[str, TableData]) -> E:
    """`root` with entries whose indices are all constant replaced by their values."""

    def change(node: Expr) -> Expr:
        if not isinstance(node, Table | BoolTable | RealTable) or node.name not in tables:
            return node
        at = tuple(item.value for item in node.indices if isinstance(item, Const))
        if not at or len(at) != len(node.indices):
            return node
        entry = tables[node.name].array[at]
        match node:
            case Table():
                return index.const(int(entry))
            case BoolTable():
                return predicate.truth(bool(entry))
            case RealTable():
                return score.real(float(entry))

    return transform(root, change)


def require_chosen(root: Expr, origins: Origins) -> None:
    """MaskError when the expression chooses from q and k, which are not there."""
    for node in postorder(root):
        if isinstance(node, Choice):
            raise MaskError(
                "the mask chooses from q and k, and here are none",
                hint="choose first: choices = mask.choose(q, k); mask.freeze(choices) is a static mask "
                "(attnmask choose EXPR Q.npy K.npy on the command line)",
                place=origins.get(node),
            )


def require_bound(root: Expr, tables: Mapping[str, TableData], origins: Origins) -> None:
    """MaskError when a table or a setting of `root` has no value yet, or it chooses from q and k."""
    require_chosen(root, origins)
    for node in postorder(root):
        if isinstance(node, Table | BoolTable | RealTable) and node.name not in tables:
            what = f"the table '{node.name}' is" if node.indices else f"'{node.name}' is"
            known = [*tables, "q", "k", "h", "b"]
            close = did_you_mean(node.name, known)
            option = f"--table {node.name}=FILE" if node.indices else f"--set {node.name}=NUMBER"
            hint = f"give it a value: compile(…, {node.name}=…), bind({node.name}=…) or {option}"
            raise MaskError(f"{what} not bound", hint=close or hint, place=origins.get(node))
