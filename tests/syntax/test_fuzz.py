"""Whatever is typed ends in a mask or a MaskError, and nothing of the text is ever run."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

import attnmask as am
from attnmask.errors import MaskError
from tests.syntax.patience import at_most

TABLES = {
    "doc": np.array([0, 0, 1, 1, 2, 2]),
    "adj": np.eye(3, dtype=bool),
    "bias": np.array([0.5, 1, 2, 3, 4, 5]),
    "n": np.array(3),
}
VALID = [
    "causal & (window(3) | sink(2))",
    "let w = 3\ndef f(x, of=i) = recent(x, of=of) | sink(x)\nf(w) & same(doc)",
    "heads(:2) & causal | heads(2:) & window(2)",
    "causal & adj[doc[q], doc[k]] with softcap(30), s - 0.5 * abs(q - k) + bias[k]",
    "global(i % 3 == 0) ^ same(i // 4) - diagonal",
    "rows(i in 2:5) & not cols(i not in 1:n)",
    "def f(g, n) = same(g // n)\nf(i, 4) and strided(2) or before(i // 2, strict=true)",
    "where(k < q & k > 2, q, k) % 3 == 0 & -1 < q // 2 <= max(k, 3, n) # end",
    "prefix(3) & dilated(4, 2) & ~tail(2) & band(-1, 2) & zoo.streaming_llm(1, 2)",
]
WORDS = """
q k h b i s Q K B H causal window sink recent band tail prefix rows cols global same before chunk dilated strided
heads clip softcap abs min max where tanh exp log let def with in not and or true false of strict doc adj bias n x f
( ) ( ) [ ] , , : = == != <= >= < > & | ^ + - * / // % ~ ; # \\ . zoo zoo.streaming_llm ' " ! ? @ { } é
0 1 2 3 7 64 4k 9223372036854775807 4611686018427387904 1.5 0.0
"""
TOKENS = [*WORDS.split(), "\n", "\r\n", "\t", "\0", "\r"]
PIECES = re.compile(r"[A-Za-z_][\w.]*|\d[\w.]*|//|[<>=!]=|\s|.", re.DOTALL)


def settle(text: str) -> None:
    """Compiles, binds and evaluates; any other end than a mask or a MaskError fails the test."""
    with at_most(10):
        try:
            mask = am.compile(text)
            mask = mask.bind(**{name: TABLES[name] for name in mask.unbound if name in TABLES})
            dense = mask.dense(6, 5, batch=2, heads=3)
        except MaskError as error:
            shown = str(error)
            assert shown.startswith(error.message)
            assert error.span is None or 0 <= error.span.start <= len(text)
            return
    assert dense.shape == (2, 3, 6, 5)
    assert dense.dtype == np.bool_


def soups() -> SearchStrategy[str]:
    joined = st.sampled_from([" ", " ", ""])
    return st.tuples(joined, st.lists(st.sampled_from(TOKENS), max_size=16)).map(lambda t: t[0].join(t[1]))


@st.composite
def mutated(draw: DrawFn) -> str:
    """A valid program in which some tokens are left out, doubled, exchanged or replaced."""
    pieces = PIECES.findall(draw(st.sampled_from(VALID)))
    for _ in range(draw(st.integers(1, 4))):
        here, there = (draw(st.integers(0, len(pieces) - 1)) for _ in range(2))
        match draw(st.sampled_from(["delete", "double", "swap", "replace"])):
            case "delete" if len(pieces) > 1:
                del pieces[here]
            case "double":
                pieces.insert(here, pieces[here])
            case "swap":
                pieces[here], pieces[there] = pieces[there], pieces[here]
            case _:
                pieces[here] = draw(st.sampled_from(TOKENS))
    return "".join(pieces)


@pytest.mark.parametrize("text", VALID)
def test_the_programs_that_are_mutated_are_valid(text: str) -> None:
    mask = am.compile(text)
    mask.bind(**{name: TABLES[name] for name in mask.unbound}).dense(6, 5, batch=2, heads=3)


@given(st.text())
@example("\ud800")
@example("\x00")
@example("\ufeffcausal")
@example("causal\rsink(3)")
@example("causal\u2028& none")
def test_any_characters(text: str) -> None:
    settle(text)


@given(soups())
def test_any_tokens(text: str) -> None:
    settle(text)


@given(mutated())
def test_mutated_programs(text: str) -> None:
    settle(text)


ATTEMPTS = [
    "__import__",
    "__import__('os').system('true')",
    "__import__(os)",
    "os",
    "os.system(1)",
    "sys.exit(3)",
    "eval(q)",
    "exec(q)",
    "open(q)",
    "print(q)",
    "q.__class__",
    "q.__class__.__mro__[1]",
    "causal.dense(3)",
    "causal.__globals__",
    "doc.shape",
    "zoo.__class__",
    "zoo.__init__",
    "zoo.catalog",
    "zoo.json",
    "zoo.*",
    "zoo...window",
    "lambda: q",
    "[q for q in k]",
    "{q}",
    "{0.__class__}",
    "f'{q}'",
    "%s",
    "%(q)s",
    "$(true)",
    "`true`",
    "q if k else h",
    "q := 3",
    "import os",
    "def __init__(x) = x\n__init__.__globals__",
    "let __builtins__ = 3\n__builtins__.eval",
    "self", "predicate", "np", "None", "__name__",
]  # fmt: skip


@pytest.mark.parametrize("text", ATTEMPTS)
def test_text_is_never_python(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    am.compile(
        "causal & zoo.streaming_llm(1, 2)"
    )  # parser, library and zoo are loaded before the doors close

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("text reached Python")

    for name in ("eval", "exec", "compile", "open"):
        monkeypatch.setattr(f"builtins.{name}", refuse)
    with pytest.raises(MaskError):
        am.compile(text).dense(3)


@pytest.mark.parametrize("name", ["__import__", "os", "eval", "exec", "self", "text", "__class__", "dtype"])
def test_names_that_python_knows_are_only_names(name: str) -> None:
    mask = am.compile(f"same({name})")
    assert mask.unbound == (name,)
    assert mask.bind(**{name: [0, 0, 1]}).dense(3).tolist() == [[True, True, False]] * 2 + [
        [False, False, True]
    ]
    if name != "self":
        assert am.compile(f"same({name})", **{name: [0, 0, 1]}) == mask.bind(**{name: [0, 0, 1]})


def test_only_generated_source_is_executed() -> None:
    """exec stands in one place, which gives it source that was made from IR; eval stands nowhere."""
    package = Path(am.__file__).parent
    found = {
        (path.relative_to(package).as_posix(), node.func.id)
        for path in package.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("eval", "exec")
    }
    assert found == {("lower/functions.py", "exec")}
