"""check(): what it accepts evaluates without a fault, and what it refuses has one, as far as it can be exact."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import attnmask as am
from attnmask.errors import MaskError
from attnmask.ir.check import check, fits_int32
from attnmask.ir.domain import Domain
from attnmask.ir.evaluate import evaluate
from attnmask.ir.index import add, const, floordiv, maximum, minimum, mod, mul, table, var
from attnmask.ir.kinds import is_index
from attnmask.ir.nodes import Add, Index, Mul, Predicate, make
from attnmask.ir.predicate import compare
from attnmask.ir.tables import table_data
from attnmask.ir.walk import postorder
from tests.oracle import element, fault_anywhere, holds, integer
from tests.strategies import ARRAYS, ENTRIES, Call, Case, calls, cases, predicates, sound, tables_of

Q, K = var("q"), var("k")
FOUR = {"four": table_data("four", [3, 1, 0, 2])}


@given(predicates, calls(most=5))
def test_what_is_accepted_has_no_fault(root: Predicate, call: Call) -> None:
    assume(sound(root, call.domain))
    assert not fault_anywhere(root, call.domain, ENTRIES)


@st.composite
def one_sided(draw: st.DrawFn) -> Index:
    """An integer in q alone, so small that only indices and divisors can be at fault."""
    offset, factor = draw(st.integers(-6, 6)), draw(st.integers(-2, 2))
    inner = add(mul(const(factor), Q), const(offset))
    match draw(st.integers(0, 4)):
        case 0:
            return inner
        case 1:
            return mod(inner, const(draw(st.integers(1, 6))))
        case 2:
            return floordiv(inner, const(draw(st.integers(2, 4))))
        case 3:
            return minimum(inner, const(draw(st.integers(-1, 5))))
        case _:
            return maximum(inner, const(draw(st.integers(-1, 5))))


@given(one_sided(), one_sided(), st.integers(1, 6), st.integers(0, 4), st.booleans())
def test_of_one_position_the_answer_is_exact(
    first: Index, second: Index, length: int, offset: int, divide: bool
) -> None:
    """A table index or a divisor that depends on the query alone is refused exactly when it goes wrong."""
    try:
        fragile = floordiv(first, second) if divide else table("four", (table("four", (first,)),))
    except MaskError:
        assume(False)
    root = compare(fragile, "<", K)
    domain = Domain(length, 2, offset)
    try:
        check(root, domain, FOUR, {})
        refused = False
    except MaskError:
        refused = True
    assert refused == fault_anywhere(root, domain, {"four": [3, 1, 0, 2]})


near = st.one_of(st.integers(-(2**31), 2**31), st.integers(-9, 9), st.integers(2**29, 2**31).map(lambda x: x))


@given(
    st.lists(st.tuples(near, st.sampled_from([Q, K, mul(Q, K)])), min_size=1, max_size=3), near, calls(most=6)
)
def test_int32_is_enough_where_check_says_so(terms: list[tuple[int, Index]], last: int, call: Call) -> None:
    total = add(*(mul(const(factor), base) for factor, base in terms), const(last))
    root = compare(floordiv(total, const(3)), "<", total)
    assume(sound(root, call.domain) and check(root, call.domain, {}, {}))
    _assert_int32(root, call.domain)


@given(cases(most=6))
def test_int32_is_enough_for_any_mask_where_check_says_so(case: Case) -> None:
    domain, tables = case.call.domain, dict(case.mask.tables)
    narrow = check(case.mask.predicate, domain, tables, {})
    assert narrow == fits_int32(case.mask.predicate, domain, tables)
    if narrow:
        _assert_int32(case.mask.predicate, domain)


def _assert_int32(root: Predicate, domain: Domain) -> None:
    """Every integer on the way, and every partial sum in the order of evaluation, is below 2**31."""
    arrays = domain.arrays()
    for node in postorder(root):
        if not is_index(node):
            continue
        parts = [node]
        if isinstance(node, Add):
            parts += [make(Add, node.terms[:count]) for count in range(2, len(node.terms))]
        for part in parts:
            values = evaluate(part, arrays, ARRAYS)
            assert values.min() >= -(2**31) and values.max() < 2**31, node


def test_partial_sums_count() -> None:
    """The total is below 2**31, the first two terms are not."""
    tables = {"t": table_data("t", [2**31 - 1]), "u": table_data("u", [1])}
    total = add(table("t", (Q,)), table("u", (K,)), const(-5))
    assert not fits_int32(compare(total, "<", mul(Q, K)), Domain(1, 1), tables)
    assert (
        fits_int32(compare(add(table("t", (Q,)), const(-5)), "<", mul(Q, K)), Domain(1, 1), tables) is False
    )
    assert fits_int32(compare(table("t", (Q,)), "<", mul(Q, K)), Domain(1, 1), tables)


def test_int32_is_not_claimed_past_its_end() -> None:
    edge = compare(mul(const(2), Q), "<", K)
    assert fits_int32(edge, Domain(1 << 30, 1), {})
    assert not fits_int32(edge, Domain((1 << 30) + 1, 1), {})
    assert not fits_int32(compare(Q, "<", const(2**31)), Domain(4, 4), {})
    assert fits_int32(compare(Q, "<", const(2**31 - 1)), Domain(4, 4), {})
    wide = {"t": table_data("t", [2**40])}
    assert not fits_int32(compare(table("t", (const(0),)), "<", K), Domain(1, 1), wide)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("q // k < 3", "zero"),
        ("q % (k - 3) == 0", "zero"),
        ("q // 0 == 1", "division by zero"),
        ("four[q] < 3", "entry 7"),
        ("four[q - 1] < 3", "entry -1"),
        ("four[min(q, 4)] < 3", "entry 4"),
        ("q * 4611686018427387904 < k", "64 bits"),
        ("q + 9223372036854775807 < k + q * 2", "64 bits"),
        ("(q - 4) * 3000000000 * 3000000000 < k", "64 bits"),
    ],
)
def test_faults_are_refused_with_their_place(text: str, message: str) -> None:
    with pytest.raises(MaskError, match=message) as caught:
        mask = am.compile(text)
        (mask.bind(four=[3, 1, 0, 2]) if "four" in mask.unbound else mask).dense(8)
    assert caught.value.place is not None


@pytest.mark.parametrize(
    "text",
    [
        "q // max(k, 1) < 3",
        "q % (k * 2 - 5) == 0",
        "four[min(q, 3)] < 3",
        "four[q % 4] < 3",
        "q // (h + 1) == k",
    ],
)
def test_guarded_forms_are_accepted(text: str) -> None:
    mask = am.compile(text)
    mask = mask.bind(four=[3, 1, 0, 2]) if "four" in mask.unbound else mask
    dense = mask.dense(6, heads=2)
    for b, h, q, k in np.ndindex(1, 2, 6, 6):
        at = element(Domain(6, 6, 0, 1, 2), {"four": [3, 1, 0, 2]}, b, h, q, k)
        assert dense[b, h, q, k] == holds(mask.predicate, at)


def test_a_huge_table_entry_at_the_edge() -> None:
    """-2**63 has no negation, so it takes part in nothing."""
    mask = am.compile("t[q] < u[k]", t=np.full(4, -(2**63)), u=np.arange(4))
    with pytest.raises(MaskError, match="64 bits"):
        mask.tiles(4)


def test_products_are_bounded_at_every_step() -> None:
    assert isinstance(mul(Q, K), Mul)
    assert integer(mul(Q, K), element(Domain(4, 4), {}, 0, 0, 3, 2)) == 6
    assert not tables_of(compare(Q, "<", K))
