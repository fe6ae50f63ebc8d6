from __future__ import annotations

import contextlib
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from attnmask.cli import inputs
from attnmask.errors import MaskError


@pytest.mark.parametrize(
    ("text", "value"), [("1", 1), ("4096", 4096), ("4k", 4096), ("4K", 4096), ("1m", 1 << 20), (" 12 ", 12)]
)
def test_number(text: str, value: int) -> None:
    assert inputs.number(text, "-n", least=1) == value


@pytest.mark.parametrize("text", ["", "0", "-4", "four", "4.5", "4kk", "4 k", "0x10", "9" * 5000, "½", "k"])
def test_number_refuses(text: str) -> None:
    with pytest.raises(MaskError, match=r"^-n "):
        inputs.number(text, "-n", least=1)


@pytest.mark.parametrize(
    ("text", "sizes"),
    [("128", (128, 128)), ("64x128", (64, 128)), ("1kX2k", (1024, 2048)), ("64 x 128", (64, 128))],
)
def test_block(text: str, sizes: tuple[int, int]) -> None:
    assert inputs.block(text) == sizes


@pytest.mark.parametrize("text", ["", "x", "64x", "x64", "64x64x64", "64*64", "0", "64x0", "-1"])
def test_block_refuses(text: str) -> None:
    with pytest.raises(MaskError, match="--block"):
        inputs.block(text)


@given(st.text(max_size=12))
def test_any_text_is_a_number_or_a_mask_error(text: str) -> None:
    for read in (inputs.block, lambda text: inputs.number(text, "-n", least=1)):
        with contextlib.suppress(MaskError):
            read(text)


def test_bindings(tmp_path: Path) -> None:
    np.save(tmp_path / "doc.npy", np.array([0, 0, 1]))
    bound = inputs.bindings([f"doc={tmp_path / 'doc.npy'}"], ["layer=3", "low=-2", "far=4k"])
    assert bound.pop("doc").tolist() == [0, 0, 1]
    assert bound == {"layer": 3, "low": -2, "far": 4096}


@pytest.mark.parametrize("entry", ["doc", "doc=", "=doc.npy", "1doc=doc.npy", "a b=doc.npy", ""])
def test_bindings_refuse(entry: str) -> None:
    with pytest.raises(MaskError, match="--table takes NAME=VALUE"):
        inputs.bindings([entry], [])
    with pytest.raises(MaskError, match="--set takes NAME=VALUE"):
        inputs.bindings([], [entry])


def test_a_name_is_given_once(tmp_path: Path) -> None:
    np.save(tmp_path / "doc.npy", np.zeros(3, np.int64))
    for tables, settings in (
        ([f"doc={tmp_path / 'doc.npy'}"] * 2, []),
        ([], ["doc=1", "doc=1"]),
        ([f"doc={tmp_path / 'doc.npy'}"], ["doc=1"]),
    ):
        with pytest.raises(MaskError, match="'doc' a second time"):
            inputs.bindings(tables, settings)


def test_tables_that_are_refused(tmp_path: Path) -> None:
    cases = {
        "missing.npy": "cannot read",
        "folder.npy": "cannot read",
        "text.npy": "not an .npy file",
        "empty.npy": "not an .npy file",
        "archive.npy": "not an .npy file",
        "pickled.npy": "holds objects",
        "cut.npy": "damaged",
        "strings.npy": "not numbers",
        "dates.npy": "not numbers",
        "complex.npy": "not numbers",
    }
    (tmp_path / "folder.npy").mkdir()
    (tmp_path / "text.npy").write_text("0 0 0 1 1 1")
    (tmp_path / "empty.npy").touch()
    with zipfile.ZipFile(tmp_path / "archive.npy", "w") as archive:
        archive.writestr("doc", b"0")
    np.save(tmp_path / "pickled.npy", np.array([print], dtype=object))
    np.save(tmp_path / "cut.npy", np.arange(1000))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "cut.npy").read_bytes()[:200])
    np.save(tmp_path / "strings.npy", np.array(["a"]))
    np.save(tmp_path / "dates.npy", np.array(["2024-01-01"], "datetime64[D]"))
    np.save(tmp_path / "complex.npy", np.array([1j]))
    for name, message in cases.items():
        with pytest.raises(MaskError, match=message):
            inputs.table(tmp_path / name)


@given(at=st.integers(6, 127), byte=st.integers(0, 255), keep=st.integers(6, 400))
def test_a_damaged_table_is_a_mask_error_or_a_table(
    tmp_path_factory: pytest.TempPathFactory, at: int, byte: int, keep: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.npy"
    np.save(path, np.arange(32))
    content = bytearray(path.read_bytes())
    content[at] = byte
    path.write_bytes(content[:keep])
    try:
        array = inputs.table(path)
    except MaskError:
        return
    assert array.dtype.kind in "biuf"


def test_program_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "a.mask").write_bytes(b"\xef\xbb\xbflet w = 4\ncausal & window(w)\n")
    assert inputs.program(f"@{tmp_path / 'a.mask'}") == "let w = 4\ncausal & window(w)\n"
    (tmp_path / "b.mask").write_bytes(b"causal \xff")
    with pytest.raises(MaskError, match="not UTF-8"):
        inputs.program(f"@{tmp_path / 'b.mask'}")
    for name in ("missing", "", "a\0b"):
        with pytest.raises(MaskError):
            inputs.program(f"@{name}")
