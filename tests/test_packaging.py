"""An installed attnmask works away from its checkout: with the grammar and the zoo, it compiles a mask."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from attnmask.resources import read_grammar

ROOT = Path(__file__).parents[1]
NOT_COPIED = shutil.ignore_patterns(".git", ".venv", "build", "dist", "__pycache__", ".*_cache")

USE = """
import json, sys
import attnmask

mask = attnmask.compile("causal & window(2)")
files = [module.__file__ for name, module in sys.modules.items() if name.partition(".")[0] == "attnmask"]
print(json.dumps({"files": files, "dense": mask.dense(4).tolist()}))
"""

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel built, without the network, from a copy of the checkout."""
    folder = tmp_path_factory.mktemp("wheel")
    shutil.copytree(ROOT, folder / "checkout", ignore=NOT_COPIED)
    options = ("--no-index", "--no-deps", "--no-build-isolation")
    pip("wheel", *options, "--wheel-dir", folder / "out", folder / "checkout")
    [built] = (folder / "out").glob("attnmask-*.whl")
    return built


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with attnmask alone in it, installed from the wheel."""
    folder = tmp_path_factory.mktemp("installed")
    pip("install", "--no-deps", "--no-index", "--target", folder, wheel)
    return folder


def pip(*arguments: str | Path) -> None:
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def run_installed(installed: Path, program: str, cwd: Path) -> str:
    """What `program` prints when it sees `installed` and the dependencies, and no trace of the checkout.

    -S leaves the .pth files of site-packages unread, and with them an editable install; -P leaves out the
    working folder.
    """
    path = os.pathsep.join([str(installed), sysconfig.get_path("purelib"), sysconfig.get_path("platlib")])
    command = [sys.executable, "-S", "-P", "-c", program]
    environment = os.environ | {"PYTHONPATH": path}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_wheel_holds_what_is_no_python(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    grammar = {f"attnmask/grammar/{path.name}" for path in (ROOT / "grammar").iterdir()}
    zoo = {f"attnmask/zoo/{path.name}" for path in (ROOT / "attnmask" / "zoo").glob("*.mask")}
    assert grammar >= {"attnmask/grammar/attnmask.lark", "attnmask/grammar/prelude.mask"}
    assert zoo
    assert {"attnmask/py.typed"} | grammar | zoo <= held


def test_wheel_holds_nothing_but_attnmask(wheel: Path) -> None:
    tops = {name.split("/")[0] for name in zipfile.ZipFile(wheel).namelist()}
    assert {top for top in tops if not top.endswith(".dist-info")} == {"attnmask"}


def test_installed_wheel_evaluates_a_mask(installed: Path, tmp_path: Path) -> None:
    said = json.loads(run_installed(installed, USE, tmp_path))
    assert said["files"]
    assert all(Path(file).is_relative_to(installed) for file in said["files"])
    assert said["dense"] == [
        [True, False, False, False],
        [True, True, False, False],
        [False, True, True, False],
        [False, False, True, True],
    ]


def test_installed_grammar_is_that_of_the_checkout(installed: Path, tmp_path: Path) -> None:
    program = "from attnmask.resources import read_grammar; print(read_grammar('prelude.mask'), end='')"
    text = (ROOT / "grammar" / "prelude.mask").read_text(encoding="utf-8")
    assert run_installed(installed, program, tmp_path) == text
    assert read_grammar("prelude.mask") == text


def test_missing_grammar_is_our_fault() -> None:
    with pytest.raises(RuntimeError, match=r"'nowhere\.lark' is neither in .* installation is incomplete"):
        read_grammar("nowhere.lark")
