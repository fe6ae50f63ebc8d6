"""A cache that forgets the least recently used results once all together take too many bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from threading import Lock
from typing import Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class ByteCache(Generic[K, V]):
    """Calls `build` for a key that it has not seen, or has forgotten; the newest result is always kept."""

    def __init__(self, build: Callable[[K], V], size: Callable[[V], int], limit: int) -> None:
        self.build = build
        self.size = size
        self.limit = limit
        self.kept: OrderedDict[K, V] = OrderedDict()
        self.nbytes = 0
        self.lock = Lock()

    def __call__(self, key: K) -> V:
        with self.lock:
            if key in self.kept:
                self.kept.move_to_end(key)
                return self.kept[key]
        value = self.build(key)
        with self.lock:
            # Another thread may have built the same in the meantime; one of the two is kept.
            if key not in self.kept:
                self.kept[key] = value
                self.nbytes += self.size(value)
            while self.nbytes > self.limit and len(self.kept) > 1:
                _, oldest = self.kept.popitem(last=False)
                self.nbytes -= self.size(oldest)
            return self.kept[key]

    def cache_clear(self) -> None:
        with self.lock:
            self.kept.clear()
            self.nbytes = 0
