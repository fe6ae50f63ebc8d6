"""What a user types, turned into what the library takes; a `MaskError` names the option that is at fault."""

from __future__ import annotations

import re
import sys
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from attnmask.errors import MaskError

_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20}
_NUMBER = re.compile(r"(-?\d{1,15})([km]?)", re.IGNORECASE)
_NPY_MAGIC = b"\x93NUMPY"
_TABLE_KINDS = "biuf"  # booleans, integers, floats


def program(argument: str) -> str:
    """The text of a mask: the argument itself, standard input for `-`, a file for `@FILE`."""
    if argument == "-":
        return _decoded(sys.stdin.buffer.read(), "standard input")
    if argument.startswith("@"):
        return _decoded(_read(Path(argument[1:]), "EXPR"), f"'{argument[1:]}'")
    return argument


def number(text: str, option: str, *, least: int) -> int:
    """An integer such as `4096`, `4k` or `1m` (k = 1024), at least `least`."""
    match = _NUMBER.fullmatch(text.strip())
    if match is None and re.fullmatch(r"-?\d+[km]?", text.strip(), re.IGNORECASE):
        raise MaskError(f"{option} cannot be {text.strip()[:40]}, which is far too large")
    if match is None:
        raise MaskError(f"{option} takes a whole number, not '{text}'", hint="write 4096, or 4k for the same")
    value = int(match[1]) * _UNITS[match[2].lower()]
    if value < least:
        raise MaskError(f"{option} must be at least {least}, not {value}")
    return value


def block(text: str) -> tuple[int, int]:
    """Block sizes (q, k) from `128` or `64x128`."""
    parts = text.lower().split("x")
    if len(parts) > 2 or not all(_NUMBER.fullmatch(part.strip()) for part in parts):
        hint = "write 128, or 64x128 for 64 queries by 128 keys"
        raise MaskError(f"--block takes one or two sizes, not '{text}'", hint=hint)
    sizes = [number(part, "--block", least=1) for part in parts]
    return sizes[0], sizes[-1]


def bindings(tables: Iterable[str], settings: Iterable[str]) -> dict[str, Any]:
    """Names and values from `--table NAME=FILE.npy` (arrays) and `--set NAME=NUMBER` (integers)."""
    bound: dict[str, Any] = {}
    for option, entries in (("--table", tables), ("--set", settings)):
        for entry in entries:
            name, value = _assignment(entry, option)
            if name in bound:
                raise MaskError(f"{option} gives '{name}' a second time")
            bound[name] = table(Path(value)) if option == "--table" else _setting(name, value)
    return bound


def table(path: Path, what: str = "--table") -> npt.NDArray[Any]:
    """The array in an .npy file, which messages call `what`.

    Files that hold pickled objects are refused: loading them could run code.
    """
    if _read(path, what, limit=len(_NPY_MAGIC)) != _NPY_MAGIC:
        hint = "save the table with numpy.save(file, array)"
        raise MaskError(f"{what}: '{path}' is not an .npy file", hint=hint)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            array: npt.NDArray[Any] = np.load(path, allow_pickle=False)
    except Exception as error:  # numpy tokenizes a damaged header: whatever that raises, the file is at fault
        reason = "it holds objects, which could run code" if "pickle" in str(error) else "the file is damaged"
        raise MaskError(f"{what}: cannot load '{path}': {reason}") from error
    if array.dtype.kind not in _TABLE_KINDS:
        raise MaskError(f"{what}: '{path}' holds {array.dtype}, not numbers or booleans")
    return array


def _setting(name: str, value: str) -> int:
    return number(value, f"--set {name}", least=-(1 << 63))


def _assignment(entry: str, option: str) -> tuple[str, str]:
    name, equals, value = entry.partition("=")
    if not (equals and value and name.strip().isidentifier()):
        example = "doc=doc.npy" if option == "--table" else "layer=3"
        raise MaskError(f"{option} takes NAME=VALUE, not '{entry}'", hint=f"for example {option} {example}")
    return name.strip(), value


def _read(path: Path, option: str, limit: int = -1) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(limit)
    except OSError as error:
        raise MaskError(f"{option}: cannot read '{path}': {error.strerror or error}") from error
    except ValueError as error:  # a null character in the name
        raise MaskError(f"{option}: '{path}' is no file name") from error


def _decoded(text: bytes, where: str) -> str:
    try:
        return text.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise MaskError(f"{where} is not UTF-8 text") from error
