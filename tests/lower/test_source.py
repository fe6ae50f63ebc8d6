"""Generated source: what it computes, that it stands alone, and that only structure is in it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import attnmask as am
from attnmask.ir.evaluate import evaluate
from attnmask.ir.index import table, var
from attnmask.ir.nodes import Apply, Arith, Expr, Index, Predicate, ScoreExpr
from attnmask.ir.predicate import and_, bool_table, compare, not_, or_, xor
from attnmask.ir.score import SCORE, arith
from attnmask.ir.walk import children, postorder
from attnmask.lower.functions import MaskMod, build, factory
from attnmask.lower.prepare import sources
from attnmask.lower.source import values_source
from attnmask.mask import Mask
from tests.conftest import Golden
from tests.strategies import ARRAYS, Call, Case, calls, cases, indices, predicates, scores, sound, tables_of

CPU = torch.device("cpu")


def mask_mod(mask: Mask, call: Call) -> tuple[MaskMod, str]:
    """The function for a call, and its text."""
    tables = dict(mask.tables)
    source, _ = sources(mask.predicate, None, tables, call.domain)
    return build(source, tables, call.domain, CPU), source.text


def positions(shape: tuple[int, ...]) -> list[torch.Tensor]:
    """b, h, q and k over [B, H, Q, K], as 32-bit integers, the type that kernels use."""
    sides = [torch.arange(size, dtype=torch.int32) for size in shape]
    return [side.reshape([-1 if axis == i else 1 for i in range(4)]) for axis, side in enumerate(sides)]


@settings(max_examples=300)
@given(cases(most=14))
def test_mask_mod_is_the_dense_mask(case: Case) -> None:
    dense = case.mask.dense(*case.call.lengths, **case.call.options)
    function, text = mask_mod(case.mask, case.call)
    found = function(*positions(dense.shape)).expand(dense.shape)
    assert found.dtype == torch.bool
    np.testing.assert_array_equal(found.numpy(), dense, err_msg=text)


@given(predicates, indices, calls(most=9))
def test_several_values_are_those_of_each(root: Predicate, number: Index, call: Call) -> None:
    assume(sound(root, call.domain) and sound(number, call.domain))
    roots = (root, number, root)
    source = values_source(roots)
    tensors = {name: torch.tensor(data.array) for name, data in tables_of(*roots).items()}
    given = {parameter: tensors[name] for parameter, name in source.tables}
    sizes = {size: torch.tensor([call.domain.bounds(size)[0]]) for size in source.sizes}
    shape = (call.domain.batch, call.domain.heads, call.domain.q_len, call.domain.kv_len)
    at = [torch.from_numpy(call.domain.arrays()[name]) for name in "bhqk"]
    values = factory(source)(**given, **sizes)(*at)
    assert len(values) == 3
    for value, own in zip(values, roots, strict=True):
        expected = np.broadcast_to(evaluate(own, call.domain.arrays(), ARRAYS), shape)
        found = torch.as_tensor(value).expand(shape).numpy()
        np.testing.assert_array_equal(found, expected, err_msg=source.text)


def test_tables_without_indices_are_named_alone() -> None:
    low, some = table("low", []), bool_table("some", [])
    text = values_source((compare(low, "<", var("k")), not_(some))).text
    assert text.splitlines() == [
        "def build(low, some):",
        "    def values(b, h, q, k):",
        "        return (low < k, ~some,)",
        "",
        "    return values",
    ]


@given(scores, calls(most=5), st.floats(-3, 3))
def test_score_mod_is_the_definition(root: ScoreExpr, call: Call, value: float) -> None:
    assume(sound(root, call.domain))
    root = arith("+", SCORE, root)
    expected, largest = _values(root, call, value)
    tables = tables_of(root)
    _, source = sources(am.compile("all").predicate, root, tables, call.domain)
    assert source is not None
    shape = (call.domain.batch, call.domain.heads, call.domain.q_len, call.domain.kv_len)
    function = build(source, tables, call.domain, CPU)
    found = function(torch.full(shape, value), *positions(shape)).expand(shape)
    np.testing.assert_allclose(found.numpy(), expected, atol=1e-3 * (1 + largest), err_msg=source.text)


def _values(root: ScoreExpr, call: Call, value: float) -> tuple[np.ndarray[Any, Any], float]:
    """The scores by definition, and the largest number on the way; only where floats can be compared at all."""
    largest = 0.0
    shape = (call.domain.batch, call.domain.heads, call.domain.q_len, call.domain.kv_len)
    arrays, score = call.domain.arrays(), np.full(shape, value)

    def of(node: Expr) -> np.ndarray[Any, Any]:
        with np.errstate(all="ignore"):
            return np.asarray(evaluate(node, arrays, ARRAYS, score), float)

    for node in postorder(root):
        values = of(node)
        assume(np.isfinite(values).all() and np.abs(values).max() < 1e6)
        largest = max(largest, float(np.abs(values).max()))
        fragile = [node.rhs] if isinstance(node, Arith) and node.op == "/" else []
        fragile += [*children(node)] if isinstance(node, Apply) else []  # type: ignore[list-item]  # of a score
        for part in fragile:
            size = np.abs(of(part))
            assume(size.min() > 1e-2 and size.max() < 8)
    return np.broadcast_to(of(root), shape), largest


def test_one_code_object_a_structure() -> None:
    """Tables, lengths and offsets are tensors that the code is given: it is compiled once for all of them."""
    first, second = (
        am.compile("causal & same(doc) & q < Q - 1", doc=np.arange(64) // size) for size in (7, 9)
    )
    functions = [
        mask.block_mask(length, q_offset=offset).mask_mod
        for mask, length, offset in ((first, 40, 3), (second, 40, 3), (first, 50, 9))
    ]
    assert functions[0] is not functions[1]
    assert len({id(function.__code__) for function in functions}) == 1
    for function in functions:
        cells = [cell.cell_contents for cell in function.__closure__ or ()]
        assert cells and all(isinstance(cell, torch.Tensor) for cell in cells)
    assert set(functions[0].__code__.co_freevars) == {"doc", "Q", "q_offset"}


def test_constants_are_part_of_the_structure() -> None:
    codes = {am.compile(f"window({size})").block_mask(40).mask_mod.__code__ for size in (3, 4)}
    assert len(codes) == 2


def test_the_text_stands_alone(golden: Golden) -> None:
    """It needs torch and nothing else, and reads as a person would write it."""
    texts = {
        "window_sink.txt": "causal & (window(512) | sink(4))",
        "documents.txt": "causal & same(doc) & (q - start[doc[q]] < 8 | (k - start[doc[k]]) % 4 == 0)",
        "signs.txt": "k + (-q) // 2 >= 0 & -(q // 2) - k > -9 & q - (k - q) % 3 != where(q < k, -1, h)",
    }
    for name, text in texts.items():
        mask = am.compile(text)
        tables = {name: np.arange(16) // 4 for name in mask.unbound}
        mask = mask.bind(**tables) if tables else mask
        call = Call(mask.domain(16, heads=2), (4, 4))
        function, source = mask_mod(mask, call)
        golden(name, source)
        namespace: dict[str, Any] = {"torch": torch}
        exec(source, namespace)
        alone = namespace["build"](**{name: torch.from_numpy(array) for name, array in tables.items()})
        shape = (1, 2, 16, 16)
        for made in (alone, function):
            found = made(*positions(shape)).expand(shape)
            np.testing.assert_array_equal(found.numpy(), mask.dense(16, heads=2, batch=1))


@pytest.mark.parametrize(
    ("text", "length"),
    [
        ("q * q * q * k < 7000000000", 400),
        ("k < Q * Q * Q * Q", 300),
        ("t[q] - t[k] < 5000000000", 40),
        ("q * 2000000000 // 3 < k * 1000000000", 60),
        ("(q ^ 3000000000) > k + 2999999990", 60),
        ("(q - k) * 2147483647 % 11 == 3", 60),
    ],
)
def test_integers_past_32_bits_are_computed_in_64(text: str, length: int) -> None:
    mask = am.compile(text)
    mask = mask.bind(t=np.arange(length) * 10**9) if mask.unbound else mask
    call = Call(mask.domain(length), (16, 16))
    function, source = mask_mod(mask, call)
    assert "torch.int64" in source
    dense = mask.dense(length)
    assert dense.mean() > 0
    found = function(*positions((1, 1, length, length))).expand(1, 1, length, length)
    np.testing.assert_array_equal(found[0, 0].numpy(), dense)
    assert "int64" not in mask_mod(am.compile("causal"), call)[1]


NAMES = [
    "class",
    "class_",
    "lambda",
    "torch",
    "build",
    "mask_mod",
    "q_offset",
    "t0",
    "t1",
    "t0_",
    "__debug__",
    "_",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_table_may_have_any_name(name: str) -> None:
    """Also one that Python, or the text itself, has another use for; with parts shared so that there are locals."""
    ids = np.arange(20) // 3
    text = f"abs(abs(q - {name}[k]) // 3 - {name}[q]) < 4 & abs(abs(q - {name}[k]) // 3 - {name}[q]) != 1"
    mask = am.compile(text, **{name: ids})
    found = mask_mod(mask, Call(mask.domain(20), (4, 4)))[0](*positions((1, 1, 20, 20)))
    np.testing.assert_array_equal(found[0, 0].numpy(), mask.dense(20))


def test_all_names_at_once() -> None:
    text = " & ".join(f"{name}[q] != {number}" for number, name in enumerate(NAMES))
    mask = am.compile(text, **{name: np.arange(20) for name in NAMES})
    found = mask_mod(mask, Call(mask.domain(20), (4, 4)))[0](*positions((1, 1, 20, 20)))
    np.testing.assert_array_equal(found[0, 0].expand(20, 20).numpy(), mask.dense(20))


def test_deep_and_shared_expressions() -> None:
    """Past the nesting that Python's parser takes, and with parts that would double at each step if written out."""
    predicate = am.compile("causal").predicate
    shared = am.compile("abs(q - k) % 7 < 4").predicate
    for number in range(60):
        turn = am.compile(f"(q * {number % 8 + 1} + k) % 7 == 3").predicate
        predicate = or_(and_(predicate, not_(turn)), xor(predicate, shared))
    mask = Mask(predicate)
    function, text = mask_mod(mask, Call(mask.domain(12), (4, 4)))
    assert len(text) < 20_000
    np.testing.assert_array_equal(function(*positions((1, 1, 12, 12)))[0, 0].numpy(), mask.dense(12))


