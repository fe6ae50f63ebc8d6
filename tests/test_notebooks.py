"""Notebooks run from top to bottom without an error, and the outputs kept in them are what they print.

`pytest tests/test_notebooks.py --update-golden` runs them and keeps the new outputs.
"""

from __future__ import annotations

import copy
import json
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
MOST_BYTES = 600_000
# A path from the root of some machine: `/home/…`, `C:\…`. The checkout itself is looked for by name.
MACHINE_PATH = re.compile(r"(?<![\w.:/])/(?:home|root|Users|tmp|var|usr|opt|mnt|private)/|\b[A-Z]:\\\w")
ADDRESS = re.compile(r"\b0x[0-9a-f]{6,}\b")

METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}

pytestmark = pytest.mark.slow
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel `python3` that is this interpreter and imports this checkout, with no settings of the user's."""
    spec = {
        "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "language": "python",
    }
    folder = tmp_path / "jupyter" / "kernels" / "python3"
    folder.mkdir(parents=True)
    (folder / "kernel.json").write_text(json.dumps({**spec, "display_name": "Python 3"}), encoding="utf-8")
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "IPYTHONDIR"):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    inherited = os.environ.get("PYTHONPATH")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), *([inherited] if inherited else [])]))
    # What rich and matplotlib would print otherwise on one terminal than on another.
    for name in ("MPLBACKEND", "MATPLOTLIBRC", "JUPYTER_COLUMNS", "JUPYTER_LINES", "NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)


def test_there_are_notebooks() -> None:
    assert NOTEBOOKS, "no notebook was found, so nothing below was tested"


@each_notebook
@pytest.mark.usefixtures("kernel")
def test_outputs_are_those_of_a_new_run(
    path: Path, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = read(path)
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    new = executed(kept, work)
    assert not list(work.iterdir()), "a notebook leaves no files behind"
    if request.config.getoption("--update-golden"):
        nbformat.write(new, path)  # type: ignore[no-untyped-call]  # nbformat has types in part
        return
    for number, (old_cell, new_cell) in enumerate(zip(kept.cells, new.cells, strict=True)):
        found, expected = texts(new_cell), texts(old_cell)
        again = "run pytest tests/test_notebooks.py --update-golden and read what changed"
        assert found == expected, f"cell {number} prints something else than is kept: {again}"


@each_notebook
def test_kept_outputs_tell_nothing_of_a_machine(path: Path) -> None:
    notebook = read(path)
    for number, cell in enumerate(notebook.cells):
        for text in texts(cell):
            assert not (found := MACHINE_PATH.search(text)), f"cell {number} shows the path {found}"
            assert str(ROOT) not in text, f"cell {number} shows where the checkout is"
            assert not (found := ADDRESS.search(text)), f"cell {number} shows the address {found}"


@each_notebook
def test_a_notebook_is_kept_whole_and_small(path: Path) -> None:
    """Every cell was run, in order and without a warning; nothing is kept that differs from run to run."""
    assert path.stat().st_size < MOST_BYTES
    notebook = read(path)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert notebook.metadata == METADATA
    assert all(not cell.metadata for cell in notebook.cells)
    assert not [text for cell in code for text in texts(cell) if text.startswith("stderr: ")]


def read(path: Path) -> Any:
    return nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]  # nbformat has types in part


def executed(kept: Any, folder: Path) -> Any:
    """A copy of the notebook, run in `folder`: its outputs, and nothing of when and by which Python."""
    notebook = copy.deepcopy(kept)
    client = nbclient.NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        record_timing=False,
        coalesce_streams=True,
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute()
    notebook.metadata = dict(METADATA)
    for cell in notebook.cells:
        cell.metadata = {}
    return notebook


def texts(cell: Any) -> list[str]:
    """Everything of a cell's outputs that is text; of a picture, that there is one."""
    return [text for output in cell.get("outputs", []) for text in texts_of(output)]


def texts_of(output: Any) -> Iterator[str]:
    match output.output_type:
        case "stream":
            yield f"{output.name}: {output.text}"
        case "display_data" | "execute_result":
            for kind, content in sorted(output.data.items()):
                yield f"{kind}: {'a picture' if kind.startswith('image/') else content}"
        case other:
            raise AssertionError(f"a cell ended in {other}")
