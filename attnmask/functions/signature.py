"""What help() tells about a definition: its signature, and the comment that stands above it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass

from attnmask.errors import Source
from attnmask.functions.kinds import ACCEPTS, parameter_kinds
from attnmask.ir.values import Function
from attnmask.syntax import tree


@dataclass(frozen=True, slots=True)
class Documentation:
    """The comment above a definition: what it is, and what each parameter is where the comment says so."""

    summary: str
    parameters: Mapping[str, str]


def documentation(source: Source, definition: tree.Def | tree.Let) -> Documentation:
    """The comment lines right above a definition; a line `name: text` is about the parameter of that name."""
    names = (
        [parameter.name for parameter in definition.parameters] if isinstance(definition, tree.Def) else []
    )
    above = source.text[: definition.span.start].splitlines()
    if source.text[definition.span.start - 1 : definition.span.start] not in ("", "\n"):
        above = above[:-1]
    lines: list[str] = []
    while above and above[-1].startswith("#"):
        lines.insert(0, above.pop().removeprefix("#").strip())
    summary: list[str] = []
    parameters: dict[str, str] = {}
    for line in lines:
        name, colon, text = line.partition(":")
        if colon and name in names:
            parameters[name] = text.strip()
        else:
            summary.append(line)
    return Documentation("\n".join(summary), parameters)


def docstring(function: Function, document: Documentation) -> str:
    """Summary, then a section on the arguments."""
    kinds = parameter_kinds(function)
    lines = [document.summary, "", "Args:"] if kinds else [document.summary]
    for name, kind in kinds.items():
        said = f"{document.parameters[name]}. " if name in document.parameters else ""
        lines.append(f"    {name}: {said}{ACCEPTS[kind][0].upper()}{ACCEPTS[kind][1:]}.")
    return "\n".join(lines)


def default_text(source: Source, parameter: tree.Parameter) -> str | None:
    """The text of a parameter's default, None where it has none."""
    if parameter.default is None:
        return None
    return source.text[parameter.default.span.start : parameter.default.span.end]


def signature(function: Function, returned: type) -> inspect.Signature:
    """The signature for Python: numbers and truth values as such, other defaults as texts of the language."""
    parameters = []
    for parameter in function.definition.parameters:
        default: object = inspect.Parameter.empty
        if (text := default_text(function.frame.source, parameter)) is not None:
            default = _python_default(text, parameter.default)
        parameters.append(
            inspect.Parameter(parameter.name, inspect.Parameter.POSITIONAL_OR_KEYWORD, default=default)
        )
    return inspect.Signature(parameters, return_annotation=returned)


def _python_default(text: str, node: tree.Expr | None) -> int | bool | str:
    match node:
        case tree.Number(value) | tree.Truth(value):
            return value
        case tree.Unary("-", tree.Number(value)):
            return -value
        case _:
            return text
