"""Verdict: the answer to a question about masks, with its proof's extent or a counterexample."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Status = Literal["proved for all lengths", "proved for these lengths", "refuted", "unknown"]


@dataclass(frozen=True, slots=True)
class Counterexample:
    """A call and a pair in it for which the claim is false; `q` or `k` is None where a whole row or column is meant.

    `truths` are the values of the masks asked about, in order, at the pair; False for an empty row or column.
    `tables` are values for tables that the masks leave open.
    """

    q_len: int
    kv_len: int
    q_offset: int
    batch: int
    heads: int
    b: int
    h: int
    q: int | None
    k: int | None
    truths: tuple[bool, ...]
    tables: Mapping[str, NDArray[Any]] = field(default_factory=dict, compare=False)

    def to_dict(self) -> dict[str, Any]:
        """The fields, tables as lists."""
        names = ("q_len", "kv_len", "q_offset", "batch", "heads", "b", "h", "q", "k")
        return {
            **{name: getattr(self, name) for name in names},
            "truths": list(self.truths),
            "tables": {name: np.asarray(table).tolist() for name, table in self.tables.items()},
        }

    def __str__(self) -> str:
        call = [f"q_len = {self.q_len}", f"kv_len = {self.kv_len}"]
        call += [f"q_offset = {self.q_offset}"] * (self.q_offset != 0)
        call += [f"batch = {self.batch}"] * (self.batch != 1) + [f"heads = {self.heads}"] * (self.heads != 1)
        place = [f"b = {self.b}"] * (self.batch != 1) + [f"h = {self.h}"] * (self.heads != 1)
        place += [f"q = {self.q}"] * (self.q is not None) + [f"k = {self.k}"] * (self.k is not None)
        given = [f"{name} = {_short(table)}" for name, table in self.tables.items()]
        return f"{', '.join(call)}: {', '.join(place)}" + (f"; with {', '.join(given)}" if given else "")


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer to `claim`. Its truth value is True only when the claim is proved.

    `scope` says for which calls; `reason` why the answer is unknown, or what a counterexample shows.
    """

    claim: str
    status: Status
    scope: str
    counterexample: Counterexample | None = None
    reason: str = ""

    def __bool__(self) -> bool:
        return self.status.startswith("proved")

    def to_dict(self) -> dict[str, Any]:
        """The fields in terms of JSON."""
        found = self.counterexample
        return {
            "claim": self.claim,
            "status": self.status,
            "scope": self.scope,
            "counterexample": None if found is None else found.to_dict(),
            "reason": self.reason,
        }

    def __str__(self) -> str:
        text = f"{self.claim}: {self.status}"
        if self:
            return f"{text} ({self.scope})"
        if self.counterexample is not None:
            text += f" by {self.counterexample}"
        return f"{text} ({self.reason})" if self.reason else text


def _short(table: NDArray[Any]) -> str:
    text = np.array2string(table, threshold=16, edgeitems=6, separator=", ", max_line_width=10_000)
    return text.replace("\n", "")