@pytest.mark.parametrize(
    "text",
    [
        "k - 3 * (q // 4) < 5 & h - 3 * (q // 4) < -7",
        "k - 3 * (q // 4) < 5 & q - 3 * (q // 4) - 2 * (k // 3) != 2 & h - 2 * (k // 3) < 3",
    ],
)
def test_terms_with_a_sign_that_have_a_name(text: str) -> None:
    """A shared term gets a local name, and its sign is in that."""
    mask = am.compile(text)
    function, source = mask_mod(mask, Call(mask.domain(40, heads=3), (4, 4)))
    assert "t0 = -" in source
    found = function(*positions((1, 3, 40, 40)))
    np.testing.assert_array_equal(found[0].numpy(), mask.dense(40, heads=3, batch=1)[0])


def test_free_functions_need_no_lengths() -> None:
    mask = am.compile("causal & same(doc) with softcap(20)", doc=np.arange(16) // 5)
    found = mask.mask_mod(*positions((1, 1, 16, 16)))
    np.testing.assert_array_equal(found[0, 0].numpy(), mask.dense(16))
    assert mask.score_mod is not None and am.compile("causal").score_mod is None
    score = mask.score_mod(torch.tensor(30.0), *(torch.tensor(1),) * 4)
    assert float(score) == pytest.approx(20 * np.tanh(1.5))
    with pytest.raises(am.MaskError, match="K"):
        _ = am.compile("tail(4)").mask_mod
    with pytest.raises(am.MaskError, match="not bound"):
        _ = am.compile("same(doc)").mask_mod


def test_score_mod_asks_for_its_own_tables_only() -> None:
    mask = am.compile("same(doc) with softcap(3)")
    assert mask.score_mod is not None
    with pytest.raises(am.MaskError, match="'doc' is not bound"):
        _ = mask.mask_mod
