from __future__ import annotations

import attnmask as am
from attnmask.cli.outline import outline
from attnmask.errors import Source
from attnmask.syntax.parse import parse


def test_a_shared_part_is_shown_once() -> None:
    lines = list(outline(am.compile("2 <= q - k < 9").predicate))
    assert [line.strip() for line in lines] == [
        "And",
        "Compare 2 <= …",
        "Add   #1",
        "Var q",
        "Mul",
        "Const -1",
        "Var k",
        "Compare … < 9",
        "#1",
    ]


def test_sharing_keeps_a_graph_small() -> None:
    lines = ["let a0 = q * k", *(f"let a{i + 1} = a{i} * q + a{i} * k" for i in range(60)), "a60 == 0"]
    assert len(list(outline(am.compile("\n".join(lines)).predicate))) <= 401


def test_long_outlines_are_cut() -> None:
    lines = list(outline(parse(Source(" | ".join(f"k == {i}" for i in range(1000))))))
    assert len(lines) == 401
    assert lines[-1] == "…"


def test_statements_and_names() -> None:
    text = "let w = 4\ndef f(n, of=i) = window(n, of=of)\nf(w, of=i // 2) & h in :2"
    assert list(outline(parse(Source(text)))) == [
        "Program …",
        "  Let w 4",
        "  Def f …",
        "    Parameter n",
        "    Parameter of i",
        "    Call window",
        "      Name n",
        "      of=Name of",
        "  Logic &",
        "    Call f",
        "      Name w",
        "      of=Product i",
        "        // Number 2",
        "    Comparison h",
        "      in Range 2",
    ]
