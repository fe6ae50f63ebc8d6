"""Medians of device time: CUDA events on a GPU, the clock on a CPU."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.timing import Timing

_WARMUPS = 3
_LEAST, _MOST = 7, 100
_FLUSHED = 1 << 28  # bytes; more than any L2 cache


def timed_on(
    device: str,
    run: Callable[[Any], object],
    *,
    before: Callable[[], object] = lambda: None,
    wall: bool = False,
    seconds: float = 2.0,
) -> Timing:
    """The time of `run(before())`, warm: several runs, more while `seconds` last. `before` is not timed.

    `wall`: host time until the device is done, for work that both share. Otherwise time on the device, with the
    cache flushed ahead of each run.
    """
    for _ in range(_WARMUPS):
        run(before())
    once = _wall if wall or device == "cpu" else _between_events
    spent: list[float] = []
    started = time.perf_counter()
    while len(spent) < _LEAST or (time.perf_counter() - started < seconds and len(spent) < _MOST):
        spent.append(once(device, run, before()))
    return Timing(statistics.median(spent), min(spent), len(spent))


def _wall(device: str, run: Callable[[Any], object], given: object) -> float:
    _wait(device)
    start = time.perf_counter()
    result = run(given)
    _wait(device)
    spent = (time.perf_counter() - start) * 1e3
    del result
    return spent


def _between_events(device: str, run: Callable[[Any], object], given: object) -> float:
    start: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch has no type for it
    stop: Any = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # likewise
    # Besides the cache, this fills the queue, so that the launch itself is not timed.
    torch.empty(_FLUSHED, dtype=torch.int8, device=device).zero_()
    start.record()
    run(given)
    stop.record()
    torch.cuda.synchronize()
    return float(start.elapsed_time(stop))


def _wait(device: str) -> None:
    if device != "cpu":
        torch.cuda.synchronize()
