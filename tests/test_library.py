"""The library in Python: every function against plain loops, its documentation, and arguments of every kind."""

from __future__ import annotations

import ast
import inspect
import math
import pydoc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import attnmask as am
from attnmask import library
from attnmask.functions.kinds import Kind, parameter_kinds
from attnmask.ir.evaluate import evaluate
from attnmask.ir.prelude import prelude
from attnmask.ir.values import Function

Holds = Callable[[int, int, int, int], bool]
# Calls that are wrong on purpose: the stub tells type checkers so.
untyped: Any = library
DOC = [0, 0, 1, 1, 1, 3, 3, 2, 2, 2, 2, 7, 7]
FLAG = [i % 3 == 1 for i in range(13)]
LENGTHS = [(1, 1, 0), (2, 2, 0), (13, 13, 0), (1, 13, 12), (4, 13, 9), (13, 6, 0)]

# A value of the library, and whether query q sees key k of n for head h.
MEANINGS: list[tuple[str, Any, Holds]] = [
    ("all", library.all, lambda q, k, n, h: True),
    ("none", library.none, lambda q, k, n, h: False),
    ("causal", library.causal, lambda q, k, n, h: q - k >= 0),
    ("diagonal", library.diagonal, lambda q, k, n, h: q == k),
    ("window", library.window(1), lambda q, k, n, h: q == k),
    ("window", library.window(4), lambda q, k, n, h: abs(q - k) < 4),
    ("window", library.window(2, of="i // 3"), lambda q, k, n, h: abs(q // 3 - k // 3) < 2),
    ("window", library.window(2, DOC), lambda q, k, n, h: abs(DOC[q] - DOC[k]) < 2),
    ("recent", library.recent(4), lambda q, k, n, h: k in range(q - 3, q + 1)),
    ("recent", library.recent(2, of=DOC), lambda q, k, n, h: 0 <= DOC[q] - DOC[k] < 2),
    ("band", library.band(-2, 3), lambda q, k, n, h: q - k in (-2, -1, 0, 1, 2, 3)),
    ("band", library.band(lo=2, hi=1), lambda q, k, n, h: False),
    ("sink", library.sink(3), lambda q, k, n, h: k in (0, 1, 2)),
    ("sink", library.sink("h + 1"), lambda q, k, n, h: k <= h),
    ("tail", library.tail(2), lambda q, k, n, h: k in (n - 2, n - 1)),
    ("prefix", library.prefix(5), lambda q, k, n, h: k <= q or k < 5),
    ("rows", library.rows("i < 2"), lambda q, k, n, h: q < 2),
    ("rows", library.rows(FLAG), lambda q, k, n, h: FLAG[q]),
    ("cols", library.cols("i % 4 == 3"), lambda q, k, n, h: k % 4 == 3),
    ("cols", library.cols(FLAG), lambda q, k, n, h: FLAG[k]),
    ("global_", library.global_("i == 0"), lambda q, k, n, h: q == 0 or k == 0),
    ("global_", library.global_(FLAG), lambda q, k, n, h: FLAG[q] or FLAG[k]),
    ("same", library.same("i // 4"), lambda q, k, n, h: q // 4 == k // 4),
    ("same", library.same(DOC), lambda q, k, n, h: DOC[q] == DOC[k]),
    ("before", library.before(DOC), lambda q, k, n, h: DOC[k] <= DOC[q]),
    ("before", library.before("i // 4", strict=True), lambda q, k, n, h: k // 4 < q // 4),
    ("before", library.before("i // 4", False), lambda q, k, n, h: k // 4 <= q // 4),
    ("before", library.before("i", strict=library.heads(slice(1))), lambda q, k, n, h: k < q + (h > 0)),
    ("chunk", library.chunk(5), lambda q, k, n, h: q // 5 == k // 5),
    ("dilated", library.dilated(3, 2), lambda q, k, n, h: q - k in (-4, -2, 0, 2, 4)),
    ("dilated", library.dilated(2, step=1), lambda q, k, n, h: abs(q - k) < 2),
    ("strided", library.strided(3), lambda q, k, n, h: abs(q - k) % 3 == 0),
    ("heads", library.heads(slice(0, 2)), lambda q, k, n, h: h in (0, 1)),
    ("heads", library.heads(slice(2, None)), lambda q, k, n, h: h >= 2),
    ("heads", library.heads(slice(None)), lambda q, k, n, h: True),
    ("heads", library.heads(range(1, 3)), lambda q, k, n, h: h in (1, 2)),
    ("heads", library.heads(1), lambda q, k, n, h: h == 1),
]


@pytest.mark.parametrize(("name", "mask", "holds"), MEANINGS, ids=[f"{m[0]}-{m[1]}" for m in MEANINGS])
def test_value_is_what_it_says(name: str, mask: am.Mask, holds: Holds) -> None:
    for q_len, kv_len, offset in LENGTHS:
        expected = [
            [[holds(q, k, kv_len, h) for k in range(kv_len)] for q in range(offset, offset + q_len)]
            for h in range(3)
        ]
        np.testing.assert_array_equal(mask.dense(q_len, kv_len, heads=3, q_offset=offset)[0], expected)


CHOOSING = {"topk_blocks", "topp_blocks", "threshold_blocks", "gate", "topk_tokens", "vertical_slash"}


def test_every_name_has_a_meaning_here() -> None:
    # What chooses from q and k has its tests in tests/lower/choose.
    assert {name for name, _, _ in MEANINGS} | {"softcap"} | CHOOSING == set(dir(library))


def test_softcap_bounds_scores() -> None:
    for cap in (30, 2.5):
        score = library.softcap(cap).score
        scores = np.linspace(-200, 200, 9)
        expected = [cap * math.tanh(one / cap) for one in scores]
        np.testing.assert_allclose(evaluate(score, {}, {}, scores), expected, rtol=1e-12)


def test_python_and_text_make_one_mask() -> None:
    ours = library.causal & (library.window(512, of="doc") | library.sink(4)) - library.heads(slice(0, 8))
    assert ours == am.compile("causal & ((window(512, of=doc) | sink(4)) - heads(0:8))")
    assert hash(~library.chunk(8) ^ library.causal) == hash(am.compile("~chunk(8) ^ causal"))
    assert am.compile("causal with softcap(30)") == library.causal.with_score(library.softcap(30))


def test_composition_is_set_algebra() -> None:
    one, other = library.causal, library.window(3) | library.sink(1)
    a, b = one.dense(9), other.dense(9)
    np.testing.assert_array_equal((one & other).dense(9), a & b)
    np.testing.assert_array_equal((one | other).dense(9), a | b)
    np.testing.assert_array_equal((one ^ other).dense(9), a ^ b)
    np.testing.assert_array_equal((one - other).dense(9), a & ~b)
    np.testing.assert_array_equal((~one).dense(9), ~a)


# ---- arguments ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("n", [np.int32(4), np.int64(4), np.array(4), np.uint8(4)])
def test_integers_of_numpy_are_integers(n: Any) -> None:
    assert library.window(n) == library.window(4)


def test_tables_of_every_kind() -> None:
    torch = pytest.importorskip("torch")
    made = [
        library.same(table)
        for table in (DOC, tuple(DOC), np.array(DOC), torch.tensor(DOC), np.array(DOC, np.int16))
    ]
    assert len(set(made)) == 1
    assert library.window(torch.tensor(4)) == library.window(4)


def test_equal_tables_are_one_table_and_others_are_not() -> None:
    both = library.same(DOC) & library.before(np.array(DOC))
    assert len(both.tables) == 1
    assert len((both & library.same(DOC[::-1])).tables) == 2
    assert both.unbound == ()


def test_a_table_is_copied() -> None:
    table = np.array(DOC)
    mask = library.same(table)
    table[:] = 0
    np.testing.assert_array_equal(mask.dense(13), library.same(DOC).dense(13))


def test_a_table_with_a_row_for_each_batch_row() -> None:
    dense = library.same([DOC, DOC[::-1]]).dense(13)
    np.testing.assert_array_equal(dense[:, 0], [library.same(d).dense(13) for d in (DOC, DOC[::-1])])


def test_names_in_texts_are_bound_later() -> None:
    mask = library.causal & library.same("doc") & library.sink("n")
    assert mask.unbound == ("doc", "n")
    assert mask.bind(doc=DOC, n=3).dense(13).sum() == sum(
        k <= q and DOC[q] == DOC[k] and k < 3 for q in range(13) for k in range(13)
    )


def test_a_mask_as_argument_brings_its_tables() -> None:
    strict = am.compile("flag[q]", flag=FLAG)
    mask = library.before("i", strict=strict)
    assert [name for name, _ in mask.tables] == ["flag"]
    expected = [[k + FLAG[q] <= q for k in range(13)] for q in range(13)]
    np.testing.assert_array_equal(mask.dense(13), expected)


WRONG: list[tuple[Callable[[], object], str, str | None]] = [
    (lambda: untyped.window(), "window needs the argument 'n'", "write window"),
    (lambda: untyped.window(1, 2, 3), "window takes 2 arguments and got 3", "write window"),
    (lambda: untyped.window(1, off=2), "window has no parameter 'off'", "did you mean 'of'?"),
    (lambda: untyped.window(1, n=2), "the parameter 'n' is given twice", "write window"),
    (lambda: untyped.window(2.5), "'n' of window cannot be 2.5", "an integer"),
    (lambda: untyped.window(None), "'n' of window cannot be None", "an integer"),
    (lambda: untyped.window(True), "an index (an integer) is expected here, not a mask", None),
    (lambda: untyped.window([1, 2]), "'n' of window cannot be an array", "'n[h]'"),
    (lambda: untyped.window(2**70), "does not fit into 64 bits", None),
    (lambda: untyped.window("4 +"), "the text ends too early", None),
    (lambda: untyped.window(""), "an argument is one expression", None),
    (lambda: untyped.window("let n = 4"), "an argument is one expression", None),
    (lambda: untyped.same(3), "a token function is expected here, not an index", "a table's name alone"),
    (lambda: untyped.same(lambda i: i), "'f' of same cannot be a function", "text in i"),
    (lambda: untyped.same(["a"]), "the table 'f' holds", None),
    (lambda: untyped.same([[1], [2, 3]]), "not an array of numbers", None),
    (lambda: untyped.same([0.5]), "floats", None),
    (lambda: untyped.same("doc), f("), "')' is not expected here", None),
    (lambda: untyped.rows([1, 2]), "holds int64 values, and truth values are needed", None),
    (lambda: untyped.rows(library.causal), "a token function is expected here, not a mask", None),
    (lambda: untyped.heads(slice(0, 8, 2)), "cannot be a range with steps", None),
    (lambda: untyped.heads(slice(-2, None)), "cannot be a range that ends at -2", "from 0"),
    (lambda: untyped.heads(slice("a", None)), "cannot be a range that ends at 'a'", None),
    (lambda: untyped.heads(library.causal), "'in' needs a range, and this is a mask", None),
    (lambda: untyped.chunk(0), "division by zero", None),
    (lambda: untyped.softcap(library.causal), "a score is expected here, not a mask", None),
    (
        lambda: untyped.before("i", strict=am.compile("causal with softcap(3)")),
        "cannot be a mask that modifies scores",
        "with_score",
    ),
]


@pytest.mark.parametrize(("call", "says", "hint"), WRONG, ids=[wrong[1] for wrong in WRONG])
def test_wrong_arguments_get_a_sentence(call: Callable[[], object], says: str, hint: str | None) -> None:
    with pytest.raises(am.MaskError) as caught:
        call()
    assert says in caught.value.message
    if hint is not None:
        assert caught.value.hint is not None
        assert hint in caught.value.hint


def test_faults_are_shown_in_the_call() -> None:
    with pytest.raises(am.MaskError) as caught:
        untyped.window(8, of=library.causal)
    assert str(caught.value).splitlines()[1:3] == ["  window(8, of=k <= q)", "               ^^^^^^"]


def test_two_arguments_with_different_tables_of_one_name() -> None:
    masks = [am.compile("flag[q]", flag=flags) for flags in (FLAG, FLAG[::-1])]
    with pytest.raises(am.MaskError, match="bind 'flag' to different tables"):
        _ = library.before("i", masks[0]) & library.before("i", masks[1])


# ---- what Python shows -------------------------------------------------------------------------------


def functions() -> dict[str, Callable[..., Any]]:
    return {name: value for name in dir(library) if callable(value := getattr(library, name))}


def test_names_are_those_of_the_prelude_that_make_masks_or_scores() -> None:
    assert {name.rstrip("_") for name in dir(library)} == prelude().keys() - {"clip"}
    with pytest.raises(AttributeError, match="no 'windows'; did you mean 'window'"):
        _ = untyped.windows


@pytest.mark.parametrize("name", sorted(functions()))
def test_function_has_documentation_and_signature(name: str) -> None:
    function = functions()[name]
    definition = prelude()[name.rstrip("_")].value
    assert isinstance(definition, Function)
    parameters = [parameter.name for parameter in definition.definition.parameters]
    assert function.__name__ == name
    assert function.__module__ == "attnmask.library"
    assert function.__doc__ is not None
    assert not function.__doc__.startswith("\n")
    for parameter in parameters:
        assert f"\n    {parameter}: " in function.__doc__
    assert list(inspect.signature(function).parameters) == parameters


def test_documentation_is_the_comment_above_the_definition() -> None:
    assert functions()["sink"].__doc__ == (
        "The first n keys.\n\nArgs:\n    n: An integer, or text such as 'h' or 'n[b]'."
    )
    assert str(inspect.signature(functions()["window"])) == "(n, of='i') -> attnmask.mask.Mask"
    assert inspect.signature(functions()["before"]).parameters["strict"].default is False
    assert inspect.signature(functions()["softcap"]).return_annotation is am.ScoreMod


def test_help_lists_every_function() -> None:
    text = pydoc.plain(pydoc.render_doc(library))
    assert "window(n, of='i')" in text
    assert "The first n keys." in text


KINDS = {
    "window": {"n": Kind.INDEX, "of": Kind.TOKENS},
    "before": {"f": Kind.TOKENS, "strict": Kind.MASK},
    "rows": {"p": Kind.FLAGS},
    "global": {"p": Kind.FLAGS},
    "chunk": {"n": Kind.INDEX},
    "heads": {"r": Kind.RANGE},
    "softcap": {"c": Kind.SCORE},
    "clip": {"x": Kind.INDEX, "lo": Kind.INDEX, "hi": Kind.INDEX},
}


@pytest.mark.parametrize("name", KINDS)
def test_kinds_of_parameters(name: str) -> None:
    value = prelude()[name].value
    assert isinstance(value, Function)
    assert parameter_kinds(value) == KINDS[name]


STUB_NAMES = {
    Kind.INDEX: "Integer",
    Kind.SCORE: "Number",
    Kind.MASK: "Truth",
    Kind.RANGE: "Range",
    Kind.TOKENS: "Tokens",
    Kind.FLAGS: "Flags",
    Kind.UNITS: "Units",
    Kind.AMOUNT: "Amount",
    Kind.WORD: "Word",
}


def test_the_stub_says_what_the_prelude_says() -> None:
    stub = ast.parse(Path(library.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    masks = {ast.unparse(node) for node in stub.body if isinstance(node, ast.AnnAssign)}
    assert masks == {f"{name}: Mask" for name in dir(library) if name not in functions()}
    expected = set()
    for name, function in functions().items():
        value = prelude()[name.rstrip("_")].value
        assert isinstance(value, Function)
        shown = []
        for parameter, kind in parameter_kinds(value).items():
            default = inspect.signature(function).parameters[parameter].default
            ending = "" if default is inspect.Parameter.empty else f"={default!r}"
            shown.append(f"{parameter}: {STUB_NAMES[kind]}{ending}")
        returned = inspect.signature(function).return_annotation.__name__
        expected.add(f"def {name}({', '.join(shown)}) -> {returned}:\n    ...")
    found = {ast.unparse(node) for node in stub.body if isinstance(node, ast.FunctionDef)}
    assert found == expected
