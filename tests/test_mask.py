"""The façade: binding, immutability, equality, the algebra of sets, scores."""

from __future__ import annotations

import copy
import dataclasses
import operator
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

import attnmask as am
from attnmask.errors import MaskError
from attnmask.mask import Mask

IDS = np.array([0, 0, 0, 1, 1, 2, 2, 2])
OTHER = IDS[::-1].copy()
ROWS = np.stack([IDS, OTHER])


# ---- bind ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["numpy", "list", "tuple", "range", "torch", "torch int32"])
def test_tables_may_be_any_array(kind: str) -> None:
    table: Any
    match kind:
        case "numpy":
            table = np.arange(8)
        case "list":
            table = list(range(8))
        case "tuple":
            table = tuple(range(8))
        case "range":
            table = range(8)
        case _:
            import torch

            table = torch.arange(8, dtype=torch.int32 if kind == "torch int32" else torch.int64)
    assert (am.compile("same(doc)", doc=table).dense(8) == np.eye(8, dtype=bool)).all()


def test_a_table_is_copied() -> None:
    array = IDS.copy()
    mask = am.compile("same(doc)", doc=array)
    before, code = mask.dense(8), hash(mask)
    array[:] = 7
    assert (mask.dense(8) == before).all()
    assert hash(mask) == code
    assert mask != am.compile("same(doc)", doc=array)


def test_a_torch_table_is_copied() -> None:
    import torch

    tensor = torch.tensor(IDS)
    mask = am.compile("same(doc)", doc=tensor)
    before = mask.dense(8)
    tensor.zero_()
    assert (mask.dense(8) == before).all()


def test_the_copy_is_read_only() -> None:
    mask = am.compile("same(doc)", doc=IDS)
    with pytest.raises(ValueError, match="read-only"):
        dict(mask.tables)["doc"].array[0] = 3


def test_bind_gives_a_new_mask() -> None:
    free = am.compile("same(doc) & q - k < n")
    assert free.unbound == ("doc", "n")
    half = free.bind(doc=IDS)
    assert (free.unbound, half.unbound) == (("doc", "n"), ("n",))
    whole = half.bind(n=3)
    assert whole.unbound == ()
    assert whole == free.bind(n=3, doc=IDS) == free.bind(n=3).bind(doc=IDS)
    assert whole == am.compile("same(doc) & q - k < n", doc=IDS, n=3)
    with pytest.raises(MaskError, match="'doc' is not bound"):
        free.bind(n=3).dense(8)


def test_unbound_lists_tables_of_masks_and_of_scores_sorted() -> None:
    mask = am.compile("same(zebra) & adj[node[q], 0] == n with s + bias[k]")
    assert mask.unbound == ("adj", "bias", "n", "node", "zebra")
    assert am.compile("causal").unbound == ()


def test_a_table_is_bound_once() -> None:
    with pytest.raises(MaskError, match="'doc' is bound already"):
        am.compile("same(doc)", doc=IDS).bind(doc=IDS)


def test_a_setting_need_not_matter_and_a_table_must() -> None:
    assert am.compile("causal", layer=3) == am.compile("causal")
    with pytest.raises(MaskError, match="no table 'doc'"):
        am.compile("causal", doc=IDS)


def test_a_table_may_be_bound_after_it_no_longer_matters() -> None:
    """A loop over layers binds the layer first, and the documents of a batch later."""
    mask = am.compile("same(doc) | layer % 2 == 0")
    assert mask.bind(layer=0).bind(doc=IDS).dense(8).all()
    assert (mask.bind(layer=1).bind(doc=IDS).dense(8) == am.compile("same(doc)", doc=IDS).dense(8)).all()
    assert am.compile("same(doc) | all", doc=IDS).dense(8).all()


