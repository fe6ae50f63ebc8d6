"""Smart constructors: the laws they hold, the values they keep, and one object a structure."""

from __future__ import annotations

import copy
import gc
import pickle
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import attnmask as am
from attnmask.errors import MaskError
from attnmask.ir import index, predicate
from attnmask.ir.index import (
    absolute,
    add,
    bitop,
    const,
    floordiv,
    maximum,
    minimum,
    mod,
    mul,
    neg,
    sub,
    var,
)
from attnmask.ir.nodes import (
    Add,
    And,
    Const,
    Expr,
    FloorDiv,
    Index,
    Mul,
    Node,
    Or,
    Predicate,
    Truth,
    Xor,
    make,
)
from attnmask.ir.predicate import FALSE, TRUE, and_, compare, not_, or_, where, xor
from attnmask.ir.walk import children, postorder, rebuild
from tests.oracle import At, Fault, element, value
from tests.strategies import ENTRIES, Call, calls, predicates, raw_indices, raw_predicates, smart

Q, K, H = var("q"), var("k"), var("h")


@given(st.one_of(raw_indices(), raw_predicates()), calls(most=6), st.data())
def test_values_are_kept(raw: Index | Predicate, call: Call, data: st.DataObject) -> None:
    """Where the expression as drawn is sound, its smart form has the same value."""
    domain = call.domain
    row, k = data.draw(st.integers(0, domain.q_len - 1)), data.draw(st.integers(0, domain.kv_len - 1))
    at = element(domain, ENTRIES, domain.batch - 1, domain.heads - 1, row, k)
    try:
        expected = value(raw, at)
    except Fault:
        return
    try:
        rebuilt = smart(raw)
    except MaskError:
        return  # constants past 64 bits, and zero divisors in parts that a condition leaves out
    assert value(rebuilt, at) == expected


@given(predicates)
def test_smart_forms_are_stable(root: Predicate) -> None:
    assert smart(root) is root


@given(predicates)
def test_the_laws_of_logic_hold_as_identities(root: Predicate) -> None:
    assert not_(not_(root)) is root
    assert and_(root, root) is root
    assert or_(root, FALSE) is root
    if not isinstance(root, And | Or):  # these are flattened, and their parts compared one by one
        assert and_(root, not_(root)) is FALSE
        assert or_(not_(root), root) is TRUE
    assert xor(root, root) is FALSE
    assert xor(root, not_(root)) is TRUE
    assert xor(TRUE, root) is not_(root)


def test_sums_are_collected() -> None:
    assert add(Q, Q, neg(K)) is add(mul(const(2), Q), mul(const(-1), K))
    assert sub(add(Q, K), add(K, Q)) is const(0)
    assert add(Q, const(3), neg(Q)) is const(3)
    assert mul(const(3), add(Q, const(-2))) is add(mul(const(3), Q), const(-6))
    assert mul(Q, K, const(0)) is const(0)
    assert isinstance(add(Q, const(1)), Add)


def test_quotients_are_simplified_only_where_that_is_true() -> None:
    assert floordiv(floordiv(Q, const(4)), const(3)) is floordiv(Q, const(12))
    assert floordiv(Q, const(1)) is Q
    assert mod(Q, const(-1)) is const(0)
    assert floordiv(const(-7), const(2)) is const(-4)
    assert mod(const(-7), const(3)) is const(2)
    assert bitop("&", const(7), Q) is mod(Q, const(8))
    far = floordiv(floordiv(Q, const(2**40)), const(2**40))
    assert isinstance(far, FloorDiv)  # 2**80 is no 64-bit divisor


@given(st.integers(-60, 60), st.integers(-7, 7), st.integers(-7, 7))
def test_quotients_of_quotients(number: int, first: int, second: int) -> None:
    if first == 0 or second == 0:
        return
    found = value(floordiv(floordiv(Q, const(first)), const(second)), At({"q": number}, {}))
    assert found == number // first // second


def test_extremes_fold_their_constants() -> None:
    assert minimum(Q, const(3), const(5), Q) is minimum(Q, const(3))
    assert maximum(maximum(Q, K), const(2)) is maximum(Q, K, const(2))
    assert absolute(absolute(Q)) is absolute(Q)
    assert absolute(const(-3)) is const(3)


@pytest.mark.parametrize(
    ("op", "expected"), [("<", "q<k"), ("<=", "q<=k"), (">", "k<q"), (">=", "k<=q"), ("==", "q==k")]
)
def test_comparisons_have_one_direction(op: str, expected: str) -> None:
    found = compare(Q, op, K)  # type: ignore[arg-type]  # the parameters are the operators
    assert str(am.Mask(found)).replace(" ", "") == expected


def test_constant_comparisons_disappear() -> None:
    assert compare(add(Q, const(3)), "<", add(Q, const(4))) is TRUE
    assert compare(Q, "!=", Q) is FALSE
    assert where(FALSE, Q, K) is K
    assert where(compare(Q, "<", K), H, H) is H


def test_constants_past_64_bits_are_refused() -> None:
    assert const(2**63 - 1).value == 2**63 - 1
    for past in (2**63, -(2**63) - 1):
        with pytest.raises(MaskError, match="64 bits"):
            const(past)
    with pytest.raises(MaskError, match="division by zero"):
        floordiv(Q, const(0))
    with pytest.raises(MaskError, match="division by zero"):
        mod(const(4), const(0))


@given(predicates)
def test_equal_structure_is_one_object(root: Predicate) -> None:
    for node in postorder(root):
        assert rebuild(node, children(node)) is node


@given(predicates)
def test_pickles_and_copies_are_the_object_itself(root: Predicate) -> None:
    assert pickle.loads(pickle.dumps(root)) is root
    assert copy.deepcopy(root) is root


def test_unused_nodes_are_forgotten() -> None:
    from attnmask.ir.nodes import _pool

    root: Node | None = make(Const, 987_654_321)
    key = (Const, 987_654_321)
    assert _pool.get(key) is root
    root = None
    gc.collect()
    assert _pool.get(key) is None


def test_threads_get_one_object() -> None:
    found: list[list[Expr]] = []

    def build() -> None:
        found.append([add(mul(const(i), Q), K, const(i)) for i in range(2, 400)])

    threads = [threading.Thread(target=build) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(a is b for row in found[1:] for a, b in zip(found[0], row, strict=True))


def test_long_chains_do_not_recurse() -> None:
    """Every walk is a loop: a chain far deeper than Python's stack is built, printed and evaluated."""
    root: Predicate = compare(Q, "<", K)
    turns = [compare(mod(add(mul(const(i), Q), K), const(7)), "==", const(3)) for i in range(1, 9)]
    for number in range(20_000):
        root = make(Xor, root, turns[number % 8]) if number % 2 else or_(root, turns[number % 8])
    dense = am.Mask(root).dense(4)
    expected = np.less.outer(np.arange(4), np.arange(4))
    for number in range(20_000):
        i, (q, k) = number % 8 + 1, np.indices((4, 4))
        turn = (i * q + k) % 7 == 3
        expected = expected ^ turn if number % 2 else expected | turn
    np.testing.assert_array_equal(dense, expected)


def test_sums_and_products_have_a_limit() -> None:
    with pytest.raises(MaskError, match="terms"):
        add(*(index.table(f"t{i}", (Q,)) for i in range(1000)))
    with pytest.raises(MaskError, match="factors"):
        mul(*(Q for _ in range(1000)))


def test_truth_is_one_of_two_objects() -> None:
    assert predicate.truth(True) is TRUE and make(Truth, False) is FALSE
    assert isinstance(mul(Q, K), Mul)
