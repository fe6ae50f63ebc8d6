"""The public face of programs, which needs torch and is loaded when it is first asked for."""

from __future__ import annotations

import subprocess
import sys

import attnmask as am


def test_names() -> None:
    assert "programs" in dir(am)
    for name in am.programs.__all__:
        assert getattr(am.programs, name).__doc__, name


def test_programs_are_loaded_when_asked_for() -> None:
    program = (
        "import sys, attnmask as am; before = 'torch' in sys.modules or 'attnmask.programs' in sys.modules;"
        "print(before, am.programs.merge.__name__, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "merge", "True"]
