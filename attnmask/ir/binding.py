"""Arguments to parameters: positional first, then by name, then defaults."""

from __future__ import annotations

from dataclasses import dataclass

from attnmask.errors import MaskError, did_you_mean
from attnmask.syntax import tree


@dataclass(frozen=True, slots=True)
class Misfit(Exception):
    """A call that does not fit its definition; `argument` is at fault, None for the call as a whole."""

    message: str
    hint: str | None
    argument: tree.Argument | None


def signature(definition: tree.Def) -> str:
    """`window(n, of=…)`: the call as its definition wants it."""
    shown = [p.name if p.default is None else f"{p.name}=…" for p in definition.parameters]
    return f"{definition.name}({', '.join(shown)})"


def match_arguments(
    definition: tree.Def, arguments: tuple[tree.Argument, ...]
) -> dict[str, tree.Argument | None]:
    """Each parameter's argument, None where the default serves; Misfit when the call does not fit."""
    names = [parameter.name for parameter in definition.parameters]
    given: dict[str, tree.Argument | None] = {}
    usage = f"write {signature(definition)}"
    named = False
    for position, argument in enumerate(arguments):
        if argument.name is None:
            if named:
                raise Misfit("a positional argument comes after a named one", usage, argument)
            if position >= len(names):
                count = f"{len(names)} argument{'' if len(names) == 1 else 's'}"
                raise Misfit(f"{definition.name} takes {count} and got {len(arguments)}", usage, argument)
            given[names[position]] = argument
            continue
        named = True
        if argument.name not in names:
            hint = did_you_mean(argument.name, names) or usage
            raise Misfit(f"{definition.name} has no parameter '{argument.name}'", hint, argument)
        if argument.name in given:
            raise Misfit(f"the parameter '{argument.name}' is given twice", usage, argument)
        given[argument.name] = argument
    for parameter in definition.parameters:
        if parameter.name not in given:
            if parameter.default is None:
                raise Misfit(f"{definition.name} needs the argument '{parameter.name}'", usage, None)
            given[parameter.name] = None
    return given


def check_definition(definition: tree.Def, reserved: frozenset[str]) -> None:
    """Parameters are distinct, and none hides a variable."""
    seen: set[str] = set()
    for parameter in definition.parameters:
        if parameter.name in seen:
            raise MaskError(f"the parameter '{parameter.name}' stands twice")
        if parameter.name in reserved:
            raise MaskError(f"'{parameter.name}' has a meaning of its own and cannot be a parameter")
        seen.add(parameter.name)
