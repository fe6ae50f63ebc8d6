"""Peak memory of one build, in a process of its own.

    python -m benchmarks.memory window_sink 1048576 block_mask

prints one line of JSON. The peak is that of resident memory above what the process held just before the build:
the kernel's own high-water mark, set back in between. Only Linux has it; elsewhere `measure` gives None.
"""

from __future__ import annotations

import ctypes
import gc
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.environment import ROOT, available_bytes
from benchmarks.masks import CASES

WAYS = ("tiles", "block_mask", "torch_eager", "drop_in")
_WARM_UP = 2048
_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")

Memory = dict[str, int]
T = TypeVar("T")


def measure(case: str, length: int, way: str) -> Memory | None:
    """Bytes of a build, taken in a fresh process; see `_measured` for the keys.

    `case` is one of `masks`; with the way "drop_in", one of `mask_functions`.
    """
    if not _CLEAR.exists():
        return None
    command = [sys.executable, "-m", "benchmarks.memory", case, str(length), way]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[1:])} failed:\n{done.stderr}")
    measured: Memory = json.loads(done.stdout.splitlines()[-1])
    return measured


def _measured(case: str, length: int, way: str) -> Memory:
    """peak: resident bytes at the worst moment above those before; held: those that stay with the result;
    result: bytes of the arrays that the result consists of; lists: bytes of the listed tiles alone;
    us: microseconds of the build, in a process whose heap has not grown yet."""
    _builder(case, _WARM_UP, way)()
    build = _builder(case, length, way)
    _settle()
    before = _resident("VmRSS")
    _CLEAR.write_text("5")
    start = time.perf_counter()
    built = build()
    spent = time.perf_counter() - start
    peak = _resident("VmHWM") - before
    _settle()
    held = _resident("VmRSS") - before
    result, lists = _sizes(built)
    return {"peak": peak, "held": held, "result": result, "lists": lists, "us": round(1e6 * spent)}


def peak_of(run: Callable[[], T]) -> tuple[T, int]:
    """What `run` gives, and its peak of resident bytes above those before; 0 where the system does not tell."""
    if not _CLEAR.exists():
        return run(), 0
    _settle()
    before = _resident("VmRSS")
    _CLEAR.write_text("5")
    result = run()
    return result, _resident("VmHWM") - before


def _builder(case: str, length: int, way: str) -> Callable[[], Any]:
    if way == "drop_in":
        from benchmarks import builders
        from benchmarks.mask_functions import ENTRIES

        call = builders.Call(*ENTRIES[case].arguments(length))
        return lambda: builders.drop_in(call)
    mask = CASES[case].mask(length)
    if way == "tiles":  # torch stays out of this process
        return lambda: mask.tiles(length)
    from benchmarks import builders

    if way == "torch_eager":
        mask_mod = builders.handwritten(case, length)
        return lambda: builders.torch_eager(builders.square(mask_mod, length))
    return lambda: builders.ours(mask, length)


def _sizes(built: Any) -> tuple[int, int]:
    """Bytes of the result's arrays, and of the tiles that it lists (4 a tile, both ways)."""
    if hasattr(built, "nbytes"):
        return built.nbytes, built.nbytes
    tensors = [value for value in vars(built).values() if hasattr(value, "untyped_storage")]
    counts = [tensor for tensor in tensors if tensor.dim() == 3]
    return sum(tensor.untyped_storage().nbytes() for tensor in tensors), 4 * int(
        sum(tensor.sum() for tensor in counts) + sum(tensor.numel() for tensor in counts)
    )


@contextmanager
def bounded(share: float = 0.9) -> Iterator[None]:
    """Inside, allocations beyond what the machine has left fail, where Linux would end the process instead.

    Other systems are left as they are.
    """
    available = available_bytes()
    if available is None:
        yield
        return
    import resource  # which Windows does not have

    before = resource.getrlimit(resource.RLIMIT_DATA)
    limit = _resident("VmData") + int(share * available)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def _settle() -> None:
    """Gives freed memory back, so that the build cannot use it unseen."""
    gc.collect()
    # Another C library than glibc has no such call, and nothing to give back.
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).malloc_trim(0)


def _resident(field: str) -> int:
    lines = _STATUS.read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) * 1024


if __name__ == "__main__":
    print(json.dumps(_measured(sys.argv[1], int(sys.argv[2]), sys.argv[3])))
