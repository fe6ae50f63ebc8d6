"""Every law by itself and all together, against dense evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from numpy.typing import NDArray

import attnmask as am
from attnmask.algebra.cost import operations
from attnmask.algebra.laws import EQUAL_PARTS, RULES, Rule, rewrite
from attnmask.algebra.laws.known import Known
from attnmask.algebra.laws.rewriting import Rewriting
from attnmask.ir.check import check
from attnmask.ir.dense import dense
from attnmask.ir.domain import Domain
from attnmask.ir.index import add, const, minimum, mod, table, var
from attnmask.ir.nodes import Index, Predicate, VarName
from attnmask.ir.predicate import FALSE, TRUE, and_, bool_table, compare, or_, where, xor
from attnmask.ir.tables import TableData, table_data
from attnmask.ir.text import to_text
from attnmask.ir.walk import variables
from tests.algebra.entangled import entangled
from tests.algebra.fuzz import laws_keep_the_truth
from tests.algebra.pairs import Pair, files, pairs
from tests.strategies import ARRAYS, Case, cases, predicates
from tests.syntax.patience import at_most

Q, K = var("q"), var("k")
LAWS = [pair for name in files() if name not in ("redundant.txt", "simplify.txt") for pair in pairs(name)]
_MOST = 12


@cache
def compiled(text: str) -> Predicate:
    mask = am.compile(text)
    return mask.bind(**{name: ARRAYS[name] for name in mask.unbound}).predicate


@cache
def planes(root: Predicate, lengths: range) -> list[NDArray[np.bool_]]:
    return [
        dense(root, Domain(q_len, kv_len, offset, batch=2, heads=3), ARRAYS)
        for q_len in lengths
        for kv_len in lengths
        for offset in (0, 7)
    ]


def agree(one: Predicate, other: Predicate) -> None:
    """At all lengths from 1 to 12; without Q and K the smaller planes are parts of the largest."""
    sizes = (variables(one) | variables(other)) & {"Q", "K"}
    lengths = range(1, _MOST + 1) if sizes else range(_MOST, _MOST + 1)
    for left, right in zip(planes(one, lengths), planes(other, lengths), strict=True):
        np.testing.assert_array_equal(left, right, err_msg=f"{to_text(one)}  against  {to_text(other)}")


@pytest.mark.parametrize("pair", LAWS, ids=str)
def test_fixtures(pair: Pair) -> None:
    """The law of the heading is applied, every step is sound, and the result is the expected text."""
    root = compiled(pair.given)
    steps: list[tuple[str, Predicate, Predicate]] = []
    found = rewrite(root, lambda *step: steps.append(step))
    assert to_text(found) == to_text(compiled(pair.expected))
    assert pair.heading in [name for step in steps for name in step[0].split(", ")]
    assert operations(found) <= operations(root)
    assert rewrite(found) is found
    agree(root, found)
    for _, before, after in steps:
        agree(before, after)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_each_law_alone(rule: Rule) -> None:
    """Without the others it changes some of its own fixtures, and the truth of none."""
    own = [compiled(pair.given) for pair in LAWS if pair.heading == rule.name]
    changed = 0
    for root in own:
        found = Rewriting((rule,), Known()).run(root)
        agree(root, found)
        changed += found is not root
    assert changed, f"'{rule.name}' has no fixture that it changes by itself"


def test_fixtures_are_of_laws() -> None:
    names = [rule.name for rule in RULES]
    assert len(set(names)) == len(names)
    assert {pair.heading for pair in LAWS} == {*names, EQUAL_PARTS}


@settings(max_examples=150)
@given(cases(entangled(), most=_MOST))
def test_predicates_of_few_atoms(case: Case) -> None:
    laws_keep_the_truth(case)


@settings(max_examples=150)
@given(cases(predicates, most=_MOST))
def test_any_predicates(case: Case) -> None:
    laws_keep_the_truth(case)


# ---- what is known of a call ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "domain", "expected"),
    [
        ("window(512)", Domain(100, 100), "all"),
        ("window(64)", Domain(100, 100), "abs(q - k) < 64"),
        ("q < 20 & causal", Domain(10, 30, q_offset=20), "none"),
        ("q >= 20 & causal", Domain(10, 30, q_offset=20), "k <= q"),
        ("causal", Domain(10, 30, q_offset=29), "all"),
        ("k >= K - 4", Domain(10, 4), "all"),
        ("q < Q", Domain(10, 10), "all"),
        ("q < Q", Domain(10, 10, q_offset=1), "q < Q"),
        ("q < Q", None, "q < Q"),
        ("k < K & h < H & b < B", None, "all"),
        ("h < 8 | sink(4)", Domain(9, 9, heads=8), "all"),
        ("q // 64 == k // 64", Domain(64, 64), "all"),
        ("(q - k) % 4 == 0 & abs(q - k) < 3", Domain(3, 3), "(q - k) % 4 == 0"),
        ("max(q - 511, 0) <= k", Domain(512, 9), "all"),
    ],
)
def test_dead_terms(text: str, domain: Domain | None, expected: str) -> None:
    assert to_text(rewrite(am.compile(text).predicate, domain=domain)) == to_text(
        am.compile(expected).predicate
    )


def test_entries_of_tables_are_bounded_by_what_they_hold() -> None:
    root = am.compile("doc[q] >= 0 & where(k <= q, doc[q], -1) == doc[k]").predicate
    assert operations(rewrite(root)) == operations(root)
    found = rewrite(root, tables={"doc": table_data("doc", np.arange(9) // 3)})
    assert found is am.compile("k <= q & doc[q] == doc[k]").predicate


# ---- evaluation must not start to fail --------------------------------------------------------------


def test_what_holds_around_an_entry_does_not_reach_into_its_index() -> None:
    """`k < 5` says that min(k, 4) is k where it matters, but the entry is read everywhere."""
    for inner in (minimum(K, const(4)), where(compare(K, "<", const(5)), K, const(0))):
        root = and_(compare(K, "<", const(5)), compare(table("t", [inner]), "==", const(1)))
        assert rewrite(root) is root
        check(rewrite(root), Domain(9, 9), {"t": table_data("t", np.ones(5, int))}, {})


def test_indices_counted_from_the_end_keep_their_form() -> None:
    """`check` accepts where(at < 0, at + size, at) as an index of a table of that size, and knows it by its form."""
    at = add(Q, const(-5))

    def entry(at: Index) -> Predicate:
        return compare(table("t", [where(compare(at, "<", const(0)), add(at, const(8)), at)]), "==", K)

    root = entry(at)
    assert rewrite(root) is root
    check(root, Domain(8, 8), {"t": table_data("t", np.arange(8))}, {})
    assert rewrite(entry(mod(Q, const(8)))) is compare(table("t", [mod(Q, const(8))]), "==", K)


SIZES = (2**40, 2**60, 2**61, 2**62 - 20, 2**62 + 20, 2**63 - 100)
ENTRIES = [np.array([size, -size, size - 1, 0, 3 - size, size]) for size in SIZES]
ENTRIES += [np.abs(array) for array in ENTRIES]
NEAR_THE_LIMIT = [
    "abs(t[q] - t[k]) < 5 & t[k] <= t[q]",
    "abs(t[q]) // 2 < 9 & k <= q",
    "t[q] // 4 < 2305843009213693951",
    "t[q] // 4 < 576460752303423488",
    "min(t[q] - t[k], k) < q & t[q] // 8 * 8 + t[q] % 8 < 9",
    "h + min(t[q] - t[k], q + 20) < 9",
    "where(k <= q, t[q] - t[k], 7) + q < 9",
    "where(k <= q, t[q] - t[k], q + 20) + h < 9",
    "(t[q] % 8 + t[k] % 8) % 4 == 1",
    "3 * (t[q] % 16) % 8 == k",
    "(t[q] - t[k]) // 3 * 3 + (t[q] - t[k]) % 3 < 5",
    "max(t[q], t[k]) - min(t[q], t[k]) < 4",
    "t[q] // 16 * 16 <= k & k < t[q] // 16 * 16 + 16",
]


def accepted(root: Predicate, tables: dict[str, TableData]) -> bool:
    try:
        check(root, Domain(6, 6), tables, {})
    except am.MaskError:
        return False
    return True


@pytest.mark.parametrize("text", NEAR_THE_LIMIT)
def test_integers_stay_within_64_bits(text: str) -> None:
    """What is accepted before rewriting is accepted after it, and means the same."""
    root = am.compile(text).predicate
    some = 0
    for array in ENTRIES:
        tables = {"t": table_data("t", array)}
        small = tables["t"].bounds[1] <= 2**60  # so that rewriting need not be told
        if accepted(root, tables):
            for found in (rewrite(root, tables=tables), *([rewrite(root)] if small else [])):
                assert accepted(found, tables), to_text(found)
                before, after = (dense(each, Domain(6, 6), {"t": array}) for each in (root, found))
                np.testing.assert_array_equal(before, after)
            some += 1
    assert some > 1


# ---- cost -------------------------------------------------------------------------------------------


def test_sums_that_are_needed_anyway_stay() -> None:
    """q - k < 5 is cheaper than 2*q - 2*k < 9, unless 2*q - 2*k is worked out already."""
    shared = [
        am.compile(f"2 * {one} - 2 * {other} < 9 & abs((2 * {one} - 2 * {other}) * b) < 5").predicate
        for one, other in ("qk", "qh", "hk")
    ]
    for root in (shared[0], and_(*shared)):
        assert operations(Rewriting(RULES, Known()).run(root)) > operations(root)
        assert rewrite(root) is root
    causal, entry = compare(K, "<=", Q), bool_table("live", [K])
    root = and_(*shared, entry, or_(causal, and_(causal, entry)))
    assert rewrite(root) is and_(*shared, entry, causal)  # logic is simplified nevertheless


@pytest.mark.parametrize(("position", "size", "most"), [("k", "K", 2**31 - 1), ("b", "B", 2**16)])
def test_positions_lie_below_their_size(position: VarName, size: VarName, most: int) -> None:
    """A linear sum is least and greatest at corners of 0 <= position < size <= most."""
    corners = [(at, of) for at in (0, 1, most - 2, most - 1) for of in (1, 2, most - 1, most) if at < of]
    for one, other in product(range(-3, 4), repeat=2):
        terms = [(var(position), one), (var(size), other), (Q, 2)]
        values = [one * at + other * of for at, of in corners]
        bounds = Known().sum_bounds(tuple(term for term in terms if term[1]))
        assert bounds == (min(values), max(values) + 2 * (2**31 - 2))


# ---- large and deep ---------------------------------------------------------------------------------


def chain(length: int) -> Iterator[Predicate]:
    for number in range(length):
        yield compare(add(Q, mod(K, const(number + 2))), "<", const(3 * number))


def alternating(length: int) -> Predicate:
    root: Predicate = compare(K, "<=", Q)
    for number, term in enumerate(chain(length)):
        root = (and_ if number % 2 else or_)(root, term)
    return root


def exclusive(length: int) -> Predicate:
    root: Predicate = FALSE
    for term in chain(length):
        root = xor(root, term)
    return root


def deep_integer(length: int) -> Predicate:
    value: Index = Q
    for number in range(length):
        value = mod(add(value, K), const(number + 2))
    return compare(value, "<", K)


@pytest.mark.parametrize(
    ("build", "depth"), [(alternating, 10_000), (exclusive, 3_000), (deep_integer, 10_000)]
)
def test_deep_predicates(build: Callable[[int], Predicate], depth: int) -> None:
    root = build(depth)
    with at_most(60):
        found = rewrite(root)
    assert operations(found) <= operations(root)
    agree(build(12), rewrite(build(12)))


def test_wide_predicates() -> None:
    points = and_(*(compare(Q, "!=", const(number)) for number in range(3000)))
    entries = or_(
        *(and_(bool_table("live", [Q]), compare(K, "==", const(3 * number))) for number in range(1000))
    )
    with at_most(30):
        assert rewrite(points) is points
        assert operations(rewrite(entries)) == operations(entries) - 999
    squares = am.compile(
        " | ".join(f"q in {n}:{n + 5} & k in {n}:{n + 5}" for n in range(0, 100, 5))
    ).predicate
    with at_most(30):
        agree(squares, rewrite(squares))


def test_a_published_mask_of_many_operations() -> None:
    mask = am.compile("zoo.bigbird(block=4, random=3)")
    with at_most(10):
        found = rewrite(mask.predicate)
    assert operations(found) < operations(mask.predicate)
    agree(mask.predicate, found)


def test_truths_stay() -> None:
    assert rewrite(TRUE) is TRUE and rewrite(FALSE) is FALSE
