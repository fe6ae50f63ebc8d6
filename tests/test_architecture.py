"""The layers of the package: which way imports look, who may import what, and how large a file may be.

Every rule is a function from a package's modules to sentences about what breaks it. It is tried on small
packages that break it, and then held against attnmask.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import networkx as nx
import pytest

ROOT = Path(__file__).parents[1]

# Lowest first. A part is a module or a package right under attnmask; it may import the rows above and itself.
LAYERS: tuple[frozenset[str], ...] = (
    frozenset({"errors", "resources"}),
    frozenset({"syntax"}),
    frozenset({"ir"}),
    frozenset({"algebra"}),
    frozenset({"tiles"}),
    frozenset({"lower"}),
    frozenset({"plan"}),
    frozenset({"view"}),
    frozenset(
        {
            "zoo",
            "library",
            "functions",
            "compiling",
            "lifted",
            "mask",
            "programs",
            "provable",
            "choosable",
            "reaching",
            "score_mod",
            "__init__",
        }
    ),
    frozenset({"integrations"}),
    frozenset({"cli"}),
    frozenset({"__main__"}),
)
RANK = {part: rank for rank, layer in enumerate(LAYERS) for part in layer}
# These make up the public face together and may import one another.
FACADE = LAYERS[RANK["mask"]]
# What mask.py may import only inside the methods that need it, so that reading a mask stays quick.
LATE_FOR_MASK = frozenset({"lower", "plan", "view"})
# Where each of these libraries may be imported: a part, or one module of it.
HOMES = {
    "torch": ("attnmask.lower", "attnmask.integrations"),
    "lark": ("attnmask.syntax.parse",),
    "islpy": ("attnmask.algebra",),
    "matplotlib": ("attnmask.view.picture",),
    "transformers": ("attnmask.integrations.transformers",),
}
SLOW_LIBRARIES = ("torch", "matplotlib", "islpy", "networkx", "transformers")
VAGUE_NAMES = frozenset({"utils", "helpers", "common", "base", "misc"})
LONGEST_FILE = 400


class When(Enum):
    """When an import statement runs."""

    LOADING = "at the top"
    CALLING = "inside a function"
    NEVER = "for types only"


@dataclass(frozen=True, slots=True)
class Import:
    target: str
    when: When
    line: int


@dataclass(frozen=True, slots=True)
class Module:
    name: str
    path: Path
    imports: tuple[Import, ...]
    n_lines: int

    @property
    def part(self) -> str:
        return part_of(self.name)

    def at(self, found: Import) -> str:
        return f"{self.name}:{found.line}"


Modules = dict[str, Module]
Rule = Callable[[Modules], list[str]]


def part_of(name: str) -> str:
    """`attnmask.ir.text` -> `ir`; the package itself is `__init__`."""
    return name.split(".")[1] if "." in name else "__init__"


def read_package(folder: Path) -> Modules:
    """The modules below `folder` by their dotted names, each with what it imports."""
    paths = {module_name(path, folder): path for path in sorted(folder.rglob("*.py"))}
    modules = {}
    for name, path in paths.items():
        text = path.read_text(encoding="utf-8")
        parents = name if path.stem == "__init__" else name.rpartition(".")[0]
        imports = tuple(find_imports(ast.parse(text).body, parents, frozenset(paths), When.LOADING))
        modules[name] = Module(name, path, imports, len(text.splitlines()))
    return modules


def module_name(path: Path, folder: Path) -> str:
    parts = [folder.name, *path.relative_to(folder).with_suffix("").parts]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def find_imports(
    body: Iterable[ast.AST], package: str, known: frozenset[str], when: When
) -> Iterator[Import]:
    for node in body:
        match node:
            case ast.Import():
                yield from (Import(alias.name, when, node.lineno) for alias in node.names)
            case ast.ImportFrom():
                origin = absolute(node, package)
                for alias in node.names:
                    # `from package import name` is about the module package.name where there is one.
                    inner = f"{origin}.{alias.name}"
                    yield Import(inner if inner in known else origin, when, node.lineno)
            case ast.If(test=ast.Name(id="TYPE_CHECKING") | ast.Attribute(attr="TYPE_CHECKING")):
                yield from find_imports(node.body, package, known, When.NEVER)
                yield from find_imports(node.orelse, package, known, when)
            case ast.FunctionDef() | ast.AsyncFunctionDef():
                later = When.NEVER if when is When.NEVER else When.CALLING
                yield from find_imports(ast.iter_child_nodes(node), package, known, later)
            case _:
                yield from find_imports(ast.iter_child_nodes(node), package, known, when)


def absolute(node: ast.ImportFrom, package: str) -> str:
    """The dotted name that a from-import names, its leading dots resolved."""
    if node.level == 0:
        assert node.module is not None
        return node.module
    parents = package.split(".")[: len(package.split(".")) - node.level + 1]
    return ".".join([*parents, node.module] if node.module else parents)


def inner_imports(modules: Modules) -> Iterator[tuple[Module, Import]]:
    """Imports of one module of the package by another."""
    for module in modules.values():
        yield from ((module, found) for found in module.imports if found.target in modules)


def rule_known_parts(modules: Modules) -> list[str]:
    return [f"{m.name}: '{m.part}' has no place in LAYERS" for m in modules.values() if m.part not in RANK]


def rule_direction(modules: Modules) -> list[str]:
    broken = []
    for module, found in inner_imports(modules):
        part, target = module.part, part_of(found.target)
        if part == target or {part, target} <= FACADE or part not in RANK or target not in RANK:
            continue
        if RANK[target] >= RANK[part]:
            broken.append(f"{module.at(found)}: {part} may not import {found.target} ({found.when.value})")
    return broken


def rule_late_imports_of_mask(modules: Modules) -> list[str]:
    return [
        f"{module.at(found)}: import {found.target} inside the methods that need it"
        for module, found in inner_imports(modules)
        if module.part == "mask" and part_of(found.target) in LATE_FOR_MASK and found.when is When.LOADING
    ]


def rule_no_cycles(modules: Modules) -> list[str]:
    """No cycle of imports that run on loading; one made with later imports only inside the public face."""
    loading: nx.DiGraph[str] = nx.DiGraph()
    any_time: nx.DiGraph[str] = nx.DiGraph()
    for module, found in inner_imports(modules):
        if found.when is When.LOADING:
            loading.add_edge(module.name, found.target)
        if not {module.part, part_of(found.target)} <= FACADE:
            any_time.add_edge(module.name, found.target)
    cycles = {frozenset(cycle): cycle for graph in (loading, any_time) for cycle in nx.simple_cycles(graph)}
    return ["imports go round: " + " -> ".join([*cycle, cycle[0]]) for cycle in cycles.values()]


def rule_homes(modules: Modules) -> list[str]:
    """Some libraries have one place each; the public face may name torch's types in annotations."""
    broken = []
    for module in modules.values():
        for found in module.imports:
            library = found.target.split(".")[0]
            if library not in HOMES or any(is_within(module.name, home) for home in HOMES[library]):
                continue
            if library == "torch" and found.when is When.NEVER and module.part in FACADE:
                continue
            homes = " and ".join(HOMES[library])
            broken.append(f"{module.at(found)}: {library} belongs in {homes} ({found.when.value})")
    return broken


