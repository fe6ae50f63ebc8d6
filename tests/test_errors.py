"""What a user reads when something is wrong: the message, the caret, the hint.

Each case marks the place at fault in its text: «…» stands around what the carets underline. The whole message
is a golden file; the place is checked apart from it, so that --update-golden cannot hide a caret that moved.
"""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest

import attnmask as am
from attnmask.errors import MaskError, Place, Source, Span, did_you_mean, excerpt

Golden = Callable[[str, str], None]
IDS = np.array([0, 0, 0, 1, 1, 2, 2, 2])


@dataclass(frozen=True)
class Case:
    """A marked text, what it is bound to, the call of `dense`, and words of the message and the hint."""

    text: str
    message: str
    hint: str | None = None
    bound: dict[str, object] = field(default_factory=dict)
    call: dict[str, object] = field(default_factory=dict)

    @property
    def plain(self) -> str:
        return self.text.replace("«", "").replace("»", "")

    @property
    def span(self) -> Span | None:
        start, end = self.text.find("«"), self.text.find("»")
        return Span(start, end - 1) if start >= 0 else None


CASES = {
    # names
    "unknown_mask": Case("causal & «causl»", "unknown name 'causl'", "did you mean 'causal'?"),
    "unknown_function": Case("«windw»(3)", "unknown name 'windw'", "did you mean 'window'?"),
    "unknown_far": Case("causal & «xyzzy»", "unknown name 'xyzzy'"),
    "unknown_own": Case("let documents = 3\n«documets»(3)", "unknown name", "'documents'"),
    "unknown_third_line": Case("# first\nlet n = 3\ncausal &\n  «snk»(n)", "unknown name 'snk'", "'sink'"),
    "unknown_in_let": Case("let m = causal & «foo»\nm", "unknown name 'foo'"),
    "unknown_zoo": Case("causal & «zoo.longformr»", "no mask 'longformr'", "longformer"),
    "recursion": Case("def f(x) = «f»(x)\nf(3)", "the definition of 'f' uses itself"),
    "complement_of_index": Case("~«q» == k", "'~' is for masks", "~(q == k)"),
    "score_without_s": Case("causal with «q - k»", "takes no notice of the score", "s +"),
    "reserved_let": Case("«let q = 3»\ncausal", "'q' has a meaning of its own"),
    "reserved_parameter": Case("«def f(k) = sink(k)»\nf(3)", "'k' has a meaning of its own"),
    "reserved_word": Case("let «in» = 3\ncausal", "'in' is a word of the language"),
    "double_parameter": Case("«def f(a, a) = sink(a)»\nf(3)", "'a' stands twice"),
    # kinds of value
    "index_for_mask": Case("causal & «q - k»", "a mask is expected here, not an index", "compare it"),
    "index_as_result": Case("«q - k»", "a mask is expected here, not an index", "compare it"),
    "function_for_mask": Case("causal & «window»", "not a function", "window(…)"),
    "mask_for_index": Case("«causal» == 3", "an index (an integer) is expected here, not a mask"),
    "mask_as_argument": Case("window(«causal»)", "an index (an integer) is expected here, not a mask"),
    "range_for_index": Case("sink(«0:8»)", "an index (an integer) is expected here, not a range"),
    "mask_plus_mask": Case("causal + «sink(3)»", "masks cannot be added", "'|'"),
    "index_minus_mask": Case("«3» - causal", "a mask is expected here, not an index"),
    "token_function_index": Case("same(«q // 64»)", "a token function is expected", "i // 64"),
    "token_function_mask": Case("rows(«causal»)", "a token function is expected here, not a mask"),
    "placeholder_alone": Case("causal & «i» < 3", "'i' stands for a position", "q or k"),
    "token_function_alone": Case("let f = i // 2\ncausal & «f»", "token function", "f(q)"),
    "in_a_mask": Case("q in «causal»", "'in' needs a range", "0:8"),
    "score_in_mask": Case("«s» > 3", "not a score"),
    "slash_in_mask": Case("«q / 2» < k", "an index (an integer) is expected here, not a score", "'//'"),
    "mask_as_score": Case("causal with «sink(3)»", "a score is expected here, not a mask"),
    "scored_in_algebra": Case("let a = causal with s\n«a» & sink(2)", "not a mask with scores"),
    "not_a_table": Case("«causal»[q] == 2", "only a table has entries, and this is a mask"),
    "variable_as_table": Case("«q»[3] == 2", "'q' is not a table"),
    "where_without_mask": Case("«where(1, 2, 3)» == q", "where needs a mask first"),
    # calls
    "too_few_arguments": Case("causal & «window()»", "window needs the argument 'n'", "window(n, of=…)"),
    "too_many_arguments": Case("window(1, i, «3»)", "window takes 2 arguments and got 3", "window(n, of=…)"),
    "unknown_parameter": Case("window(3, «off=i»)", "window has no parameter 'off'", "'of'"),
    "argument_twice": Case("window(3, «n=4»)", "'n' is given twice", "window(n, of=…)"),
    "builtin_count": Case("causal & «abs(q, k)» < 3", "abs takes 1 argument and got 2"),
    "builtin_keyword": Case("abs(«x=q») < 3", "abs has no parameter names"),
    "builtin_kind": Case("«max(q, causal)» < 3", "max needs an index (an integer), and this is a mask"),
    "mask_called": Case("«causal»()", "'causal' cannot be called", "without brackets"),
    # numbers
    "division_by_zero": Case("q // «0» == k", "division by zero"),
    "remainder_by_zero": Case(
        "q % «(3 - 3)»".replace("«(3 - 3)»", "(«3 - 3»)") + " == k", "division by zero"
    ),
    "divisor_may_be_zero": Case("causal & «q // k» < 3", "the divisor can be zero: it lies in 0…7", "max"),
    "number_too_large": Case("q < «9223372036854775808»", "larger than 2**63 - 1"),
    "overflow": Case("«q * 4611686018427387904» < 3", "does not fit into 64 bits", "smaller factors"),
    "constant_overflow": Case("q < 4611686018427387904 * «2»", "does not fit into 64 bits"),
    "setting_zero": Case("causal &\n«q // n» < 3", "division by zero", bound={"n": 0}),
    # tables
    "unbound_table": Case("causal & «same(doc)»", "the table 'doc' is not bound", "doc=FILE"),
    "unbound_entry": Case("causal & «doc[q]» == 1", "the table 'doc' is not bound", "doc=FILE"),
    "unbound_setting": Case("q < «layer»", "'layer' is not bound", "layer=…"),
    "unbound_typo": Case(
        "same(doc) & «dco[q]» == 1", "the table 'dco' is not bound", "'doc'", bound={"doc": IDS}
    ),
    "table_too_short": Case(
        "causal & «same(doc)»",
        "'doc' has 8 entries and entry 9 is asked for",
        "longer",
        {"doc": IDS},
        {"q_len": 10},
    ),
    "index_past_the_end": Case("«doc[q + 1]» == 1", "entry 8 is asked for", "min(…, n - 1)", {"doc": IDS}),
    "index_below_zero": Case("«doc[q - 1]» == 1", "entry -1 is asked for", "max(…, 0)", {"doc": IDS}),
    "index_along_a_dimension": Case(
        "«adj[doc[q], doc[k]]»",
        "2 entries along dimension 0",
        "clip",
        {"doc": IDS, "adj": np.ones((2, 3), bool)},
    ),
    "table_of_another_dimension": Case(
        "causal & «adj[q]» == 1",
        "1 index and its table has 3 dimensions",
        None,
        {"adj": np.ones((2, 2, 2), int)},
    ),
    "table_for_a_number": Case("q < «n»", "used with no indices", "n[q] or n[k]", {"n": IDS}),
    "number_for_a_table": Case("«same(doc)»", "used with 1 index", None, {"doc": 3}),
    "floats_in_a_mask": Case("«same(doc)»", "'doc' holds floats", "scores", {"doc": IDS / 2}),
    "integers_for_truth": Case("causal & «doc[q]»", "truth values are needed", "!= 0", {"doc": IDS}),
    "text_as_table": Case("same(doc)", "the table 'doc' holds", None, {"doc": "abc"}),
    "no_such_table": Case("causal & same(docs)", "the mask has no table 'doc'", "'docs'", {"doc": IDS}),
    # lengths
    "length_zero": Case("causal", "q_len must be at least 1", None, {}, {"q_len": 0}),
    "length_negative": Case("causal", "kv_len must be at least 1", None, {}, {"kv_len": -3}),
    "length_not_integer": Case("causal", "q_len must be an integer", None, {}, {"q_len": 2.5}),
    "offset_negative": Case("causal", "q_offset", None, {}, {"q_offset": -1}),
    "heads_missing": Case("causal & «h» < 2", "depends on the heads", "heads=…"),
    "batch_missing": Case("causal & «b» == 0", "depends on the batch rows", "batch=…"),
    # text
    "empty": Case("", "empty", "causal"),
    "only_comment": Case("# nothing\n", "the text has no mask", "expression"),
    "only_definitions": Case("let n = 3", "the text has no mask", "expression"),
    "two_expressions": Case("«causal»\nsink(3)", "only the last line may be an expression", "let NAME"),
    "unclosed": Case("causal & (window(512)« »", "ends too early", "1 '(' is not closed"),
    "unopened": Case("window(512)«)»", "')' is not expected here", "no '('"),
    "ends_with_operator": Case("causal &« »", "ends too early"),
    "no_operator": Case("causal «window»(3)", "'window' is not expected here"),
    "doubled_and": Case("causal &«&» sink(3)", "'&' is not expected here", "single '&'"),
    "exclamation": Case("«!»causal", "'!' is not expected here", "'~'"),
    "single_equals": Case("q «=» k", "'=' is not expected here", "'=='"),
    "power": Case("q *«*» 2 < 3", "'*' is not expected here", "no power"),
    "quotes": Case("same(«'»doc')", "is not expected here", "without quotes"),
    "letters": Case("ca«ü»sal", "'ü' is not expected here"),
    "tab_before": Case("\tcausal\t& «foo»(3)", "unknown name 'foo'"),
    "crlf": Case("let n = 3\r\ncausal &\r\n«snk»(n)\r\n", "unknown name 'snk'", "'sink'"),
    "step_in_range": Case("heads(0:8«:»2)", "':' is not expected here"),
}


