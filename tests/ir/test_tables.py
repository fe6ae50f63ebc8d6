"""Tables: what may be bound, what it becomes, and the number of batch rows and heads that follows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import attnmask as am
from attnmask.errors import MaskError

IDS = [0, 0, 1, 1, 1, 2]
SAME = np.equal.outer(IDS, IDS)


@pytest.mark.parametrize(
    "kind", [np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64, np.uint64]
)
def test_every_integer_type_is_taken(kind: type[Any]) -> None:
    np.testing.assert_array_equal(am.compile("same(doc)", doc=np.array(IDS, kind)).dense(6), SAME)


@pytest.mark.parametrize(
    "given", [IDS, tuple(IDS), np.array(IDS)[::1], np.repeat(IDS, 2)[::2], np.array([IDS]).T[:, 0]]
)
def test_sequences_and_views_are_taken(given: Any) -> None:
    np.testing.assert_array_equal(am.compile("same(doc)", doc=given).dense(6), SAME)


def test_torch_tensors_are_taken() -> None:
    torch = pytest.importorskip("torch")
    for kind in (torch.int32, torch.int64, torch.uint8):
        np.testing.assert_array_equal(
            am.compile("same(doc)", doc=torch.tensor(IDS, dtype=kind)).dense(6), SAME
        )
    score = am.compile("all with s + bias[k]", bias=torch.ones(6, dtype=torch.bfloat16))
    assert score.tables[0][1].array.tolist() == [1.0] * 6


def test_a_later_change_of_the_array_does_not_matter() -> None:
    ids = np.array(IDS)
    mask = am.compile("same(doc)", doc=ids)
    before, number = mask.dense(6), hash(mask)
    ids[:] = 0
    np.testing.assert_array_equal(mask.dense(6), before)
    assert hash(mask) == number and mask != am.compile("same(doc)", doc=ids)
    with pytest.raises(ValueError, match="read-only"):
        mask.tables[0][1].array[0] = 5


def test_equal_content_makes_equal_masks() -> None:
    first, second = (am.compile("same(doc)", doc=given) for given in (IDS, np.array(IDS, np.int16)))
    assert first == second and hash(first) == hash(second)
    assert first != am.compile("same(doc)", doc=[0, 0, 1, 1, 1, 3])
    # The same bytes in another shape are another table.
    flat = am.compile("t[b, q] == k", t=np.arange(4).reshape(2, 2))
    assert flat != am.compile("t[b, q] == k", t=np.arange(4).reshape(1, 4))


def test_a_further_dimension_is_the_batch_row() -> None:
    rows = np.array([IDS, [0, 1, 2, 3, 4, 5]])
    dense = am.compile("same(doc)", doc=rows).dense(6)
    np.testing.assert_array_equal(dense, [[SAME], [np.eye(6, dtype=bool)]])


def test_heads_have_rows_where_the_index_says_so() -> None:
    rows = np.array([[0] * 4, [0, 0, 1, 1]])
    dense = am.compile("t[h, q] == t[h, k]", t=rows).dense(4)
    assert dense.shape == (1, 2, 4, 4)
    np.testing.assert_array_equal(dense[0, 0], np.ones((4, 4), bool))
    np.testing.assert_array_equal(dense[0, 1], np.equal.outer(rows[1], rows[1]))


def test_truth_values_count_where_numbers_are_asked_for() -> None:
    live = np.array([True, False, True, True])
    expected = np.add.outer(live.astype(int), live.astype(int)) == 2
    np.testing.assert_array_equal(am.compile("t[q] + t[k] == 2", t=live).dense(4), expected)
    np.testing.assert_array_equal(am.compile("t[q] & t[k]", t=live).dense(4), expected)
    np.testing.assert_array_equal(
        am.compile("u[t[q]] == k", t=live, u=[1, 3]).dense(4), np.eye(4)[[3, 1, 3, 3]] > 0
    )


@pytest.mark.parametrize(
    ("text", "name", "given", "message"),
    [
        ("same(t)", "t", 3, "no dimension"),
        ("same(t)", "t", np.zeros((2, 2, 4)), "3 dimensions|floats"),
        ("same(t)", "t", np.zeros((2, 2, 4), int), "3 dimensions"),
        ("same(t)", "t", np.zeros(4), "floats"),
        ("same(t)", "t", np.array(["a"]), "values"),
        ("same(t)", "t", np.array([1 + 2j]), "complex"),
        ("same(t)", "t", [[1, 2], [3]], "not an array"),
        ("same(t)", "t", [2**64], "64 signed bits|not an array|object"),
        ("same(t)", "t", np.array([2**64 - 1], np.uint64), "64 signed bits"),
        ("rows(t)", "t", [1, 0, 1, 1], "truth values"),
        ("q < t", "t", 1.5, "integer"),
        ("q < t", "t", [1, 2], "dimension"),
        ("causal", "t", [1, 2], "no table 't'"),
    ],
)
def test_what_does_not_fit_is_refused(text: str, name: str, given: Any, message: str) -> None:
    with pytest.raises(MaskError, match=message):
        am.compile(text, **{name: given})


def test_settings_need_not_matter_and_are_bound_once() -> None:
    assert am.compile("causal", layer=3) == am.compile("causal")
    assert am.compile("q < t", t=4) == am.compile("q < 4")
    with pytest.raises(MaskError, match="bound already"):
        am.compile("same(t)", t=IDS).bind(t=IDS)


def test_missing_tables_are_named() -> None:
    mask = am.compile("same(doc) & q < n")
    assert mask.unbound == ("doc", "n")
    with pytest.raises(MaskError, match="not bound"):
        mask.dense(4)
    assert mask.bind(n=3).unbound == ("doc",)


@pytest.mark.parametrize(
    "numbers",
    [
        {"q_len": 0},
        {"q_len": -3},
        {"q_len": 2.0},
        {"q_len": True},
        {"q_len": 2**31},
        {"q_len": 4, "kv_len": 0},
        {"q_len": 4, "q_offset": -1},
        {"q_len": 4, "q_offset": 2**31 - 3},
        {"q_len": 4, "q_offset": 1.0},
        {"q_len": 4, "batch": 0},
        {"q_len": 4, "heads": "2"},
    ],
)
def test_lengths_that_make_no_sense_are_refused(numbers: dict[str, Any]) -> None:
    with pytest.raises(MaskError):
        am.compile("causal").dense(**numbers)
    with pytest.raises(MaskError):
        am.compile("causal").tiles(**numbers)


def test_batch_rows_and_heads_must_be_known() -> None:
    with pytest.raises(MaskError, match="heads"):
        am.compile("h < 2").dense(4)
    with pytest.raises(MaskError, match="batch"):
        am.compile("b == 0").tiles(4)
    two = am.compile("same(u) & same(v)", u=np.zeros((2, 4), int), v=np.zeros((3, 4), int))
    with pytest.raises(MaskError, match="batch"):
        two.dense(4)
    assert two.dense(4, batch=2).shape == (2, 1, 4, 4)
    with pytest.raises(MaskError, match="entry 2"):
        two.dense(4, batch=3)
