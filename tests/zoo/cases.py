"""A published mask with arguments and lengths, beside what plain Python makes of the catalogue's predicate."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from attnmask import Mask, zoo


@dataclass(frozen=True, slots=True)
class Lengths:
    q_len: int
    kv_len: int
    q_offset: int = 0


@dataclass(frozen=True, slots=True)
class At:
    """What a reference may ask of the call: all keys, all heads, the head, the batch row."""

    n_keys: int
    heads: int
    h: int
    b: int


# For one head and batch row: whether query q sees key k.
Sees = Callable[[int, int], bool]
# Reads the arguments once and answers for pairs.
Reference = Callable[..., Sees]

ONE_AXIS = (
    *(Lengths(n, n) for n in (1, 2, 7, 16, 33, 64)),
    Lengths(1, 29, 28),  # decoding
    Lengths(5, 29, 24),  # the end of a prefill
    Lengths(9, 20, 4),  # queries in the middle
    Lengths(20, 9),  # more queries than keys
)
SQUARE = tuple(Lengths(n, n) for n in (1, 2, 7, 16, 33, 64))


@dataclass(frozen=True)
class Case:
    """`given` goes to the zoo; the reference gets the same, with `plain` in place of what is text or a table."""

    name: str
    reference: Reference
    given: Mapping[str, Any] = field(default_factory=dict)
    plain: Mapping[str, Any] = field(default_factory=dict)
    tables: Mapping[str, Any] = field(default_factory=dict)
    lengths: tuple[Lengths, ...] = ONE_AXIS
    heads: int = 1
    batch: int = 1

    def __str__(self) -> str:
        shown = ",".join(f"{name}={str(value)[:20]}" for name, value in self.given.items())
        return f"{self.name}({shown})"

    def mask(self) -> Mask:
        made: Mask = getattr(zoo, self.name)(**self.given)
        return made.bind(**self.tables)

    def dense(self, lengths: Lengths) -> NDArray[np.bool_]:
        """What attnmask says: bool [batch, heads, q_len, kv_len]."""
        return self.mask().dense(
            lengths.q_len, lengths.kv_len, batch=self.batch, heads=self.heads, q_offset=lengths.q_offset
        )

    def expected(self, lengths: Lengths) -> NDArray[np.bool_]:
        """The same, pair by pair in plain loops."""
        rows = range(lengths.q_offset, lengths.q_offset + lengths.q_len)
        arguments = {**self.given, **self.plain}
        planes = []
        for b in range(self.batch):
            for h in range(self.heads):
                sees = self.reference(At(lengths.kv_len, self.heads, h, b), **arguments)
                planes.append([[bool(sees(q, k)) for k in range(lengths.kv_len)] for q in rows])
        return np.array(planes).reshape(self.batch, self.heads, lengths.q_len, lengths.kv_len)


def over(name: str, reference: Reference, *given: Mapping[str, Any], **more: Any) -> Iterator[Case]:
    """A case for each set of arguments."""
    yield from (Case(name, reference, each, **more) for each in given)
