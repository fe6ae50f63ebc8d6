"""Integer sets against evaluation: exact without opaque atoms, and never too small with them."""

from __future__ import annotations

import islpy as isl
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import attnmask as am
from attnmask.algebra.capped import TooHardError, capped
from attnmask.algebra.facts import congruences, narrow
from attnmask.algebra.presburger import SET, Sets
from attnmask.algebra.propositional import never
from attnmask.algebra.relax import relaxed
from attnmask.algebra.scope import Scope
from attnmask.ir.dense import dense
from attnmask.ir.domain import Domain
from attnmask.ir.nodes import Predicate
from attnmask.ir.tables import TableData, table_data
from tests.strategies import Case, cases

Q_LEN, KV_LEN = 9, 11
TABLES = {
    "doc": np.arange(20) // 4,
    "ramp": np.concatenate([np.arange(7), np.full(5, 3), np.arange(8) * -2]),
    "jumps": np.array([5, 5, 5, 0, 0, 9, 9, 9, 9, 1, 1, 1, 2, 3, 4, 5, 5, 5, 5, 5]),
    "live": np.arange(20) % 6 > 1,
}
EXACT = [
    "q - k < 3",
    "(q - k) // 3 == 1",
    "(q - 2 * k) // -4 >= 1",
    "(q - k) % 5 == 2",
    "(q - k) % -5 == -2",
    "min(q, k, 5) + max(k, 3) < 9",
    "abs(q - k) * 3 - 2 * q < 4",
    "where(q < k, q, k // 2) == 2",
    "where(q % 3 == k % 2, where(k < 4, q, -k), 7) < 5",
    "((q - k) & 3) == 1",
    "((q - k) & 6) == 4",
    "((q - k) & -3) < 0",
    "((q + k) & -4) == 8",
    "((q - k) | 5) == 7",
    "((q - k) | -6) == -1",
    "((q + k) ^ 3) < 6",
    "((q - k) ^ -5) > 2",
    "((q ^ 9) & 10) == (k & 10)",
    "doc[q] == doc[k]",
    "ramp[q] < ramp[k]",
    "jumps[q] == jumps[(q + k) // 2]",
    "live[k] & causal | ~live[q]",
    "causal ^ (window(3) ^ sink(2))",
    "~(causal & ~(sink(2) | q == k))",
    "k < K - q & q < Q - 2",
]
OPAQUE = [
    "q * k < 20",
    "q * q - k < 9",
    "k // max(q, 1) == 1",
    "k % max(q, 1) == 0",
    "(q & k) < 3",
    "perm[q] <= perm[k]",
    "perm[q] <= perm[k] & causal",
    "adj[q, k] & causal",
    "doc[perm[q]] == 3",
]


def bound(text: str) -> tuple[Predicate, dict[str, TableData]]:
    mask = am.compile(text)
    random = np.random.default_rng(2)
    arrays = {**TABLES, "perm": random.permutation(20), "adj": random.integers(0, 2, (20, 20)) > 0}
    mask = mask.bind(**{name: arrays[name] for name in mask.unbound})
    return mask.predicate, dict(mask.tables)


def places(sets: Sets, found: isl.Set) -> set[tuple[int, int]]:
    """The (q, k) that some value of the atoms allows."""
    found = found.project_out(SET, len(sets.names), len(sets.atoms))
    points: set[tuple[int, int]] = set()

    def keep(point: isl.Point) -> None:
        q, k = (int(point.get_coordinate_val(SET, sets.axis[name]).to_python()) for name in "qk")
        points.add((q, k))

    found.foreach_point(keep)
    return points


def split(text: str, *, expand: bool) -> tuple[Sets, set[tuple[int, int]], set[tuple[int, int]], np.ndarray]:
    """Where it may be true, where it may be false, and where it is true: bool [Q_LEN, KV_LEN]."""
    root, tables = bound(text)
    sets = Sets((root,), Scope(Q_LEN, KV_LEN), tables, expand=expand)
    calls = narrow(sets, (root,))
    for fact in congruences(sets):
        calls = calls.intersect(fact)
    true, false = (places(sets, calls.intersect(sets.of(root, truth))) for truth in (True, False))
    arrays = {name: data.array for name, data in tables.items()}
    return sets, true, false, dense(root, Domain(Q_LEN, KV_LEN), arrays)[0, 0]


