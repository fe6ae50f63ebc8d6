"""The files of the zoo: read when a name asks for them, each once."""

from __future__ import annotations

import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from typing import Any, Literal, cast, get_args

from attnmask.errors import MaskError, Source, did_you_mean
from attnmask.functions import Documentation, default_text, documentation, make_function
from attnmask.ir.elaborate import elaborate
from attnmask.ir.prelude import prelude
from attnmask.ir.values import Bound, Function
from attnmask.mask import Mask
from attnmask.syntax import tree
from attnmask.syntax.parse import parse

Causal = Literal["yes", "no", "depends"]
Status = Literal["code", "paper", "reconstruction"]

_SUFFIX = ".mask"
_KEYS = ("title", "paper", "year", "source", "causal", "status", "needs", "notes")


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter of a published mask; `default` is text of the language, None where an argument is needed."""

    name: str
    default: str | None
    meaning: str


@dataclass(frozen=True, slots=True)
class Entry:
    """A published mask.

    `causal` tells whether no query sees a later key, whatever the arguments; `status` what the definition was
    read from: the authors' code, the paper alone, or neither in full; `needs` what `Mask.choose` looks at and is
    given, for masks that choose at run time; `text` is the file.
    """

    name: str
    title: str
    paper: str
    year: int
    source: str
    causal: Causal
    status: Status
    parameters: tuple[Parameter, ...]
    needs: tuple[str, ...]
    notes: str
    text: str


def lookup(name: str) -> Bound | None:
    """The definition that `zoo.NAME` stands for; None for other names, MaskError for an unknown NAME."""
    package, _, member = name.partition(".")
    return Bound(_definition(member)) if package == "zoo" else None


@lru_cache(maxsize=1)
def names() -> tuple[str, ...]:
    """The names of all entries, sorted."""
    files = (item.name for item in resources.files("attnmask.zoo").iterdir())
    return tuple(sorted(file.removesuffix(_SUFFIX) for file in files if file.endswith(_SUFFIX)))


def entries() -> tuple[Entry, ...]:
    """Every entry of the zoo, by name."""
    return tuple(entry(name) for name in names())


@lru_cache
def entry(name: str) -> Entry:
    """What the file of a published mask says. MaskError when there is none of this name."""
    source, definition = _source(name), _definition(name).definition
    head = header(source.text)
    document = documentation(source, definition)
    return Entry(
        name=name,
        title=head["title"],
        paper=head["paper"],
        year=int(head["year"]),
        source=head["source"],
        causal=cast(Causal, head["causal"]),
        status=cast(Status, head["status"]),
        parameters=tuple(
            Parameter(parameter.name, default_text(source, parameter), document.parameters[parameter.name])
            for parameter in definition.parameters
        ),
        needs=tuple(head["needs"].split(", ")) if "needs" in head else (),
        notes=head.get("notes", ""),
        text=source.text,
    )


def header(text: str) -> dict[str, str]:
    """The `# key: value` lines that a file opens with; a line that is indented further goes on with a value.

    ValueError when a key is unknown or missing: the file is attnmask's own.
    """
    found: dict[str, str] = {}
    key = ""
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        content = line.removeprefix("# ")
        if content.startswith("  "):
            found[key] += " " + content.strip()
            continue
        key, _, value = content.partition(": ")
        if key not in _KEYS or key in found:
            raise ValueError(f"the header line '{line}' is not one of {', '.join(_KEYS)}")
        found[key] = value.strip()
    if missing := set(_KEYS) - {"needs", "notes"} - found.keys():
        raise ValueError(f"the header lacks {', '.join(sorted(missing))}")
    if found["causal"] not in get_args(Causal) or found["status"] not in get_args(Status):
        raise ValueError("the header's causal or status is none of the words for it")
    return found


@lru_cache
def function(name: str) -> Callable[..., Mask]:
    """The Python function of a published mask. MaskError when there is none of this name."""
    definition, source, told = _definition(name), _source(name), entry(name)
    document = documentation(source, definition.definition)
    facts = f"{told.title}. {document.summary}\n\nPaper: {told.paper}\nSource: {told.source}"
    if told.notes:
        facts += f"\n\n{told.notes}"
    document = Documentation(facts, document.parameters)
    made: Callable[..., Any] = make_function(
        definition, document, name=name, module="attnmask.zoo", lookup=lookup
    )
    return made


@lru_cache
def _source(name: str) -> Source:
    try:
        # Quicker than importlib.resources, which imports much before it reads its first file.
        text = pkgutil.get_data("attnmask.zoo", f"{name}{_SUFFIX}") if name.isidentifier() else None
    except OSError:
        text = None
    if text is None:
        hint = did_you_mean(name, names()) or "'attnmask zoo' lists them all"
        raise MaskError(f"there is no mask '{name}' in the zoo", hint=hint)
    return Source(text.decode("utf-8"), f"zoo.{name}")


@lru_cache
def _definition(name: str) -> Function:
    """The definition named like its file; the others of the file are its own affair."""
    source = _source(name)
    program: tree.Program = parse(source)
    value = elaborate(program, source, prelude(), lookup).bindings[name].value
    assert isinstance(value, Function), f"{source.name} is a definition"
    return value
