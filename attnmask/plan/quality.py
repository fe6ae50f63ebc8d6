"""Quality: what a choice costs, how dense it is, and how much of the attention it keeps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from attnmask.plan.figures import figures_table, flops_text, percent

if TYPE_CHECKING:
    from rich.table import Table

PerHead = list[list[float]]


@dataclass(frozen=True, slots=True)
class Quality:
    """Figures of one choice, measured on given q and k.

    Lists are [batch][heads]. `queries`: how many were looked at, evenly spread; tiles are of all. `chosen_density`:
    attended pairs, as a share of those attended if everything is chosen, or nothing; `tile_density`: pairs of the
    tiles that a kernel computes, as the same share, so that it is above 1 for tiles that the mask covers in
    part. `recall`: the mean share of the attention weights that attended pairs have; `least_recall`: the smallest
    share of a query. `empty_rows`: queries looked at that attend no key. `estimator_flops`: what choosing takes.
    """

    mask: str
    q_len: int
    kv_len: int
    block: tuple[int, int]
    queries: int
    estimator_flops: int
    attention_flops: int
    chosen_density: PerHead
    tile_density: PerHead
    tiles_per_row: tuple[int, float, int]
    recall: PerHead
    least_recall: PerHead
    empty_rows: list[list[int]]

    def to_dict(self) -> dict[str, Any]:
        """Plain numbers and strings, for JSON."""
        least, mean, most = self.tiles_per_row
        return {
            "mask": self.mask,
            "q_len": self.q_len,
            "kv_len": self.kv_len,
            "block": list(self.block),
            "queries": self.queries,
            "flops": {"estimator": self.estimator_flops, "attention": self.attention_flops},
            "chosen_density": self.chosen_density,
            "tile_density": self.tile_density,
            "tiles_per_row": {"min": least, "mean": mean, "max": most},
            "recall": self.recall,
            "least_recall": self.least_recall,
            "empty_rows": self.empty_rows,
        }

    def lines(self) -> Iterator[tuple[str, str]]:
        """Label and figure of every line of the table."""
        least, mean, most = self.tiles_per_row
        yield "lengths", f"{self.q_len:,} queries × {self.kv_len:,} keys, {self.queries:,} queries looked at"
        yield "attended, of allowed pairs", _spread(self.chosen_density)
        yield "computed, of allowed pairs", _spread(self.tile_density)
        yield (
            "tiles per row",
            f"{least:,} to {most:,}, mean {mean:,.1f}, of {self.block[0]} × {self.block[1]}",
        )
        yield "recall of attention", _spread(self.recall)
        yield "recall of the worst query", _spread(self.least_recall)
        yield "queries without keys", f"{sum(map(sum, self.empty_rows)):,}"
        share = percent(self.estimator_flops / self.attention_flops) if self.attention_flops else "all"
        yield "estimator", f"{flops_text(self.estimator_flops)} ({share} of the attention after it)"

    def __str__(self) -> str:
        rows = [("mask", self.mask), *self.lines()]
        width = max(len(label) for label, _ in rows)
        return "\n".join(f"{label:<{width}}  {figure}" for label, figure in rows)

    def __rich__(self) -> Table:

        return figures_table(self.mask, self.lines())


def _spread(shares: PerHead) -> str:
    flat = [share for row in shares for share in row]
    mean = percent(sum(flat) / len(flat))
    if len(flat) == 1:
        return mean
    return f"{mean}, heads from {percent(min(flat))} to {percent(max(flat))}"