def fault(case: Case) -> MaskError:
    with pytest.raises(MaskError) as caught:
        call: dict[str, object] = {"q_len": 8, **case.call}
        am.compile(case.plain, **case.bound).dense(**call)  # type: ignore[arg-type]  # wrong types are among the cases
    return caught.value


@pytest.mark.parametrize("name", CASES)
def test_message(name: str, golden: Golden) -> None:
    case = CASES[name]
    error = fault(case)
    assert case.message in error.message
    assert "\n" not in error.message
    assert not error.message.endswith(".")
    if case.hint is not None:
        assert error.hint is not None
        assert case.hint in error.hint
    golden(f"errors/{name}.txt", f"{case.plain!r}\n\n{error}\n")


@pytest.mark.parametrize("name", CASES)
def test_place(name: str) -> None:
    case = CASES[name]
    error = fault(case)
    if case.span is None:
        assert error.place is None
        return
    assert error.source is not None
    if case.text.endswith("« »"):  # at the end of the text the caret stands behind the last character
        assert error.span == Span(len(case.plain) - 1, len(case.plain))
        assert error.source.text == case.plain
        return
    assert error.source.text == case.plain
    assert error.span == case.span


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.span is not None])
def test_carets_stand_below_the_fault(name: str) -> None:
    case = CASES[name]
    lines = str(fault(case)).splitlines()
    carets = next(line for line in lines if line.strip(" ^") == "" and "^" in line)
    shown = lines[lines.index(carets) - 1]
    marked = case.text[case.text.index("«") + 1 : case.text.index("»")].splitlines()[0]
    assert shown[carets.index("^") : len(carets)].strip() == marked.strip()


