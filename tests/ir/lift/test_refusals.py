"""What cannot be lifted is named, with its place in the user's function."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

import attnmask as am
from attnmask.errors import LiftError, MaskError

doc = torch.arange(8) // 3
weights = torch.linspace(0, 1, 8)
limits = [3, 5]
eighths = torch.zeros(8, dtype=torch.float8_e4m3fn)
array = np.arange(8)


def branches(b: Any, h: Any, q: Any, k: Any) -> Any:
    if q > k:
        return q >= k
    return k < 4


def joined(b: Any, h: Any, q: Any, k: Any) -> Any:
    return q >= k and q - k < 5


def chained(b: Any, h: Any, q: Any, k: Any) -> Any:
    return 0 <= q - k < 5


def augmented(b: Any, h: Any, q: Any, k: Any) -> Any:
    ids = doc
    ids += q
    return ids[q] > k


def written(b: Any, h: Any, q: Any, k: Any) -> Any:
    doc[q] = 1
    return doc[q] == doc[k]


def method_in_place(b: Any, h: Any, q: Any, k: Any) -> Any:
    return doc.add_(q)[k] > k


def truth_from_number(b: Any, h: Any, q: Any, k: Any) -> Any:
    mask = q >= k
    mask &= q
    return mask


def item_set(b: Any, h: Any, q: Any, k: Any) -> Any:
    mask = q >= k
    mask[...] = True
    return mask


def rooted(b: Any, h: Any, q: Any, k: Any) -> Any:
    return torch.sqrt(q) > k


def weighted(b: Any, h: Any, q: Any, k: Any) -> Any:
    return weights[q] > 0.5


def divided(b: Any, h: Any, q: Any, k: Any) -> Any:
    return q / (k + 1) > 2


def rounded(b: Any, h: Any, q: Any, k: Any) -> Any:
    return q / 3 + k / 3 < 5


def halved(b: Any, h: Any, q: Any, k: Any) -> Any:
    return q.half() < 5


def from_list(b: Any, h: Any, q: Any, k: Any) -> Any:
    return q - k < limits[h]


def from_numpy(b: Any, h: Any, q: Any, k: Any) -> Any:
    return array[q] == array[k]


def whole_tensor(b: Any, h: Any, q: Any, k: Any) -> Any:
    return (doc == doc[q]).any()


def half_indexed(b: Any, h: Any, q: Any, k: Any) -> Any:
    return doc.view(2, 4)[q] == 1


def over_indexed(b: Any, h: Any, q: Any, k: Any) -> Any:
    return doc[q, k] == 1


def sliced(b: Any, h: Any, q: Any, k: Any) -> Any:
    return doc.view(2, 4)[q, 1:] == 1


def asked(b: Any, h: Any, q: Any, k: Any) -> Any:
    return q.item() > 3


def iterated(b: Any, h: Any, q: Any, k: Any) -> Any:
    return any(q)


def into_another(b: Any, h: Any, q: Any, k: Any) -> Any:
    return torch.add(q, k, out=torch.empty((), dtype=torch.int64)) > 3


def vector(b: Any, h: Any, q: Any, k: Any) -> Any:
    return q.new_zeros((3,)) > q


def remade(b: Any, h: Any, q: Any, k: Any) -> Any:
    return torch.tensor(q) > k


def shifted(b: Any, h: Any, q: Any, k: Any) -> Any:
    return (1 << q) > k


def by_zero(b: Any, h: Any, q: Any, k: Any) -> Any:
    return q // 0 > k


def against_text(b: Any, h: Any, q: Any, k: Any) -> Any:
    return q > "3"


def eight_bits(b: Any, h: Any, q: Any, k: Any) -> Any:
    return eighths[q] > eighths[k]


def faulty(b: Any, h: Any, q: Any, k: Any) -> Any:
    raise KeyError("window")


CASES: list[tuple[Callable[..., Any], str, str]] = [
    (branches, "Python decides here", "q > k"),
    (joined, "Python decides here", "q >= k and q - k < 5"),
    (chained, "Python decides here", "0 <= q - k < 5"),
    (augmented, "'add': a tensor is changed in place", "ids += q"),
    (truth_from_number, "a int64 result does not fit into a bool value", "mask &= q"),
    (item_set, "'setitem': a tensor is changed in place", "mask[...]"),
    (written, "'setitem': a tensor is changed in place", "doc[q]"),
    (method_in_place, "'add': a tensor is changed in place", "doc.add_(q)"),
    (rooted, "'sqrt': this operation cannot be lifted", "torch.sqrt(q)"),
    (weighted, "the tensor 'weights' holds float32 values", "weights[q]"),
    (divided, "a quotient by a number that varies", "q / (k + 1)"),
    (rounded, "arithmetic goes on with a rounded float", "q / 3 + k / 3"),
    (halved, "numbers of type float16 have no integer form", "q.half()"),
    (from_list, "asks here for the number behind a value", "limits[h]"),
    (from_numpy, "the function raises IndexError when it is traced: only integers", "array[q]"),
    (whole_tensor, "the tensor 'doc' of shape (8,) is used as a single value", "doc == doc[q]"),
    (half_indexed, "still has dimensions without an index", "doc.view(2, 4)[q] == 1"),
    (over_indexed, "a tensor with 1 dimensions gets 2 indices", "doc[q, k]"),
    (sliced, "an index is a slice", "doc.view(2, 4)[q, 1:]"),
    (asked, "'.item' cannot be lifted", "q.item"),
    (iterated, "is iterated over", "any(q)"),
    (
        into_another,
        "is written into another tensor",
        "torch.add(q, k, out=torch.empty((), dtype=torch.int64))",
    ),
    (vector, "a constant of shape ((3,),) is made", "q.new_zeros((3,))"),
    (remade, "single value has no length", "torch.tensor(q)"),
    (shifted, "the amount of << may lie in 0…8388607", "(1 << q)"),
    (by_zero, "division by zero", "q // 0"),
    (against_text, "an argument is neither a number nor a tensor", 'q > "3"'),
    (eight_bits, "'getitem'", "eighths[q]"),
    (faulty, "the function raises KeyError when it is traced: 'window'", 'raise KeyError("window")'),
]


@pytest.mark.parametrize(
    ("function", "message", "marked"), CASES, ids=lambda case: getattr(case, "__name__", "")
)
def test_refusals_name_the_operation_and_its_place(
    function: Callable[..., Any], message: str, marked: str
) -> None:
    before = doc.clone()
    with pytest.raises(LiftError) as caught:
        am.lift(function)
    error = caught.value
    assert message in error.message
    line = function.__code__.co_firstlineno
    assert f"({function.__name__}, test_refusals.py line " in error.message
    assert error.span is not None and error.source is not None
    assert error.source.text[error.span.start : error.span.end].strip("()") == marked.strip("()")
    assert 0 < error.source.text.count("\n", 0, error.span.start) + 1 - line < 5
    assert "^" in str(error)
    assert torch.equal(doc, before)


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (lambda b, h, q, k: None, "returns nothing"),
        (lambda b, h, q, k: True, "returns True, a Python bool"),
        (lambda b, h, q, k: 3, "returns 3, a Python int"),
        (lambda b, h, q, k: "q >= k", "returns a str"),
        (lambda b, h, q, k: q - k, "returns an index"),
        (lambda b, h, q, k: (q - k) / 2, "returns numbers"),
        (lambda b, h, q, k: torch.tensor(3), "returns an index"),
        (lambda b, h, q, k: doc > 1, "of shape (8,) is used as a single value"),
        (lambda b, h, q, k: (q >= k, k), "returns a tuple"),
        (lambda b, h: b == h, "takes 2 positional arguments but 4 were given"),
    ],
)
def test_results_that_are_no_mask(returned: Callable[..., Any], message: str) -> None:
    with pytest.raises(LiftError) as caught:
        am.lift(returned)
    assert message in str(caught.value)


def test_constant_results_are_masks() -> None:
    assert am.lift(lambda b, h, q, k: torch.tensor(True)).dense(2, 3).all()
    assert not am.lift(lambda b, h, q, k: torch.zeros((), dtype=torch.bool)).dense(2, 3).any()
    assert am.lift(lambda b, h, q, k: q.new_ones((), dtype=torch.bool)).dense(2, 3).all()


def test_a_value_of_another_call_is_refused() -> None:
    kept: list[Any] = []

    def function(b: Any, h: Any, q: Any, k: Any) -> Any:
        kept.append(q)
        return kept[0] >= k

    am.lift(function)
    with pytest.raises(LiftError, match="of another trace"):
        am.lift(function)


def test_a_function_without_source_is_named() -> None:
    function = eval(compile("lambda b, h, q, k: q if q > k else k", "<typed>", "eval"))
    with pytest.raises(LiftError, match=r"\(<lambda>, <typed> line 1\)"):
        am.lift(function)


@pytest.mark.parametrize("what", [3, None, "causal", torch.tensor(1)])
def test_what_is_no_function_is_an_error(what: Any) -> None:
    with pytest.raises(MaskError, match="a mask_mod is a function of b, h, q and k"):
        am.lift(what)