@pytest.mark.parametrize("text", EXACT)
def test_sets_are_exact(text: str) -> None:
    sets, true, false, expected = split(text, expand=True)
    assert not sets.atoms
    assert true == {(int(q), int(k)) for q, k in np.argwhere(expected)}
    assert false == {(int(q), int(k)) for q, k in np.argwhere(~expected)}


@pytest.mark.parametrize("text", EXACT + OPAQUE)
def test_with_atoms_every_place_may_be_what_it_is(text: str) -> None:
    """The facts about atoms allow what the tables hold and what the products are."""
    _, true, false, expected = split(text, expand=False)
    assert true >= {(int(q), int(k)) for q, k in np.argwhere(expected)}
    assert false >= {(int(q), int(k)) for q, k in np.argwhere(~expected)}


def test_what_the_facts_of_atoms_say() -> None:
    """Sorted tables ascend, squares ascend with the magnitude, products commute, equal arguments are equal."""
    _, true, _, _ = split("doc[q] < doc[k] & k <= q", expand=False)
    assert not true
    _, true, _, _ = split("perm[q] < perm[k] & k == q", expand=False)
    assert not true
    _, true, _, _ = split("perm[q] < perm[k] & k < q", expand=False)
    assert true
    _, true, _, _ = split("(q - k) * (q - k) > 0 & q == k", expand=False)
    assert not true
    _, true, _, _ = split("q * k != k * q", expand=False)
    assert not true


@settings(deadline=None, max_examples=60)
@given(case=cases(most=10, planes=False), expand=st.booleans())
def test_random_predicates(case: Case, expand: bool) -> None:
    root, domain, tables = case.mask.predicate, case.call.domain, dict(case.mask.tables)
    scope = Scope(domain.q_len, domain.kv_len, domain.q_offset, 1, 1)
    try:
        with capped(200_000):
            sets = Sets((root,), scope, tables, expand=expand)
            calls = narrow(sets, (root,))
            true, false = (places(sets, calls.intersect(sets.of(root, truth))) for truth in (True, False))
    except TooHardError:
        return
    expected = dense(root, domain, case.arrays)[0, 0]
    for (row, k), truth in np.ndenumerate(expected):
        at = (int(row) + domain.q_offset, int(k))
        assert at in (true if truth else false)
        assert sets.atoms or at not in (false if truth else true)


@settings(deadline=None, max_examples=80)
@given(case=cases(most=10))
def test_relaxed_predicates_err_on_the_side_that_is_asked_for(case: Case) -> None:
    expected = dense(case.mask.predicate, case.call.domain, case.arrays)
    more = dense(relaxed(case.mask.predicate, upward=True), case.call.domain, case.arrays)
    less = dense(relaxed(case.mask.predicate, upward=False), case.call.domain, case.arrays)
    assert (more | ~expected).all()
    assert (expected | ~less).all()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("causal & k > q", True),
        ("causal & ~(causal | sink(3))", True),
        ("(causal ^ sink(3)) & causal & sink(3)", True),
        ("(causal ^ sink(3)) & causal", False),
        ("(causal ^ sink(3)) & ~causal", False),
        ("q == k & q != k", True),
        ("live[q] & ~(live[q] | live[k])", True),
        ("q < 3 & q > 5", False),  # that is arithmetic
    ],
)
def test_never(text: str, expected: bool) -> None:
    assert never(am.compile(text).predicate) is expected


def test_past_the_cap_there_is_no_answer_and_the_next_question_is_answered() -> None:
    mask = am.compile("zoo.swin(56, 56, 7, 3)").predicate
    with pytest.raises(TooHardError), capped(50):
        Sets((mask,), Scope(), {}).of(mask).is_empty()
    with capped(100_000):
        assert not Sets((mask,), Scope(), {}).of(mask).is_empty()


def test_a_small_table_as_pieces() -> None:
    from attnmask.algebra.atoms import pieces

    for array in TABLES.values():
        found = pieces(table_data("t", array))
        assert found is not None
        written = [
            piece.slope * at + piece.offset for piece in found for at in range(piece.first, piece.last + 1)
        ]
        assert written == array.astype(int).tolist()
    assert pieces(table_data("t", np.random.default_rng(0).permutation(400))) is None
