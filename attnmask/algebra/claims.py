"""Claims about masks: what would contradict each, as a predicate over pairs or as rows without keys."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from attnmask.ir import index
from attnmask.ir.nodes import Expr, Predicate
from attnmask.ir.predicate import and_, compare, not_, xor
from attnmask.ir.walk import substitute

Q, K = index.var("q"), index.var("k")
Q_LEN, KV_LEN = index.var("Q"), index.var("K")


@dataclass(frozen=True, slots=True)
class Claim:
    """No pair (b, h, q, k) makes `contradiction` true. `masks` are those whose truth a counterexample tells.

    It is about the calls that `calls` do not refuse.
    """

    text: str
    masks: tuple[Predicate, ...]
    contradiction: Predicate
    calls: tuple[Predicate, ...]

    @property
    def roots(self) -> tuple[Predicate, ...]:
        """Everything that is evaluated when the claim is tried."""
        return tuple(dict.fromkeys((*self.masks, *self.calls, self.contradiction)))


@dataclass(frozen=True, slots=True)
class NoneEmpty:
    """Every query has a key (`along` k), or every key a query (`along` q)."""

    text: str
    mask: Predicate
    along: Literal["k", "q"]

    @property
    def masks(self) -> tuple[Predicate, ...]:
        return (self.mask,)

    @property
    def calls(self) -> tuple[Predicate, ...]:
        return self.masks

    @property
    def roots(self) -> tuple[Predicate, ...]:
        return self.masks


Question = Claim | NoneEmpty


def causal(mask: Predicate) -> Claim:
    """No query sees a later key."""
    return Claim("causal", (mask,), and_(mask, compare(Q, "<", K)), (mask,))


def strictly_causal(mask: Predicate) -> Claim:
    """Every key is earlier than its query."""
    return Claim("strictly causal", (mask,), and_(mask, compare(Q, "<=", K)), (mask,))


def banded(mask: Predicate, width: int) -> Claim:
    """No query sees a key further away than `width` positions."""
    far = compare(index.const(width), "<", index.absolute(index.sub(Q, K)))
    return Claim(f"banded within {width}", (mask,), and_(mask, far), (mask,))


def within(mask: Predicate, same: Predicate, name: str) -> Claim:
    """No query sees a key of another document; `same` says which pairs are of one."""
    return Claim(f"within documents {name}", (mask,), and_(mask, not_(same)), (mask, same))


def symmetric(mask: Predicate, q_offset: int) -> Claim:
    """Where query and key may change places, they see each other or neither does."""
    swapped = substitute(mask, dict[Expr, Expr]({Q: K, K: Q}))
    first = index.const(q_offset)
    both_ways = (compare(Q, "<", KV_LEN), compare(first, "<=", K), compare(K, "<", index.add(Q_LEN, first)))
    # The mask with its places changed is asked only where it is asked the other way too.
    return Claim("symmetric", (mask, swapped), and_(*both_ways, xor(mask, swapped)), (mask,))


def implied(mask: Predicate, other: Predicate) -> Claim:
    """What the first mask attends, the second does."""
    return Claim("contained", (mask, other), and_(mask, not_(other)), (mask, other))


def equal(mask: Predicate, other: Predicate) -> Claim:
    """Both masks attend the same pairs."""
    return Claim("equal", (mask, other), xor(mask, other), (mask, other))


def disjoint(mask: Predicate, other: Predicate) -> Claim:
    """No pair is attended by both masks."""
    return Claim("disjoint", (mask, other), and_(mask, other), (mask, other))


def no_empty_rows(mask: Predicate) -> NoneEmpty:
    return NoneEmpty("no empty rows", mask, "k")


def no_empty_columns(mask: Predicate) -> NoneEmpty:
    return NoneEmpty("no empty columns", mask, "q")
