"""Medians of repeated runs."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

_WARM_SECONDS = 0.3
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Timing:
    """Milliseconds; the median is the result, the fastest run tells how noisy the machine was."""

    median_ms: float
    fastest_ms: float
    runs: int

    def to_dict(self) -> dict[str, float | int]:
        return {
            "median_ms": round(self.median_ms, 4),
            "fastest_ms": round(self.fastest_ms, 4),
            "runs": self.runs,
        }


def once(run: Callable[[], T]) -> tuple[T, Timing]:
    """The result of a single run, for those too long to repeat, and its time."""
    gc.collect()
    start = time.perf_counter()
    result = run()
    spent = (time.perf_counter() - start) * 1e3
    return result, Timing(spent, spent, 1)


def timed(
    run: Callable[[], object],
    *,
    before: Callable[[], object] = lambda: None,
    warmups: int = 2,
    least_runs: int = 5,
    most_runs: int = 200,
    seconds: float = 2.0,
) -> Timing:
    """The time of `run`, warm: at least `least_runs` runs, more while `seconds` last.

    `warmups=0` says that it is warm already.

    `before` runs ahead of each run and is not timed; nor is the release of what the run returned.
    """
    started = time.perf_counter()
    done = 0
    # Short runs are warm only once processor and caches are: they are repeated for a while.
    while done < warmups or (warmups and done < most_runs and time.perf_counter() - started < _WARM_SECONDS):
        before()
        run()
        done += 1
    spent: list[float] = []
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()  # as timeit does: a collection is not part of a run
    try:
        while len(spent) < least_runs or (sum(spent) < seconds and len(spent) < most_runs):
            before()
            start = time.perf_counter()
            result = run()
            spent.append(time.perf_counter() - start)
            del result
    finally:
        if collecting:
            gc.enable()
    return Timing(statistics.median(spent) * 1e3, min(spent) * 1e3, len(spent))