@pytest.mark.parametrize(
    "value", [None, "abc", {1: 2}, object(), [[1], [1, 2]], [2**70], 1j, b"abc", lambda: 3]
)
def test_what_is_no_table(value: object) -> None:
    with pytest.raises(MaskError, match="'doc'"):
        am.compile("same(doc)", doc=value)


def test_tensors_that_numpy_cannot_hold() -> None:
    import torch

    assert am.compile("causal with s + w[q]", w=torch.ones(8, dtype=torch.bfloat16)).unbound == ()
    for tensor in (
        torch.eye(8).to_sparse(),
        torch.zeros(8, device="meta"),
        torch.zeros(8, dtype=torch.complex64),
    ):
        with pytest.raises(MaskError, match="'doc'"):
            am.compile("same(doc)", doc=tensor)


@pytest.mark.parametrize("text", [None, 3, b"causal", ["causal"], Mask])
def test_a_mask_is_compiled_from_text(text: Any) -> None:
    with pytest.raises(MaskError):
        am.compile(text)


@pytest.mark.parametrize("name", ["text", "self", "source", "bindings", "predicate", "cls"])
def test_a_table_may_have_any_name(name: str) -> None:
    expected = am.compile("same(doc)", doc=IDS).dense(8)
    assert (am.compile(f"same({name})", **{name: IDS}).dense(8) == expected).all()
    assert (am.compile(f"same({name})").bind(**{name: IDS}).dense(8) == expected).all()


# ---- equality and hashing -----------------------------------------------------------------------------------


def test_equal_masks() -> None:
    anything_else: list[object] = ["causal", None, 3]
    one, two = (
        am.compile("causal & same(doc)", doc=IDS),
        am.compile("let c = causal\nc & same(doc)", doc=IDS.tolist()),
    )
    assert one == two
    assert hash(one) == hash(two)
    assert len({one, two, am.compile("causal")}) == 2
    assert one != am.compile("causal & same(doc)", doc=OTHER)
    assert one != am.compile("causal & same(doc)")
    for other in anything_else:
        assert one != other
    assert am.compile("causal") != am.compile("causal with s * 2")


def test_the_same_numbers_in_another_shape_or_type_are_another_table() -> None:
    flat, rows = np.arange(4), np.arange(4).reshape(2, 2)
    assert am.compile("t[q] == 1", t=flat) != am.compile("t[q] == 1", t=rows)
    assert am.compile("same(t)", t=np.array([0, 1])) != am.compile("same(t)", t=np.array([False, True]))
    assert am.compile("same(t)", t=np.array([0, 1], np.int8)) == am.compile(
        "same(t)", t=np.array([0, 1], np.int64)
    )


def test_masks_are_immutable() -> None:
    mask = am.compile("causal")
    with pytest.raises(dataclasses.FrozenInstanceError):
        mask.score = None  # type: ignore[misc]  # the point of the test
    with pytest.raises((dataclasses.FrozenInstanceError, AttributeError, TypeError)):
        mask.anything = 3  # type: ignore[attr-defined]  # the point of the test


@pytest.mark.parametrize("text", ["causal", "causal & same(doc) with softcap(30), s + doc[q]"])
def test_copies_and_pickles(text: str) -> None:
    mask = am.compile(text)
    mask = mask.bind(doc=IDS) if mask.unbound else mask
    for other in (copy.copy(mask), copy.deepcopy(mask), pickle.loads(pickle.dumps(mask))):
        assert other == mask
        assert hash(other) == hash(mask)
        assert (other.dense(8) == mask.dense(8)).all()


def test_the_text_of_a_mask_means_the_same() -> None:
    for text in (
        "causal & (window(3) | sink(2))",
        "~(k in 2:4) ^ q // 2 % 3 == 1",
        "causal - dilated(2, 3) | tail(1)",
    ):
        mask = am.compile(text)
        assert (am.compile(str(mask)).dense(7, 9) == mask.dense(7, 9)).all()
        assert str(am.compile(str(mask))) == str(mask)
    assert str(am.compile("causal with softcap(30)")) == "k <= q with 30.0 * tanh(s / 30.0)"


