"""What references of systems that choose from q and k need: a batch row of a call, and plain arithmetic."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Vector = Sequence[float]
Sets = list[list[list[bool]]]


@dataclass(frozen=True, slots=True)
class Row:
    """One batch row: q [heads, queries, D], k [key heads, keys, D], the first query's position, what is given."""

    q: Sequence[Sequence[Vector]]
    k: Sequence[Sequence[Vector]]
    first: int
    given: Mapping[str, Any]

    @property
    def heads(self) -> int:
        return len(self.q)

    @property
    def group(self) -> int:
        return len(self.q) // len(self.k)

    @property
    def n_keys(self) -> int:
        return len(self.k[0])

    @property
    def positions(self) -> range:
        """Those of the queries."""
        return range(self.first, self.first + len(self.q[0]))

    def query(self, h: int, p: int) -> Vector:
        return self.q[h][p - self.first]

    def key(self, h: int, j: int) -> Vector:
        """The key that query head `h` sees at `j`."""
        return self.k[h // self.group][j]

    def logit(self, h: int, p: int, j: int) -> float:
        return dot(self.query(h, p), self.key(h, j)) / math.sqrt(len(self.key(h, j)))

    def weights(self, h: int, p: int) -> list[float]:
        """Causal attention of one query; zeros for later keys."""
        return softmax([self.logit(h, p, j) if j <= p else -math.inf for j in range(self.n_keys)])

    def groups(self) -> list[list[int]]:
        """The query heads of each key head."""
        return [list(range(first, first + self.group)) for first in range(0, self.heads, self.group)]

    def sets(self, sees: Callable[[int, int, int], bool]) -> Sets:
        """`sees` (head, position, key) for all of them."""
        keys = range(self.n_keys)
        return [[[sees(h, p, j) for j in keys] for p in self.positions] for h in range(self.heads)]


def dot(a: Vector, b: Vector) -> float:
    return sum(x * y for x, y in zip(a, b, strict=True))


def mean(vectors: Iterable[Vector]) -> list[float]:
    rows = list(vectors)
    return [sum(channel) / len(rows) for channel in zip(*rows, strict=True)]


def softmax(logits: Sequence[float]) -> list[float]:
    highest = max(logits)
    found = [math.exp(x - highest) for x in logits]
    return [x / sum(found) for x in found]


def best(scores: Mapping[Any, float], n: int) -> set[Any]:
    """The `n` with the largest scores; of equal ones the lower."""
    return set(sorted(scores, key=lambda unit: (-scores[unit], unit))[: max(n, 0)])


def units(positions: Iterable[int], size: int) -> dict[int, list[int]]:
    """The positions of each unit of `size`."""
    found: dict[int, list[int]] = {}
    for p in positions:
        found.setdefault(p // size, []).append(p)
    return found