def is_within(name: str, home: str) -> bool:
    return name == home or name.startswith(f"{home}.")


def rule_names(modules: Modules) -> list[str]:
    return [f"{name}: this name says nothing" for name in modules if VAGUE_NAMES & set(name.split("."))]


def rule_length(modules: Modules) -> list[str]:
    return [
        f"{module.name}: {module.n_lines} lines, and {LONGEST_FILE} is the limit"
        for module in modules.values()
        if module.n_lines > LONGEST_FILE
    ]


RULES: tuple[Rule, ...] = (
    rule_known_parts,
    rule_direction,
    rule_late_imports_of_mask,
    rule_no_cycles,
    rule_homes,
    rule_names,
    rule_length,
)

# A small package that keeps every rule, with every import that the rules must not mistake for a breach.
SOUND = {
    "__init__.py": "from attnmask.mask import compile\n",
    "errors.py": "",
    "syntax/__init__.py": "from .parse import parse\n",
    "syntax/parse.py": "import lark\nfrom ..errors import MaskError\nfrom . import tree\n",
    "syntax/tree.py": "from attnmask import errors\n",
    "lower/__init__.py": "import torch\n",
    "view/picture.py": "def draw():\n    import matplotlib.pyplot\n",
    "mask.py": (
        "from typing import TYPE_CHECKING\n"
        "import attnmask.syntax\n"
        "if TYPE_CHECKING:\n    import torch\n    from attnmask.lower import Block\n"
        "def show():\n    from attnmask import library, view\n    import attnmask.view.picture\n"
    ),
    "library.py": "from attnmask.mask import compile\n",
    "cli/__init__.py": "import attnmask as am\n",
}