def test_a_mask_error_is_a_value_error() -> None:
    assert issubclass(MaskError, ValueError)
    with pytest.raises(ValueError, match="causl"):
        am.compile("causl")


def test_nothing_is_chained() -> None:
    """The reader sees one error, without "during handling of the above exception"."""
    for text in (
        "causl",
        "causal &",
        "q // 0 < k",
        "window()",
        "ü",
        "same(i",
        "abs(q, k) < 3",
        "9" * 30 + " < q",
    ):
        with pytest.raises(MaskError) as caught:
            am.compile(text)
        assert caught.value.__cause__ is None
        assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_errors_can_be_copied_and_pickled() -> None:
    with pytest.raises(MaskError) as caught:
        am.compile("causal & causl")
    for other in (
        copy.copy(caught.value),
        copy.deepcopy(caught.value),
        pickle.loads(pickle.dumps(caught.value)),
    ):
        assert str(other) == str(caught.value)
        assert (other.message, other.hint, other.place) == (
            caught.value.message,
            caught.value.hint,
            caught.value.place,
        )


# ---- the excerpt --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("before", [0, 1, 50, 99, 100, 101, 5000])
@pytest.mark.parametrize("after", [0, 1, 50, 99, 100, 101, 5000])
def test_long_lines_are_cut_around_the_fault(before: int, after: int) -> None:
    text = "a" * before + "XYZ" + "b" * after
    shown, carets = excerpt(Place(Source(text), Span(before, before + 3))).splitlines()
    assert len(shown) < 110
    assert shown[carets.index("^") : len(carets)] == "XYZ"
    assert shown.strip(" …") in text
    assert ("…" in shown) == (len(text) > 100)


def test_a_fault_over_several_lines_shows_the_first() -> None:
    text = "causal &\nsame(\ni // 2\n)"
    assert excerpt(Place(Source(text), Span(9, len(text)))) == "  line 2: same(\n          ^^^^^"


@pytest.mark.parametrize("end", [0, 6, 7, 100])
def test_a_place_past_the_end_has_a_caret(end: int) -> None:
    assert "^" in excerpt(Place(Source("causal"), Span(end, end)))


def test_unprintable_characters_are_not_printed() -> None:
    for text in ("causal\0", "causal \x1b[31m", "caus\ral", "\x07"):
        with pytest.raises(MaskError) as caught:
            am.compile(text)
        assert all(character == "\n" or character.isprintable() for character in str(caught.value)), text


def test_did_you_mean() -> None:
    assert did_you_mean("causl", ["window", "causal"]) == "did you mean 'causal'?"
    assert did_you_mean("xyzzy", ["window", "causal"]) is None
    assert did_you_mean("causl", []) is None