# ---- algebra ------------------------------------------------------------------------------------------------

PARTS = [
    "all",
    "none",
    "causal",
    "diagonal",
    "window(2)",
    "sink(2)",
    "q % 2 == 0",
    "chunk(3)",
    "k > 2 ^ causal",
    "causal | sink(1)",
    "h < 1",
    "b == 1 & causal",
]
masks = st.sampled_from(PARTS).map(am.compile)


def dense(mask: Mask) -> NDArray[np.bool_]:
    return mask.dense(5, 6, batch=2, heads=2)


@given(masks, masks, masks)
def test_algebra_is_that_of_sets(a: Mask, b: Mask, c: Mask) -> None:
    assert (dense(a & b) == (dense(a) & dense(b))).all()
    assert (dense(a | b) == (dense(a) | dense(b))).all()
    assert (dense(a ^ b) == (dense(a) ^ dense(b))).all()
    assert (dense(a - b) == (dense(a) & ~dense(b))).all()
    assert (dense(~a) == ~dense(a)).all()
    assert (dense((a | b) & c) == dense(a & c | b & c)).all()
    assert (dense(~(a & b)) == dense(~a | ~b)).all()
    assert (dense(a ^ b) == dense(a - b | b - a)).all()
    assert a & a == a | a == ~~a == a
    assert a ^ a == am.library.none
    assert not dense(a & ~a).any()
    assert dense(a | ~a).all()


@given(masks, masks)
def test_python_and_the_language_agree(a: Mask, b: Mask) -> None:
    for symbol, found in {"&": a & b, "|": a | b, "^": a ^ b, "-": a - b}.items():
        text = f"({a}) {symbol} ({b})"
        assert (dense(am.compile(text)) == dense(found)).all()


@pytest.mark.parametrize(
    "attempt", [bool, operator.not_, lambda mask: [mask] if mask else [], lambda mask: any([mask])]
)
def test_a_mask_has_no_truth_value(attempt: Callable[[Mask], object]) -> None:
    with pytest.raises(MaskError, match="no truth value") as caught:
        attempt(am.compile("causal"))
    assert "&" in str(caught.value.hint)


@pytest.mark.parametrize("other", [3, "causal", None, True, 1.5, [1]])
@pytest.mark.parametrize("combine", [operator.and_, operator.or_, operator.xor, operator.sub])
def test_only_masks_combine(other: object, combine: Callable[[object, object], object]) -> None:
    mask = am.compile("causal")
    for left, right in ((mask, other), (other, mask)):
        with pytest.raises(TypeError, match="unsupported operand"):
            combine(left, right)


# ---- tables in the algebra ----------------------------------------------------------------------------------


def test_tables_come_together() -> None:
    both = am.compile("same(doc)", doc=IDS) & am.compile("same(other)", other=OTHER)
    expected = am.compile("same(doc) & same(other)", doc=IDS, other=OTHER)
    assert both == expected
    assert (both.dense(8) == (IDS[:, None] == IDS) & (OTHER[:, None] == OTHER)).all()


def test_one_name_stands_for_one_table() -> None:
    one = am.compile("same(doc)", doc=IDS)
    assert (one & am.compile("before(doc)", doc=IDS.tolist())).dense(8).any()
    with pytest.raises(MaskError, match="bind 'doc' to different tables"):
        _ = one | am.compile("before(doc)", doc=OTHER)


@pytest.mark.parametrize("table", [IDS, ROWS, np.stack([IDS] * 8)])
def test_a_bound_and_an_unbound_use_of_a_table(table: NDArray[np.int64]) -> None:
    free, bound = am.compile("before(doc)"), am.compile("same(doc)", doc=table)
    expected = am.compile("same(doc) & before(doc)", doc=table).dense(8)
    for both in (free & bound, bound & free):
        assert both.unbound == ()
        assert (both.dense(8) == expected).all()


