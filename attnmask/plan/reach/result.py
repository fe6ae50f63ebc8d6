"""Reach: what every position has seen after some layers; prints as a table."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from attnmask.errors import MaskError
from attnmask.ir.domain import whole
from attnmask.ir.text import one_line
from attnmask.plan.reach.blocks import Blocks
from attnmask.plan.reach.formula import Formula, least
from attnmask.plan.reach.search import Search
from attnmask.plan.reach.translated import Translated
from attnmask.tiles.grid import Ints

if TYPE_CHECKING:
    from rich.table import Table

_WIDEST_MASK = 60
_MOST_MASKS = 4
_MOST_RUNS = 4

Method = Literal["formula", "tokens", "blocks"]


@dataclass(frozen=True, slots=True)
class Seen:
    """The positions that one position has seen, as ranges that ascend and do not touch.

    Where they are not exact, it has seen no others.
    """

    position: int
    of: int
    exact: bool
    runs: tuple[range, ...]

    @property
    def count(self) -> int:
        return sum(len(run) for run in self.runs)

    def __contains__(self, position: object) -> bool:
        return any(position in run for run in self.runs)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON; runs are [first, last]."""
        return {
            "position": self.position,
            "count": self.count,
            "exact": self.exact,
            "runs": [[run[0], run[-1]] for run in self.runs],
        }

    def __str__(self) -> str:
        shown = [_run(run) for run in self.runs]
        if len(shown) > _MOST_RUNS:
            shown = [*shown[: _MOST_RUNS - 1], "…", shown[-1]]
        most = "" if self.exact else "at most "
        return f"{most}{self.count:,} of {self.of:,}: {', '.join(shown)}"


