"""Texts that are too long, too deep or that grow when expanded: a mask or a MaskError, and soon."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest

import attnmask as am
from attnmask.errors import MaskError
from attnmask.syntax.parse import LONGEST_TEXT, MOST_STATEMENTS, MOST_TOKENS
from tests.syntax.patience import at_most

MEGABYTE = 1_000_000
# Long enough that a hang shows, and far above what a busy machine needs.
SECONDS = 10.0


def outcome(text: str) -> str:
    """The message of the MaskError that `text` ends in, or "" for a mask."""
    with at_most(SECONDS):
        try:
            mask = am.compile(text)
            if not mask.unbound:
                mask.dense(3, heads=2, batch=2)
            str(mask)
        except MaskError as error:
            str(error)
            return error.message
    return ""


def chained(link: str, first: str = "", last: str = "") -> Callable[[int], str]:
    return lambda size: first + link * ((size - len(first) - len(last)) // len(link)) + last


def numbered(
    link: Callable[[int], str], first: str = "", last: str = "", joiner: str = ""
) -> Callable[[int], str]:
    """Links that count, about as many as fit."""

    def build(size: int) -> str:
        count = (size - len(first) - len(last)) // (len(link(10_000)) + len(joiner))
        return first + joiner.join(link(number) for number in range(1, count)) + last

    return build


SHAPES: dict[str, Callable[[int], str]] = {
    "one long chain": chained("causal|", last="causal"),
    "chain of xor": numbered(lambda n: f"(q<{n})", joiner="^"),
    "chain of comparisons": chained("q<k<", last="q"),
    "sum": chained("q+", last="q<3"),
    "sum of distinct terms": numbered(lambda n: f"q%{n}", joiner="+", last="<3"),
    "product": chained("q*", last="q<3"),
    "remainders": chained("%3", first="q", last="<3"),
    "quotients": chained("//2", first="q", last="<3"),
    "bits": numbered(lambda n: f"q%{n}", joiner="^", first="(", last=")<3"),
    "many comparisons of one long sum": lambda size: (
        numbered(lambda n: f"q%{n}", joiner="+", first="let a = ")(size // 2)
        + "\n"
        + numbered(lambda n: f"a<{n}", joiner="|")(size // 2)
    ),
    "arguments": chained("q,", first="min(", last="q)<3"),
    "too many arguments": chained("q,", first="window(", last="q)"),
    "named arguments": numbered(lambda n: f"a{n}=1", first="window(", joiner=",", last=")"),
    "parameters and arguments": lambda size: (
        numbered(lambda n: f"a{n}", first="def f(", joiner=",", last=")=a1")(size * 2 // 3)
        + ";f("
        + ",".join(["1"] * len(numbered(lambda n: f"a{n}", joiner=",")(size * 2 // 3 - 10).split(",")))
        + ")<q"
    ),
    "calls": chained("sink(3)|", last="sink(3)"),
    "scores": chained("s+", first="causal with ", last="s"),
    "score entries": chained("s*s,", first="causal with ", last="s"),
    "one long name": chained("a"),
    "one long name defined": lambda size: f"let {'a' * (size // 2 - 10)} = 1\n{'a' * (size // 2 - 10)}b",
    "one long dotted name": chained(".a", first="zoo"),
    "one long number": chained("1", last="<q"),
    "one long real": chained("1", first="causal with 1."),
    "brackets": lambda size: "(" * (size // 2 - 2) + "q<3" + ")" * (size // 2 - 2),
    "closing brackets": chained(")"),
    "complements": chained("~", last="causal"),
    "nested calls": lambda size: "abs(" * (size // 6) + "q" + ")" * (size // 6) + "<3",
    "lets": numbered(lambda n: f"let a{n}=1", joiner=";", last=";causal"),
    "token functions": numbered(lambda n: f"let a{n}=i", joiner=";", last=";causal"),
    "definitions": numbered(lambda n: f"def a{n}()=1", joiner="\n", last="\ncausal"),
    "an unknown name among many": numbered(lambda n: f"let abcdefg{n}=1", joiner=";", last=";abcdefgh"),
    "spaces": chained(" ", last="causal"),
    "spaces after not": chained(" ", first="causal & not", last="causal"),
    "lines": chained("\n", last="causal"),
    "CRLF": chained("\r\n", last="causal"),
    "tabs": chained("\t", last="causal"),
    "semicolons": chained(";", last="causal"),
    "continued lines": chained("\\\n", last="causal"),
    "comment": chained("#", last="\ncausal"),
    "null bytes": chained("\0"),
    "unicode": chained("é∧"),
    "surrogates": chained("\ud800"),
    "quotes": chained("'"),
}


def fits(text: str) -> bool:
    """Whether `text` keeps to the limit on length and to half of those on words and statements."""
    words = len(re.findall(r"\w+|\S|\n", text))
    statements = len(re.findall(r"\b(?:let|def)\b", text))
    return len(text) <= LONGEST_TEXT and words <= MOST_TOKENS // 2 and statements <= MOST_STATEMENTS // 2


def long(build: Callable[[int], str]) -> str:
    """A text of a shape, so long that a step which is quadratic shows, and not refused for its size alone."""
    size = LONGEST_TEXT
    while not fits(text := build(size)):
        size = size * 19 // 20
    return text


@pytest.mark.parametrize("shape", SHAPES)
def test_a_megabyte_is_refused(shape: str) -> None:
    assert "characters and the limit is" in outcome(SHAPES[shape](MEGABYTE))


@pytest.mark.parametrize("shape", SHAPES)
def test_a_long_text_ends_soon(shape: str) -> None:
    message = outcome(long(SHAPES[shape]))
    assert len(message) < 300
    assert "limit is" not in message
    assert "words and signs" not in message


@pytest.mark.parametrize("shape", ["one long chain", "lets", "brackets", "lines", "scores"])
def test_a_text_of_too_many_words_is_refused(shape: str) -> None:
    assert outcome(SHAPES[shape](LONGEST_TEXT - 10))


@pytest.mark.parametrize("count", [10, 1000, 9000])
def test_brackets_alone_are_no_depth(count: int) -> None:
    assert am.compile("(" * count + "causal" + ")" * count) == am.compile("causal")


@pytest.mark.parametrize("opening", ["(", "~", "not ", "-", "abs(", "t[", "sink(", "window(2, of=", "(1 + "])
def test_ten_thousand_brackets(opening: str) -> None:
    closing = ")" if "(" in opening else "]" if "[" in opening else ""
    message = outcome(opening * 10_000 + "causal" + closing * 10_000)
    assert "nested" in message or "words and signs" in message or "limit is" in message


@pytest.mark.parametrize("opening", ["~", "not ", "-", "abs(", "t[", "sink(", "window(2, of=", "(1 + "])
def test_deep_texts_are_refused(opening: str) -> None:
    closing = ")" if "(" in opening else "]" if "[" in opening else ""
    assert "nested" in outcome(opening * 1000 + "q" + closing * 1000)


def test_a_hundred_thousand_lets() -> None:
    assert "limit" in outcome("".join(f"let a{n} = {n}\n" for n in range(100_000)) + "causal")


def doubling(first: str, step: str, last: str, lines: int = 40) -> str:
    """`step` makes definition {n} from two uses of {p}, the one before: 2 ** lines uses of the first."""
    steps = [step.format(n=number, p=number - 1) for number in range(1, lines)]
    return "\n".join([first, *steps, last.format(n=lines - 1)])


BOMBS = {
    "product": doubling("let a0 = q*k", "let a{n} = a{p} * a{p}", "a{n} < 3"),
    "product in definitions": doubling("def a0(x) = q*x", "def a{n}(x) = a{p}(x) * a{p}(k)", "a{n}(q) < 3"),
    "sum": doubling("let a0 = q*k", "let a{n} = a{p} + a{p}", "a{n} < 3", lines=70),
    "bits": doubling("let a0 = q*k", "let a{n} = a{p} ^ (a{p} | 1)", "a{n} < 3"),
    "minimum": doubling("let a0 = q*k", "let a{n} = min(a{p}, max(a{p}, {n}))", "a{n} < 3"),
    "mask": doubling("let a0 = q < k", "let a{n} = a{p} & same(i // {n}) | ~a{p}", "a{n}"),
    "xor": doubling("let a0 = q < k", "let a{n} = a{p} ^ (a{p} | q < {n})", "a{n}"),
    "definitions": doubling("def a0(x) = sink(x)", "def a{n}(x) = a{p}(x) & a{p}(x + 1)", "a{n}(3)"),
    "arguments": doubling("def a0(x) = x", "def a{n}(x) = a{p}(a{p}(x))", "a{n}(q) < 3"),
    "token functions": doubling("let a0 = i", "let a{n} = a{p} // 2 + a{p} % {n}", "same(a{n})"),
    "scores": doubling("def a0(x) = x * x", "def a{n}(x) = a{p}(a{p}(x))", "causal with a{n}(s)"),
    "score entries": "causal with " + ", ".join(["s * s"] * 40),
    "constant": doubling("let a0 = 3", "let a{n} = a{p} * a{p}", "a{n} < q"),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_expansion_is_bounded(bomb: str) -> None:
    assert len(outcome(BOMBS[bomb])) < 300


@pytest.mark.parametrize("lines", [60, 90, 120, 140, 160, 300])
@pytest.mark.parametrize(
    "step", ["min(a{p}, {n}, i // 2)", "a{p} // 3 + a{p} % 7", "where(a{p} < {n}, a{p}, 1)"]
)
def test_deep_definitions_never_exhaust_the_stack(lines: int, step: str) -> None:
    message = outcome(doubling("let a0 = i", "let a{n} = " + step, "rows(a{n} < 3)", lines))
    assert not message or "grows too large" in message or "nested" in message


def test_a_caller_deep_in_the_stack_gets_a_mask_error() -> None:
    def at_depth(depth: int) -> str:
        return (
            at_depth(depth - 1) if depth else outcome(f"{'~' * 90}(causal & same({'(1 + ' * 80}i{')' * 80}))")
        )

    for depth in range(0, 800, 50):
        assert len(at_depth(depth)) < 300
