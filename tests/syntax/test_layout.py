"""Lines, comments, statements and numbers: how a text may be written."""

from __future__ import annotations

import pytest

import attnmask as am
from attnmask.errors import MaskError, Source
from attnmask.syntax import tree
from attnmask.syntax.parse import parse
from tests.syntax.loops import means

SAME_MASK = [
    "causal & (window(3) | sink(2))",
    "  causal&(window(3)|sink(2))  ",
    "\tcausal\t& (window( 3 ) | sink(2))\t",
    "causal & (window(3) | sink(2));",
    "causal & (window(3) | sink(2));;\n;\n",
    "\n\n  causal & (window(3) | sink(2))\n\n",
    "causal & (window(3) | sink(2)) # & none",
    "# a comment & (\n# another\ncausal & (window(3) | sink(2))\n# last",
    "causal & (\n    window(3)\n    | sink(2)\n)",
    "causal &\nwindow(3) |\ncausal &\nsink(2)",
    "causal &  # the past\n\n  # and near\n  (window(3) | sink(2))",
    "causal \\\n  & (window(3) | sink(2))",
    "causal & (window(\n3,\n) | sink(\n2))",
    "let n = 3; let m = 2\ncausal & (window(n) | sink(m))",
    "let n =\n  3\nlet m = 2\n\n\ncausal & (window(n) | sink(m))",
    "let n = 3\r\nlet m = 2\r\ncausal &\r\n(window(n) | sink(m)) # end\r\n",
    "def near(n) = window(n)\nlet first = sink(2)\ncausal & (near(3) | first)",
    "def both(\n  n,\n  m=2\n) = window(n) |\n  sink(m)\ncausal & both(3)",
    "causal and (window(3) or sink(2))",
]


@pytest.mark.parametrize("text", SAME_MASK)
def test_layout_has_no_meaning(text: str) -> None:
    means(text, lambda q, k: k <= q and (abs(q - k) < 3 or k < 2))


def test_equal_texts_are_equal_masks() -> None:
    masks = {am.compile(text) for text in SAME_MASK if "causal &\nwindow" not in text}
    assert len(masks) == 1


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("007", 7),
        ("12", 12),
        ("1_000", 1000),
        ("1_0_0", 100),
        ("4k", 4096),
        ("1_0k", 10_240),
        ("2m", 2 << 20),
        ("9223372036854775807", 2**63 - 1),
        ("8796093022207m", 8796093022207 << 20),
        ("0" * 5000 + "1", 1),
    ],
)
def test_numbers(text: str, number: int) -> None:
    program = parse(Source(f"q < {text}"))
    assert isinstance(program.result, tree.Comparison)
    last = program.result.rest[0][1]
    assert isinstance(last, tree.Number)
    assert last.value == number


@pytest.mark.parametrize(
    "text", ["4K", "0x10", "4kk", "4km", "1.5k", "1e", "1.0e", "_1k q", "12q", "1 000", ".5"]
)
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(MaskError):
        am.compile(f"q < {text}")


@pytest.mark.parametrize(
    "name", ["letter", "define", "within", "inside", "android", "orbit", "notes", "trueish"]
)
def test_names_may_begin_with_a_word_of_the_language(name: str) -> None:
    means(f"let {name} = 3\nk < {name} & k not in {name}:9", lambda q, k: k < 3)
    means(f"k < 3 & not {name}[q]", lambda q, k: k < 3, **{name: [False] * 12})


@pytest.mark.parametrize("word", ["in", "not", "and", "or", "let", "def", "with", "true", "false"])
def test_words_of_the_language_are_no_names(word: str) -> None:
    for text in (f"let {word} = 3\ncausal", f"def f({word}) = causal\nf(3)", f"k < {word}"):
        with pytest.raises(MaskError):
            am.compile(text)


def test_spans_cover_the_text_of_their_node() -> None:
    text = "let a = 3\ncausal & window( a , of = i // 2 ) | ~sink(4k)"
    program = parse(Source(text))
    found = []
    stack: list[tree.Expr] = [program.result] if program.result is not None else []
    while stack:
        node = stack.pop()
        found.append(text[node.span.start : node.span.end])
        stack.extend(reversed(tree.children(node)))
    assert found == [
        "causal & window( a , of = i // 2 ) | ~sink(4k)",
        "causal & window( a , of = i // 2 )",
        "causal",
        "window( a , of = i // 2 )",
        "a",
        "i // 2",
        "i",
        "2",
        "~sink(4k)",
        "sink(4k)",
        "4k",
    ]
    assert text[program.statements[0].span.start : program.statements[0].span.end] == "let a = 3"


def test_a_tree_is_equal_wherever_it_stands() -> None:
    assert parse(Source("causal & sink(2)")).result == parse(Source("\n  causal  &  sink( 2 )")).result
