"""What a choice is made from: queries, keys, the positions of the call, and the arrays that rules name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnmask.errors import MaskError
from attnmask.ir.domain import Domain

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Call:
    """q [B, Hq, Q, D] and k [B, Hkv, K, D] in float64; query head h uses key head h // (Hq // Hkv)."""

    q: Floats
    k: Floats
    domain: Domain
    tables: Mapping[str, NDArray[Any]]
    given: Mapping[str, NDArray[Any]]

    @property
    def kv_heads(self) -> int:
        return int(self.k.shape[1])

    @property
    def q_positions(self) -> NDArray[np.int64]:
        return self.domain.q_offset + np.arange(self.domain.q_len)

    @property
    def k_positions(self) -> NDArray[np.int64]:
        return np.arange(self.domain.kv_len)

    def named(self, name: str) -> Floats:
        """The array that is given by this name. MaskError where there is none, or it holds NaN or infinity."""
        if name not in self.given:
            raise MaskError(f"'{name}' is not given", hint=f"give it when the choice is made: {name}=…")
        return finite(f"'{name}'", self.given[name])


def call_of(
    q: NDArray[Any],
    k: NDArray[Any],
    domain: Domain,
    tables: Mapping[str, NDArray[Any]],
    given: Mapping[str, NDArray[Any]],
) -> Call:
    """The call, once q and k are found to be finite and to fit the domain and each other. MaskError otherwise."""
    call = Call(finite("q", q), finite("k", k), domain, tables, given)
    if call.q.shape[:-1] != (domain.batch, domain.heads, domain.q_len):
        raise MaskError(f"q has the shape {call.q.shape}, which does not fit the call")
    if (
        call.k.ndim != 4
        or call.k.shape[::2] != (domain.batch, domain.kv_len)
        or call.k.shape[3] != q.shape[3]
    ):
        raise MaskError(f"k has the shape {call.k.shape}, which does not fit the call")
    if domain.heads % call.kv_heads:
        raise MaskError(f"{domain.heads} query heads cannot share {call.kv_heads} key heads evenly")
    return call


def finite(what: str, array: NDArray[Any]) -> Floats:
    """The array in float64. MaskError where it holds NaN or infinity."""
    found = np.asarray(array, np.float64)
    if not np.isfinite(found).all():
        raise MaskError(f"{what} holds numbers that are not finite, and nothing can be chosen by them")
    return found
