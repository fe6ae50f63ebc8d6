"""Random predicates against whatever claims to leave their meaning alone.

    python -m tests.algebra.fuzz --seconds 60

Runs every function of CHECKS on one case after another until the time is over, and prints the smallest case that
fails. A check is a function of a case: a mask and a call that accepts it. It raises AssertionError.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from random import randrange

import hypothesis
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from attnmask.algebra.cost import operations
from attnmask.algebra.laws import rewrite
from attnmask.ir.check import check
from attnmask.ir.dense import dense
from attnmask.ir.domain import Domain
from attnmask.ir.nodes import Predicate
from attnmask.ir.text import to_text
from tests.algebra.brute import HOLDS
from tests.algebra.entangled import entangled
from tests.algebra.test_prove import check_claim
from tests.algebra.test_simplify import check_simplified
from tests.strategies import ARRAYS, TABLES, Case, cases, predicates, tables_of

Check = Callable[[Case], None]

_EXAMPLES = 100
_MOST_POSITIONS = 12


def laws_keep_the_truth(case: Case) -> None:
    """With and without what is known of the call: equal everywhere, accepted, no costlier, and settled."""
    root, call = case.mask.predicate, case.call.domain
    for domain in (None, call):
        for tables in (None, tables_of(root)):
            steps: list[tuple[str, Predicate, Predicate]] = []
            found = rewrite(root, lambda *step: steps.append(step), domain=domain, tables=tables)  # noqa: B023  # called at once
            same(root, found, call, "rewrite")
            assert operations(found) <= operations(root), to_text(found)
            assert rewrite(found, domain=domain, tables=tables) is found, f"not settled: {to_text(found)}"
            for name, before, after in steps:
                same(before, after, call, name)
            assert bool(steps) >= (found is not root)


def same(before: Predicate, after: Predicate, domain: Domain, what: str) -> None:
    """The two are accepted by the call, and equal at every place of it."""
    try:
        check(after, domain, TABLES, {})
    finally:
        hypothesis.note(f"{what}: {to_text(before)}  ->  {to_text(after)}")
    expected, found = dense(before, domain, ARRAYS), dense(after, domain, ARRAYS)
    assert (expected == found).all(), f"{what} changes {to_text(before)} to {to_text(after)}"


def simplify_keeps_the_truth(case: Case) -> None:
    for with_lengths in (False, True):
        check_simplified(case, with_lengths)


def verdicts_hold(case: Case) -> None:
    """Proofs against all pairs of some calls, counterexamples by evaluation; one claim a case."""
    number = case.call.domain.q_len + case.call.domain.kv_len
    claims = sorted(HOLDS)
    check_claim(case, claims[number % len(claims)], given_lengths=number % 2 == 0)


CHECKS: tuple[Check, ...] = (laws_keep_the_truth, simplify_keeps_the_truth, verdicts_hold)
SUBJECTS = st.one_of(cases(entangled(), most=_MOST_POSITIONS), cases(predicates, most=_MOST_POSITIONS))


def fuzz(seconds: float, seed: int) -> int:
    """Runs the checks for that long and returns the number of cases. AssertionError for one that fails."""
    end = time.monotonic() + seconds
    tried = 0
    while tried == 0 or time.monotonic() < end:

        @hypothesis.seed(seed + tried)
        @settings(
            max_examples=_EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck)
        )
        @given(SUBJECTS)
        def run(case: Case) -> None:
            nonlocal tried
            tried += 1
            for each in CHECKS:
                each(case)

        run()
    return tried


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, help="the same seed tries the same cases")
    options = parser.parse_args()
    seed = randrange(2**32) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    names = ", ".join(each.__name__ for each in CHECKS)
    print(f"{fuzz(options.seconds, seed)} cases: {names}")


if __name__ == "__main__":
    main()