@pytest.mark.parametrize(
    ("text", "use", "table"),
    [
        ("same(doc)", "doc[q] & causal", IDS),
        ("causal with s + doc[q]", "doc[q] < 3", IDS / 2),
        ("same(doc)", "doc[q, k] == 1", IDS),
        ("same(doc)", "doc < q", IDS),
    ],
)
def test_a_table_must_fit_its_use_in_the_other_mask(text: str, use: str, table: NDArray[Any]) -> None:
    with pytest.raises(MaskError, match="'doc'"):
        _ = am.compile(use) & am.compile(text, doc=table)
    with pytest.raises(MaskError, match="'doc'"):
        _ = am.compile(text, doc=table) & am.compile(use)


# ---- dense --------------------------------------------------------------------------------------------------


def test_shapes() -> None:
    assert am.compile("causal").dense(3).shape == (3, 3)
    assert am.compile("causal").dense(3, 5).shape == (3, 5)
    assert am.compile("causal").dense(3, 5, batch=2).shape == (2, 1, 3, 5)
    assert am.compile("causal").dense(3, 5, heads=4).shape == (1, 4, 3, 5)
    assert am.compile("same(doc)", doc=ROWS).dense(8).shape == (2, 1, 8, 8)
    assert am.compile("n[h] < q", n=[1, 2, 3]).dense(8).shape == (1, 3, 8, 8)
    assert am.compile("causal").dense(np.int64(3)).shape == (3, 3)  # type: ignore[arg-type]  # numpy's own integers do


def test_dense_is_a_fresh_array() -> None:
    mask = am.compile("all")
    first = mask.dense(4)
    first[:] = False
    assert mask.dense(4).all()


@pytest.mark.parametrize(
    "call",
    [
        {"q_len": 0},
        {"q_len": -1},
        {"q_len": 2**31},
        {"q_len": 1.5},
        {"q_len": "8"},
        {"q_len": None},
        {"q_len": True},
        {"q_len": 8, "kv_len": 0},
        {"q_len": 8, "batch": 0},
        {"q_len": 8, "heads": -1},
        {"q_len": 8, "q_offset": -1},
        {"q_len": 8, "q_offset": 0.5},
        {"q_len": 8, "q_offset": 2**31},
    ],
)
def test_calls_that_make_no_sense(call: dict[str, Any]) -> None:
    with pytest.raises(MaskError):
        am.compile("causal").dense(**call)
    with pytest.raises(MaskError):
        am.compile("causal").tiles(**call)


@pytest.mark.parametrize("call", [{"q_len": 2**31 - 1}, {"q_len": 2**18}, {"q_len": 8, "heads": 2**31 - 1}])
def test_dense_refuses_what_no_memory_holds(call: dict[str, Any]) -> None:
    with pytest.raises(MaskError):
        am.compile("causal").dense(**call)


# ---- scores -------------------------------------------------------------------------------------------------


def test_with_score() -> None:
    library = am.library
    capped = library.causal.with_score(library.softcap(30))
    assert capped == am.compile("causal with softcap(30)")
    assert library.causal.score is None
    assert capped.with_score(library.softcap(2)) == am.compile("causal with softcap(30), softcap(2)")
    assert capped.predicate is library.causal.predicate
    wrong: Any = library.causal
    with pytest.raises(MaskError, match="score modification"):
        library.causal.with_score(wrong)


def test_scores_in_the_algebra() -> None:
    scored, plain = am.compile("causal with s * 2"), am.compile("sink(2)")
    for both in (scored & plain, plain & scored, scored & am.compile("sink(2) with s * 2")):
        assert both == am.compile("causal & sink(2) with s * 2") or both == am.compile(
            "sink(2) & causal with s * 2"
        )
    assert (~scored).score is scored.score
    with pytest.raises(MaskError, match="both masks modify scores"):
        _ = scored | am.compile("sink(2) with s * 3")
