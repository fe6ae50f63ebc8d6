"""The masks that are measured, by name, for any length."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

import attnmask as am

LONGEST = 1 << 20
# 1000 documents over 1 048 576 tokens, and as long on average at other lengths.
DOCUMENTS = 1000


@dataclass(frozen=True, slots=True)
class Case:
    """A mask as text; `documents` says that it needs the table `doc`."""

    text: str
    documents: bool = False

    def mask(self, length: int) -> am.Mask:
        if self.documents:
            return am.compile(self.text, doc=documents(length))
        return am.compile(self.text)


CASES = {
    "window_sink": Case("causal & (window(512) | sink(4))"),
    "causal": Case("causal"),
    "documents": Case("same(doc)", documents=True),
    "causal_documents": Case("causal & same(doc)", documents=True),
}


def documents(length: int, count: int | None = None) -> NDArray[np.int64]:
    """The document of each token: `count` documents of random lengths, in order, always the same ones."""
    count = max(1, DOCUMENTS * length // LONGEST) if count is None else count
    starts = np.random.default_rng(0).choice(np.arange(1, length), size=count - 1, replace=False)
    return np.searchsorted(np.sort(starts), np.arange(length), side="right")
