"""The calls that a question is about: all lengths, or given ones."""

from __future__ import annotations

from dataclasses import dataclass

from attnmask.errors import MaskError
from attnmask.ir.domain import ANYWHERE, Domain, length, whole


@dataclass(frozen=True, slots=True)
class Scope:
    """Lengths and counts of the calls in question; None stands for any. `square`: as many keys as queries.

    Positions are q_offset <= q < q_offset + q_len and 0 <= k < kv_len, as in a call.
    """

    q_len: int | None = None
    kv_len: int | None = None
    q_offset: int | None = 0
    batch: int | None = None
    heads: int | None = None
    square: bool = False
    limits: Domain = ANYWHERE

    @property
    def of_all_lengths(self) -> bool:
        return self.q_len is None and (self.kv_len is None or self.square)

    def holds(self, values: dict[str, int]) -> bool:
        """Whether a call with these sizes (Q, K, B, H, and O for the offset) is one of those in question."""
        given = (
            ("Q", self.q_len),
            ("K", self.kv_len),
            ("B", self.batch),
            ("H", self.heads),
            ("O", self.q_offset),
        )
        if any(asked is not None and values[name] != asked for name, asked in given):
            return False
        if self.square and values["Q"] != values["K"]:
            return False
        most = self.limits
        return (
            values["O"] + values["Q"] <= most.q_len
            and values["K"] <= most.kv_len
            and values["B"] <= most.batch
            and values["H"] <= most.heads
        )

    def __str__(self) -> str:
        parts = [
            f"{name} = {value}"
            for name, value in (
                ("q_len", self.q_len),
                ("kv_len", self.kv_len),
                ("batch", self.batch),
                ("heads", self.heads),
            )
            if value is not None
        ]
        if self.square and self.kv_len is None:
            parts.append("kv_len = q_len")
        if self.q_offset != 0:
            parts.append("any q_offset" if self.q_offset is None else f"q_offset = {self.q_offset}")
        return ", ".join(parts) or "every q_len and kv_len"


def scope(
    limits: Domain,
    *,
    q_len: int | None = None,
    kv_len: int | None = None,
    batch: int | None = None,
    heads: int | None = None,
    q_offset: int | None = 0,
    square: bool = False,
) -> Scope:
    """The scope that a user asks for. MaskError for lengths that make no sense or go past `limits`."""
    q_len, kv_len = _given("q_len", q_len), _given("kv_len", kv_len)
    batch, heads = _given("batch", batch), _given("heads", heads)
    q_offset = None if q_offset is None else whole("q_offset", q_offset)
    if square and q_len is not None and kv_len is not None and q_len != kv_len:
        raise MaskError(f"square means as many keys as queries, and {q_len} and {kv_len} are given")
    if square:
        q_len = kv_len = q_len if q_len is not None else kv_len
    Domain(q_len or 1, kv_len or 1, q_offset or 0, batch or 1, heads or 1).require_within(limits)
    return Scope(q_len, kv_len, q_offset, batch, heads, square, limits)


def _given(name: str, value: int | None) -> int | None:
    return None if value is None else length(name, value)
