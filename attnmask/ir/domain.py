"""The positions of a call: lengths, the query offset, batch rows and heads."""

from __future__ import annotations

import operator
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnmask.errors import MaskError
from attnmask.ir.nodes import BoolTable, Expr, RealTable, Table, Var
from attnmask.ir.tables import Origins, TableData, require_bound
from attnmask.ir.walk import postorder

Bounds = tuple[int, int]
LONGEST = 2**31 - 1
MOST_PLANES = 1 << 16


@dataclass(frozen=True, slots=True)
class Domain:
    """The positions of a call: lengths, the query offset, batch rows and heads."""

    q_len: int
    kv_len: int
    q_offset: int = 0
    batch: int = 1
    heads: int = 1

    def bounds(self, name: str) -> Bounds:
        """The least and the largest value of a variable."""
        match name:
            case "q":
                return self.q_offset, self.q_offset + self.q_len - 1
            case "k":
                return 0, self.kv_len - 1
            case "b":
                return 0, self.batch - 1
            case "h":
                return 0, self.heads - 1
            case _:
                value = {"Q": self.q_len, "K": self.kv_len, "B": self.batch, "H": self.heads}[name]
                return value, value

    def limits(self, used: Collection[str]) -> Domain:
        """What a mask made for this call is made for: with any batch rows and heads, where it uses neither.

        As limits, a domain stands for the queries from position q_offset to before position q_len.
        """
        batch = self.batch if {"b", "B"} & set(used) else MOST_PLANES
        heads = self.heads if {"h", "H"} & set(used) else MOST_PLANES
        return Domain(self.q_offset + self.q_len, self.kv_len, self.q_offset, batch, heads)

    def within(self, other: Domain) -> Domain:
        """The limits that hold where both hold. MaskError where no query is within both."""
        first, stop = max(self.q_offset, other.q_offset), min(self.q_len, other.q_len)
        if stop <= first:
            raise MaskError(
                f"one mask is made for queries below {stop} and the other for queries from {first}",
                hint="combine the masks that they were made from",
            )
        kv_len, batch, heads = (
            min(pair)
            for pair in ((self.kv_len, other.kv_len), (self.batch, other.batch), (self.heads, other.heads))
        )
        return Domain(stop, kv_len, first, batch, heads)

    def require_within(self, limits: Domain) -> None:
        """MaskError where the domain has positions, batch rows or heads that the mask is not made for."""
        first, last = self.bounds("q")
        for what, asked, allowed in (
            (f"queries from {limits.q_offset}", first, first >= limits.q_offset),
            (f"queries below {limits.q_len}", last, last < limits.q_len),
            (f"keys below {limits.kv_len}", self.kv_len - 1, self.kv_len <= limits.kv_len),
        ):
            if not allowed:
                raise MaskError(
                    f"the mask is made for {what}, and position {asked} is asked for",
                    hint="make it for this call: simplify(q_len=…), interval_form(q_len, …), or lift without floats",
                )
        for what, asked, most in (
            ("batch rows", self.batch, limits.batch),
            ("heads", self.heads, limits.heads),
        ):
            if asked > most:
                raise MaskError(
                    f"the mask is made for {most} {what} and {asked} are asked for",
                    hint="make it for as many as there are",
                )

    def arrays(self, names: Collection[str] = "bhqk") -> dict[str, NDArray[np.int64]]:
        """The values of these positions, shaped to broadcast to [B, H, Q, K], and the sizes."""
        arrays = {}
        for axis, name in enumerate("bhqk"):
            if name not in names:
                continue
            low, high = self.bounds(name)
            shape = tuple(-1 if axis == other else 1 for other in range(4))
            arrays[name] = np.arange(low, high + 1, dtype=np.int64).reshape(shape)
        for name in "QKBH":
            arrays[name] = np.asarray(self.bounds(name)[0])
        return arrays


# Every position, batch row and head that a call may have.
ANYWHERE = Domain(LONGEST, LONGEST, 0, MOST_PLANES, MOST_PLANES)


def call_domain(
    roots: tuple[Expr, ...],
    tables: Mapping[str, TableData],
    origins: Origins,
    q_len: int,
    kv_len: int | None,
    batch: int | None,
    heads: int | None,
    q_offset: int,
) -> Domain:
    """The domain of a call, complete: what is not given is taken from the tables where they determine it.

    MaskError when a length is not positive, a table is unbound, or the mask depends on a number of heads or
    batch rows that nobody gives.
    """
    q_len = length("q_len", q_len)
    kv_len = q_len if kv_len is None else length("kv_len", kv_len)
    q_offset = offset(q_offset, q_len)
    for root in roots:
        require_bound(root, tables, origins)
    for keyword, count in (("batch", batch), ("heads", heads)):
        if count is not None and length(keyword, count) > MOST_PLANES:
            raise MaskError(f"{keyword} must be at most {MOST_PLANES}, not {count}")
    nodes = [node for root in roots for node in postorder(root)]
    return Domain(
        q_len,
        kv_len,
        q_offset,
        _extent("b", "B", batch, nodes, tables, origins),
        _extent("h", "H", heads, nodes, tables, origins),
    )


def length(name: str, value: Any) -> int:
    """`value` as a positive length; MaskError otherwise."""
    try:
        number = operator.index(value)
    except TypeError:
        raise MaskError(f"{name} must be an integer, not {value!r}", hint="write a whole number") from None
    if isinstance(value, bool) or not 1 <= number <= LONGEST:
        raise MaskError(
            f"{name} must be at least 1 and below 2**31, not {value!r}",
            hint="lengths and sizes are counted from 1",
        )
    return number


def whole(name: str, value: Any, *, least: int = 0) -> int:
    """`value`, of whatever integer type, as Python's own integer from `least`; MaskError otherwise.

    Only of its own integers Python tells at once whether they lie in a range.
    """
    try:
        number = operator.index(value)
    except TypeError:
        number = least - 1
    if isinstance(value, bool) or number < least:
        raise MaskError(f"{name} must be an integer from {least}, not {value!r}")
    return number


def offset(q_offset: Any, q_len: int) -> int:
    """`q_offset` as the position of the first of so many queries; MaskError otherwise."""
    first = whole("q_offset", q_offset)
    if first > LONGEST - q_len:
        raise MaskError(f"q_offset must be an integer from 0, with all positions below 2**31, not {first}")
    return first


def _extent(
    position: str,
    size: str,
    given: int | None,
    nodes: list[Expr],
    tables: Mapping[str, TableData],
    origins: Origins,
) -> int:
    """The number of batch rows (or heads): as given, else that of the tables indexed by `b` (or `h`)."""
    what, keyword = ("batch rows", "batch") if position == "b" else ("heads", "heads")
    if given is not None:
        return length(keyword, given)
    sizes = {
        tables[node.name].array.shape[axis]
        for node in nodes
        if isinstance(node, Table | BoolTable | RealTable)
        for axis, item in enumerate(node.indices)
        if isinstance(item, Var) and item.name == position
    }
    if len(sizes) == 1:
        return int(sizes.pop())
    needed = next((node for node in nodes if isinstance(node, Var) and node.name in (position, size)), None)
    if needed is not None:
        raise MaskError(
            f"the mask depends on the {what} and their number is not known",
            hint=f"give it: {keyword}=… (--{'batch' if position == 'b' else 'heads'} on the command line)",
            place=origins.get(needed),
        )
    return 1