BREACHES = [
    (rule_known_parts, {"extra.py": ""}, "attnmask.extra"),
    (
        rule_direction,
        {"errors.py": "import attnmask.syntax.tree"},
        "errors may not import attnmask.syntax.tree",
    ),
    (
        rule_direction,
        {"errors.py": "from attnmask import resources", "resources.py": ""},
        "attnmask.resources",
    ),
    (rule_direction, {"errors.py": "from . import mask"}, "attnmask.mask"),
    (
        rule_direction,
        {"lower/late.py": "def f():\n  from attnmask.mask import compile"},
        "(inside a function)",
    ),
    (rule_direction, {"lower/late.py": "def f():\n  import attnmask"}, "lower may not import attnmask "),
    (
        rule_direction,
        {"ir/a.py": "import typing\nif typing.TYPE_CHECKING:\n  from ..view import picture"},
        "types",
    ),
    (
        rule_direction,
        {"ir/a.py": "try:\n  import attnmask.lower\nexcept ImportError: pass"},
        "attnmask.ir.a:2",
    ),
    (rule_late_imports_of_mask, {"mask.py": "from attnmask.lower import Block"}, "attnmask.mask:1"),
    (
        rule_late_imports_of_mask,
        {"mask.py": "class A:\n  from attnmask.view import picture"},
        "attnmask.mask:2",
    ),
    (rule_no_cycles, {"syntax/tree.py": "from attnmask.syntax import parse"}, "attnmask.syntax.parse"),
    (rule_no_cycles, {"syntax/tree.py": "def f():\n  from .parse import parse"}, "attnmask.syntax.parse"),
    (rule_no_cycles, {"mask.py": "import attnmask.library"}, "attnmask.library"),
    (rule_homes, {"ir/a.py": "def f():\n  import torch.nn"}, "torch belongs in"),
    (rule_homes, {"ir/a.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n  import torch"}, "torch"),
    (rule_homes, {"mask.py": "def f():\n  import torch"}, "attnmask.mask:2"),
    (rule_homes, {"lowering.py": "from torch import nn"}, "attnmask.lowering:1"),
    (rule_homes, {"syntax/tree.py": "from lark.lexer import Token"}, "lark belongs in attnmask.syntax.parse"),
    (rule_homes, {"tiles/a.py": "import islpy as isl"}, "islpy belongs in attnmask.algebra"),
    (rule_homes, {"view/page.py": "from matplotlib import pyplot"}, "matplotlib belongs in"),
    (rule_homes, {"integrations/jax.py": "import transformers"}, "transformers belongs in"),
    (rule_names, {"ir/utils.py": ""}, "attnmask.ir.utils"),
    (rule_names, {"common/a.py": ""}, "attnmask.common.a"),
    (rule_length, {"ir/long.py": "x = 1\n" * (LONGEST_FILE + 1)}, "401 lines"),
]


def package(folder: Path, files: dict[str, str]) -> Modules:
    for name, text in files.items():
        path = folder / "attnmask" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return read_package(folder / "attnmask")


def loaded_by(statement: str) -> set[str]:
    """Which of the slow libraries a fresh interpreter has loaded after `statement`."""
    program = f"{statement}\nimport sys\nprint(*sys.modules.keys() & {set(SLOW_LIBRARIES)!r})"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_rule_accepts_a_sound_package(rule: Rule, tmp_path: Path) -> None:
    assert rule(package(tmp_path, SOUND)) == []


@pytest.mark.parametrize(("rule", "change", "says"), BREACHES)
def test_rule_reports_a_breach(rule: Rule, change: dict[str, str], says: str, tmp_path: Path) -> None:
    broken = rule(package(tmp_path, SOUND | change))
    assert len(broken) == 1
    assert says in broken[0]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_attnmask_keeps_the_rule(rule: Rule) -> None:
    modules = read_package(ROOT / "attnmask")
    assert "attnmask.syntax.parse" in modules
    assert rule(modules) == []


@pytest.mark.parametrize(
    "statement",
    [
        "import attnmask",
        "from attnmask.cli import main",
        "import attnmask; attnmask.compile('causal').dense(4)",
    ],
)
def test_starting_loads_no_slow_library(statement: str) -> None:
    assert loaded_by(statement) == set()


@pytest.mark.parametrize("library", SLOW_LIBRARIES)
def test_a_loaded_library_is_seen(library: str) -> None:
    assert loaded_by(f"import {library}") >= {library}
