"""`attnmask` from a cold shell: the time of a whole process."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from benchmarks.environment import ROOT
from benchmarks.timing import Timing, timed

# What the console script does, for checkouts that are not installed.
_PROGRAM = "from attnmask.cli import main; main()"
# The same, and tells as the process ends whether torch was imported.
_WATCHED = "import atexit, sys; atexit.register(lambda: print('torch' in sys.modules, file=sys.stderr)); "


@dataclass(frozen=True, slots=True)
class ColdStart:
    timing: Timing
    imports_torch: bool


def cold_start(*arguments: str, least_runs: int = 9) -> ColdStart:
    """Runs `attnmask ARGUMENTS` as a process of its own; RuntimeError when it fails."""
    script = Path(sys.executable).with_name("attnmask")
    start = [str(script)] if script.exists() else [sys.executable, "-c", _PROGRAM]
    with tempfile.TemporaryDirectory() as bytecode:
        # Modules come compiled, as they do in an installed package, whatever this shell is set to.
        settings = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        settings["PYTHONPYCACHEPREFIX"] = bytecode
        watched = _run([sys.executable, "-c", _WATCHED + _PROGRAM, *arguments], settings)
        timing = timed(lambda: _run([*start, *arguments], settings), warmups=1, least_runs=least_runs)
    return ColdStart(timing, watched.splitlines()[-1] == "True")


def _run(command: list[str], settings: dict[str, str]) -> str:
    """What the process writes to stderr."""
    done = subprocess.run(command, cwd=ROOT, env=settings, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"the command ended with {done.returncode}:\n{done.stderr}")
    return done.stderr