@dataclass(frozen=True, slots=True, eq=False)
class Reach:
    """What each position has seen after `layers` layers, or after any number of them where that is None.

    `masks` are the texts of the layers, the first one nearest the input; they repeat in order. `head` is None
    where information flows through all heads.

    `exact` says whether figures are exact for every token: by a formula, or token by token. Otherwise they are
    upper bounds: all of a block counts as seen as soon as one of its tokens may have been, by a token of the other
    block. What `seen` tells of one position may be exact all the same, and says so.
    """

    masks: tuple[str, ...]
    q_len: int
    layers: int | None
    block: int
    batch_row: int
    head: int | None
    method: Method
    found: Translated | Blocks
    source: Formula | Search | None

    @property
    def exact(self) -> bool:
        return self.method != "blocks"

    def seen(self, q: int) -> Seen:
        """What position q has seen, itself included."""
        q = place("q", q, self.q_len)
        if self.source is None:
            return _seen(q, self.found.seen(q), exact=False)
        return _seen(q, self.source.seen(q, self._depth), exact=True)

    def settles_after(self, q: int) -> int | None:
        """After how many layers position q has seen all that it ever will; None where only bounds are known."""
        q = place("q", q, self.q_len)
        if self.source is None:
            return None
        source, enough = self.source, len(self.masks) * self.q_len
        ever = int(source.seen(q, enough).sum())
        return 0 if ever == 1 else least(lambda layers: int(source.seen(q, layers).sum()) == ever, enough)

    @property
    def _depth(self) -> int:
        """The number of layers, or one that is as good as any where that is all the same."""
        enough = len(self.masks) * self.q_len
        return enough if self.layers is None else min(self.layers, enough)

    @property
    def counts(self) -> Ints:
        """How many positions each has seen, itself included: int64 [q_len]."""
        return self.found.counts()

    @property
    def density(self) -> float:
        """Share of all pairs (q, k) in which q has seen k."""
        return float(self.counts.sum()) / self.q_len**2

    @property
    def blocks(self) -> NDArray[np.bool_]:
        """In which pairs of blocks some query has seen (or, where not exact, can have seen) some key.

        bool [rows, rows], for blocks of `block` positions.
        """
        return self.found.blocks(self.block)

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings, for JSON. `last` is what the last position has seen."""
        counts = self.counts
        return {
            "masks": list(self.masks),
            "q_len": self.q_len,
            "layers": self.layers,
            "batch_row": self.batch_row,
            "head": self.head,
            "exact": self.exact,
            "method": self.method,
            "block": self.block,
            "pairs": int(counts.sum()),
            "density": self.density,
            "seen": {"min": int(counts.min()), "mean": float(counts.mean()), "max": int(counts.max())},
            "last": self.seen(self.q_len - 1).to_dict(),
        }

    def lines(self) -> Iterator[tuple[str, str]]:
        """Label and figure of every line of the table."""
        counts, most = self.counts, "" if self.exact else "at most "
        yield from _mask_lines(self.masks)
        yield "layers", "any number" if self.layers is None else f"{self.layers:,}"
        yield "positions", f"{self.q_len:,}"
        yield "figures are", self._how
        yield "pairs seen", f"{most}{int(counts.sum()):,} ({100 * self.density:.3g} % of all)"
        spread = f"{int(counts.min()):,} to {int(counts.max()):,}, mean {counts.mean():,.1f}"
        yield "seen per position", most + spread
        last = self.q_len - 1
        yield f"position {last:,} has seen", str(self.seen(last))
        if self.layers is None and (settled := self.settles_after(last)) is not None:
            yield "", f"and nothing new after {_layers(settled)}"

    @property
    def _how(self) -> str:
        match self.method:
            case "formula":
                return "exact, by a formula"
            case "tokens":
                return "exact, token by token"
            case "blocks":
                return f"upper bounds, from blocks of {self.block}"

    def __str__(self) -> str:
        lines = list(self.lines())
        width = max(len(label) for label, _ in lines)
        return "\n".join(f"{label:<{width}}  {figure}" for label, figure in lines)

    def __rich__(self) -> Table:
        from rich.table import Table
        from rich.text import Text

        table = Table(show_header=False, box=None)
        table.add_column(style="dim", no_wrap=True)
        table.add_column()
        for label, figure in self.lines():
            table.add_row(Text(label), Text(figure))
        return table


@dataclass(frozen=True, slots=True)
class LayersNeeded:
    """After how many layers position `q` has seen position `k`: `layers`, or at least so many where not exact.

    None means that it never does, which is always exact.
    """

    q: int
    k: int
    q_len: int
    layers: int | None
    exact: bool

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers, for JSON."""
        return {
            "from": self.q,
            "to": self.k,
            "q_len": self.q_len,
            "layers": self.layers,
            "exact": self.exact,
        }

    def __str__(self) -> str:
        if self.layers is None:
            return f"position {self.q:,} never sees position {self.k:,}"
        least = "" if self.exact else "at least "
        return f"position {self.q:,} has seen position {self.k:,} after {least}{_layers(self.layers)}"


def place(name: str, value: int, q_len: int) -> int:
    """`value` as a position of the sequence. MaskError otherwise."""
    position = whole(name, value)
    if position >= q_len:
        raise MaskError(
            f"there is no position {name} = {position}", hint=f"of {q_len}, the last is {q_len - 1}"
        )
    return position


def _seen(q: int, flags: NDArray[np.bool_], *, exact: bool) -> Seen:
    edges = np.flatnonzero(np.diff(flags, prepend=False, append=False))
    runs = tuple(range(first, stop) for first, stop in edges.reshape(-1, 2).tolist())
    return Seen(q, len(flags), exact, runs)


def _run(run: range) -> str:
    return f"{run[0]:,}" if len(run) == 1 else f"{run[0]:,}–{run[-1]:,}"


def _layers(number: int) -> str:
    return f"{number:,} layer{'' if number == 1 else 's'}"


def _mask_lines(masks: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    if len(masks) == 1:
        yield "mask", one_line(masks[0], _WIDEST_MASK)
        return
    for number, mask in enumerate(masks[:_MOST_MASKS]):
        yield f"layer {number}", one_line(mask, _WIDEST_MASK)
    if len(masks) > _MOST_MASKS:
        yield "…", f"{len(masks)} masks in turn"
