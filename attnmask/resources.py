"""The grammar files: part of an installed attnmask, a folder beside the package in a checkout."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parent
# In this order: beside an installed package, `grammar` could be a folder of somebody else's.
_FOLDERS = (_PACKAGE / "grammar", _PACKAGE.parent / "grammar")


def read_grammar(name: str) -> str:
    """The text of the grammar file `name`, such as `attnmask.lark`.

    RuntimeError when it is nowhere: then attnmask was packaged wrongly, whatever mask the user wrote.
    """
    for folder in _FOLDERS:
        if (path := folder / name).is_file():
            return path.read_text(encoding="utf-8")
    places = " nor ".join(str(folder) for folder in _FOLDERS)
    raise RuntimeError(
        f"attnmask's own file '{name}' is neither in {places}: this installation is incomplete"
    )
