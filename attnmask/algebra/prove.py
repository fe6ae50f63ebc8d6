"""Proofs: a claim holds where the set of its contradictions is empty, for all lengths at once; else a counterexample.

What is called proved follows from integer sets; what is called refuted was evaluated by the definition. Between
the two lies unknown: opaque atoms that could decide, or a question past the cap.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partial

import islpy as isl

from attnmask.algebra.agreed import agreed
from attnmask.algebra.atoms import Atom, atoms
from attnmask.algebra.capped import TooHardError, capped
from attnmask.algebra.claims import Claim, NoneEmpty, Question
from attnmask.algebra.exhaustive import contradicted
from attnmask.algebra.facts import congruences, narrow
from attnmask.algebra.guess import guesses
from attnmask.algebra.presburger import SET, Sets
from attnmask.algebra.propositional import never
from attnmask.algebra.relax import relaxed
from attnmask.algebra.rows import large_row, row_is_empty, small_row
from attnmask.algebra.scope import Scope
from attnmask.algebra.search import Point, large, settled, small, truth_at
from attnmask.algebra.shrink import shrunk
from attnmask.algebra.verdict import Counterexample, Status, Verdict
from attnmask.ir.nodes import ScoreExpr
from attnmask.ir.tables import TableData
from attnmask.ir.text import one_line, to_text
from attnmask.ir.walk import variables

Tables = Mapping[str, TableData]
# Half a second of isl's time, or about that; each way to a small counterexample gets a part of it.
_CAP = 1_000_000
_CANDIDATE_CAP = 200_000
_MOST_TEXT = 40


def prove(claim: Question, scope: Scope, tables: Tables, scores: tuple[ScoreExpr, ...] = ()) -> Verdict:
    """The verdict on a claim for the calls of a scope. Tables that nobody has bound fit `scores` too."""
    claim = agreed(claim, tables.keys(), scores)
    if isinstance(claim, Claim) and never(claim.contradiction):
        return _proved(claim, scope)
    if (point := _small(claim, scope, tables)) is not None:
        return _refuted(claim, scope, tables, point)
    verdict = _unknown(claim, scope, "nothing was tried")
    for attempt in _attempts(claim, scope, tables):
        found = attempt()
        if found.status != "unknown":
            return found
        verdict = found if found.reason else verdict
    return verdict


def _attempts(claim: Question, scope: Scope, tables: Tables) -> Iterator[Callable[[], Verdict]]:
    """Ways to a verdict, from the cheapest on; each may leave it unknown."""
    opaque = atoms(claim.roots)
    yield partial(_by_sets, _without_atoms(claim) if opaque else claim, claim, scope, tables)
    yield partial(_by_points, claim, scope, tables)
    if opaque:
        yield partial(_by_sets, claim, claim, scope, tables)
    if len(atoms(claim.roots, tables)) < len(opaque):
        yield partial(_by_sets, claim, claim, scope, tables, expand=True)
    yield partial(_by_exhaustion, claim, scope, tables)


def _by_sets(
    question: Question, claim: Question, scope: Scope, tables: Tables, expand: bool = False
) -> Verdict:
    """The verdict on a claim from the sets of a question at least as strong."""
    try:
        with capped(_CAP):
            sets, left = _contradictions(question, scope, tables, expand)
            if left.is_empty():
                return _proved(claim, scope)
    except TooHardError:
        return _unknown(claim, scope, "it is too hard for the time that it may take")
    if (point := _candidate(claim, sets, left, tables)) is not None:
        return _refuted(claim, scope, tables, point)
    return _unknown(claim, scope, _why(sets.atoms))


def _by_points(claim: Question, scope: Scope, tables: Tables) -> Verdict:
    """The verdict where a larger counterexample is found by trying."""
    point = _large(claim, scope, tables)
    if point is None:
        return _unknown(claim, scope, _why(atoms(claim.roots)))
    return _refuted(claim, scope, tables, point)


def _by_exhaustion(claim: Question, scope: Scope, tables: Tables) -> Verdict:
    """The verdict where every pair can be looked at."""
    found = contradicted(claim, scope, tables)
    if found is False:
        return _proved(claim, scope)
    if isinstance(found, dict):
        point = settled(found, claim, {}, scope, tables)
        if point is not None and _holds_at(claim, point, tables):
            return _refuted(claim, scope, tables, point)
    return _unknown(claim, scope, "")


def _unknown(claim: Question, scope: Scope, reason: str) -> Verdict:
    return Verdict(claim.text, "unknown", str(scope), None, reason)


def _without_atoms(claim: Question) -> Question:
    """A stronger claim that is simpler to prove, where the claim has opaque atoms."""
    if isinstance(claim, NoneEmpty):
        return replace(claim, mask=relaxed(claim.mask, upward=False))
    return replace(claim, contradiction=relaxed(claim.contradiction, upward=True), masks=(), calls=())


def _contradictions(claim: Question, scope: Scope, tables: Tables, expand: bool) -> tuple[Sets, isl.Set]:
    """The pairs, or the rows, that contradict the claim; those that only some values of atoms allow included."""
    if isinstance(claim, NoneEmpty):
        sets = Sets((claim.mask,), scope, tables, expand=expand)
        return sets, _empty_rows(claim, sets)
    sets = Sets(claim.roots, scope, tables, expand=expand)
    left = sets.of(claim.contradiction).intersect(narrow(sets, claim.calls))
    for fact in congruences(sets):
        if left.is_empty():
            break
        left = left.intersect(fact)
    return sets, left


def _empty_rows(claim: NoneEmpty, sets: Sets) -> isl.Set:
    """The queries without a key that is surely attended, whatever the values of atoms that depend on the key."""
    calls = narrow(sets, claim.calls)
    for fact in congruences(sets):
        calls = calls.intersect(fact)
    mixed = [sets.atom_axis[atom] for atom in sets.atoms if claim.along in variables(atom)]
    if mixed:
        open_pairs = calls.intersect(sets.of(claim.mask, False))
        calls = _without(calls, mixed)
        surely = calls.subtract(_without(open_pairs, mixed))
    else:
        surely = calls.intersect(sets.of(claim.mask))
    axis = sets.axis[claim.along]
    return _without(calls, [axis]).subtract(_without(surely, [axis])).coalesce()


def _without(found: isl.Set, axes: list[int]) -> isl.Set:
    """The set with these dimensions free: what some value of them allows."""
    for axis in axes:
        found = found.project_out(SET, axis, 1).insert_dims(SET, axis, 1)
    return found


def _small(claim: Question, scope: Scope, tables: Tables) -> Point | None:
    if isinstance(claim, NoneEmpty):
        return small_row(claim, scope, tables)
    return small(claim, scope, tables)


def _large(claim: Question, scope: Scope, tables: Tables) -> Point | None:
    if isinstance(claim, NoneEmpty):
        return large_row(claim, scope, tables)
    return large(claim, scope, tables)


def _candidate(claim: Question, sets: Sets, left: isl.Set, tables: Tables) -> Point | None:
    """The smallest place in the set that evaluation confirms, or any; None where there is none."""
    for choose in (_smallest, isl.Set.sample_point):
        try:
            with capped(_CANDIDATE_CAP):
                places = left.project_out(SET, len(sets.names), len(sets.atoms))
                if isinstance(claim, NoneEmpty):  # any place along the row will do
                    places = places.fix_val(SET, sets.axis[claim.along], sets.number(0))
                found = _values(sets, choose(places))
        except TooHardError:
            continue
        if found is None:
            return None
        for guess in guesses(claim.roots, tables):
            point = settled(found, claim, guess, sets.scope, tables)
            if point is not None and _holds_at(claim, point, tables):
                return point
    return None


def _smallest(places: isl.Set) -> isl.Point:
    """The least point by its first coordinate, then the second, and so on: sizes come first.

    Coordinate by coordinate, which is far quicker than isl's own lexicographic minimum where there are quotients.
    """
    if not places.is_empty():
        for axis in range(places.dim(SET)):
            places = places.fix_val(SET, axis, places.dim_min_val(axis))
    return places.sample_point()


def _holds_at(claim: Question, point: Point, tables: Tables) -> bool:
    if isinstance(claim, NoneEmpty):
        return row_is_empty(claim, point, tables)
    return truth_at(claim.contradiction, point, tables)


def _values(sets: Sets, found: isl.Point) -> dict[str, int] | None:
    """The sizes and positions of a point, None where it is none."""
    if found.is_void():
        return None
    scope = sets.scope
    given = {"B": scope.batch or 1, "H": scope.heads or 1, "O": scope.q_offset or 0, "b": 0, "h": 0}
    return given | {
        name: int(found.get_coordinate_val(SET, axis).to_python()) for name, axis in sets.axis.items()
    }


def _why(opaque: tuple[Atom, ...]) -> str:
    """What stands in the way of a proof, where no counterexample was found either."""
    if not opaque:
        return "the calls that would contradict it are refused, or too large to evaluate"
    named = ", ".join(one_line(to_text(atom), _MOST_TEXT) for atom in opaque[:3])
    more = " and more" if len(opaque) > 3 else ""
    return f"it depends on {named}{more}, of which too little is known"


def _proved(claim: Question, scope: Scope) -> Verdict:
    extent: Status = "proved for all lengths" if scope.of_all_lengths else "proved for these lengths"
    return Verdict(claim.text, extent, str(scope))


def _refuted(claim: Question, scope: Scope, tables: Tables, point: Point) -> Verdict:
    point = shrunk(point, claim, scope, tables, lambda found: _holds_at(claim, found, tables))
    at = point.values
    row = claim.along if isinstance(claim, NoneEmpty) else None
    truths = (False,) if row else tuple(truth_at(mask, point, tables) for mask in claim.masks)
    example = Counterexample(
        at["Q"],
        at["K"],
        at["O"],
        at["B"],
        at["H"],
        at["b"],
        at["h"],
        None if row == "q" else at["q"],
        None if row == "k" else at["k"],
        truths,
        {name: data.array for name, data in point.tables.items()},
    )
    return Verdict(claim.text, "refuted", str(scope), example, _shown(claim, truths))


def _shown(claim: Question, truths: tuple[bool, ...]) -> str:
    if isinstance(claim, NoneEmpty):
        return "the query has no key" if claim.along == "k" else "the key has no query"
    if len(truths) == 1:
        return "the mask attends this pair"
    if claim.text == "symmetric":
        return "the mask attends the pair " + ("this way only" if truths[0] else "the other way only")
    if all(truths):
        return "both masks attend this pair"
    return f"the {'first' if truths[0] else 'second'} mask attends this pair, the other does not"
