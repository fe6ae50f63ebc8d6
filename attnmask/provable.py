"""What masks can be asked: to prove a claim, to compare with another, to simplify themselves, how far they reach."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, cast, get_args

from attnmask.errors import MaskError, did_you_mean
from attnmask.ir.choices import anyhow, choices_of, closed, resolved, unknown
from attnmask.ir.domain import Domain, length, whole
from attnmask.ir.walk import substitute, table_names

if TYPE_CHECKING:
    from attnmask.algebra.claims import Claim, NoneEmpty
    from attnmask.algebra.simplify import Simplified
    from attnmask.algebra.tile_formula import TileFormula
    from attnmask.algebra.verdict import Counterexample, Verdict
    from attnmask.ir.nodes import Expr, Predicate, ScoreExpr
    from attnmask.mask import Mask
    from attnmask.plan.difference import Difference
    from attnmask.plan.reach.result import Reach
    from attnmask.tiles.build import Block

ClaimName = Literal[
    "causal",
    "strictly_causal",
    "no_empty_rows",
    "no_empty_columns",
    "symmetric",
    "within_documents",
    "banded",
]
Relation = Literal["contained", "equal", "disjoint"]


class Provable:
    """The part of `Mask` whose answers need libraries that are imported when it is first asked."""

    __slots__ = ()

    def prove(
        self,
        claim: ClaimName,
        /,
        *,
        of: str = "doc",
        within: int | None = None,
        q_len: int | None = None,
        kv_len: int | None = None,
        batch: int | None = None,
        heads: int | None = None,
        q_offset: int | None = 0,
        square: bool = False,
    ) -> Verdict:
        """Whether a claim holds: for all lengths, or for those given. True only where it is proved.

        Args:
            claim: "causal" (no query sees a later key), "strictly_causal" (nor its own), "no_empty_rows" (every
                query has a key), "no_empty_columns" (every key a query), "symmetric" (pairs are attended both
                ways), "within_documents" (no query sees a key where `of` has another value), "banded" (no key is
                further than `within` positions away).
            of: the token function of "within_documents", as text: a table's name, or "i // 64".
            q_len, kv_len, batch, heads: as in a call; any number where not given.
            q_offset: position of the first query; None for any.
            square: only calls with as many keys as queries.

        Returns:
            A verdict. Its status is "proved for all lengths", "proved for these lengths", "refuted" (with a
            counterexample, the smallest that was found) or "unknown" (with the reason). Tables that are not bound
            may hold anything; a counterexample then says what. Calls that the mask refuses do not count. Of what a
            mask chooses from q and k only this is known: it lies among the candidates. A row of which no unit is a
            candidate, in a small call, refutes "no_empty_rows".
        """
        from attnmask.algebra.claims import NoneEmpty
        from attnmask.algebra.prove import prove
        from attnmask.algebra.scope import scope
        from attnmask.algebra.whatever import refuted_anyhow

        mine = cast("Mask", self)
        asked = scope(
            mine.made_for,
            q_len=q_len,
            kv_len=kv_len,
            batch=batch,
            heads=heads,
            q_offset=q_offset,
            square=square,
        )
        mask, question = _question(_anyhow(mine), claim, of, within, asked.q_offset)
        verdict = _of_choices(prove(question, asked, dict(mask.tables), _scores(mine)), mine)
        if verdict.status == "unknown" and mine.chooses and isinstance(question, NoneEmpty):
            found = refuted_anyhow(closed(mine.predicate), question, asked, dict(mine.tables))
            return verdict if found is None else found
        return verdict

    def compare(
        self,
        relation: Relation,
        other: Mask,
        /,
        *,
        q_len: int | None = None,
        kv_len: int | None = None,
        batch: int | None = None,
        heads: int | None = None,
        q_offset: int | None = 0,
        square: bool = False,
    ) -> Verdict:
        """Whether this mask is "contained" in another (attends no pair that it does not), "equal" or "disjoint".

        Scores do not matter. The other arguments and the verdict are those of `prove`; the counterexample's
        `truths` are those of this mask and of the other one.
        """
        from attnmask.algebra import claims
        from attnmask.algebra.prove import prove
        from attnmask.algebra.scope import scope

        if relation not in get_args(Relation):
            raise MaskError(
                f"masks cannot be compared for '{relation}'",
                hint=did_you_mean(str(relation), get_args(Relation))
                or f"ask for {' or '.join(get_args(Relation))}",
            )
        mine = cast("Mask", self)
        mask, against = (_anyhow(either) for either in _together(mine, other))
        relations = {"contained": claims.implied, "equal": claims.equal, "disjoint": claims.disjoint}
        question = relations[relation](mask.predicate, against.predicate)
        asked = scope(
            mask.made_for,
            q_len=q_len,
            kv_len=kv_len,
            batch=batch,
            heads=heads,
            q_offset=q_offset,
            square=square,
        )
        return _of_choices(prove(question, asked, dict(mask.tables), _scores(mine, other)), mine, other)

    def __le__(self, other: Mask) -> Verdict:
        """Whether every pair of this mask is one of the other, for all lengths."""
        return self.compare("contained", other)

    def __ge__(self, other: Mask) -> Verdict:
        """Whether every pair of the other mask is one of this, for all lengths."""
        return _mask(other).compare("contained", cast("Mask", self))

    def equivalent(self, other: Mask) -> Verdict:
        """Whether both masks attend the same pairs, for all lengths. (`==` asks for the same expression.)"""
        return self.compare("equal", other)

    def disjoint(self, other: Mask) -> Verdict:
        """Whether no pair is attended by both masks, for all lengths."""
        return self.compare("disjoint", other)

    def counterexample(self, other: Mask) -> Counterexample | None:
        """A pair that one of the masks attends and the other does not; None where none was found.

        None alone is no proof: `equivalent` tells whether there is one.
        """
        return self.equivalent(other).counterexample

    def difference(
        self,
        other: Mask,
        q_len: int,
        kv_len: int | None = None,
        *,
        block: Block = 128,
        batch: int | None = None,
        heads: int | None = None,
        b: int = 0,
        h: int = 0,
        q_offset: int = 0,
    ) -> Difference:
        """Where the masks differ in batch row b and head h of a call: exact counts and the first positions."""
        from attnmask.plan.difference import Difference, side

        one, against = _together(cast("Mask", self), other)
        call = {"block": block, "batch": batch, "heads": heads, "q_offset": q_offset}
        only, missing, both = (
            side(mask.tiles(q_len, kv_len, **call))  # type: ignore[arg-type]  # the arguments as they came
            for mask in (one - against, against - one, one & against)
        )
        return Difference(only, missing, both, whole("b", b), whole("h", h))

    def simplify(
        self,
        *,
        q_len: int | None = None,
        kv_len: int | None = None,
        batch: int | None = None,
        heads: int | None = None,
    ) -> Mask:
        """An equal mask with no more operations in `mask_mod`, and mostly with fewer; scores stay as they are.

        Args:
            q_len, kv_len, batch, heads: the largest calls that the result is for, the query offset counted with
                q_len. Terms that cannot matter within them disappear, and the result refuses larger calls.
        """
        mask = cast("Mask", self)
        most = mask.made_for
        asked = Domain(
            most.q_len if q_len is None else length("q_len", q_len),
            most.kv_len if kv_len is None else length("kv_len", kv_len),
            0,
            most.batch if batch is None else length("batch", batch),
            most.heads if heads is None else length("heads", heads),
        )
        found = _simplified(mask, asked.within(most))
        used = {*table_names(found.after), *(() if mask.score is None else table_names(mask.score))}
        tables = tuple((name, data) for name, data in mask.tables if name in used)
        return replace(mask, predicate=found.after, tables=tables, made_for=found.limits)

    def simplification(self) -> Simplified:
        """The predicate before and after `simplify()`, and the steps between."""
        mask = cast("Mask", self)
        return _simplified(mask, mask.made_for)

    def reach(
        self,
        q_len: int,
        *,
        layers: int | None,
        block: int = 128,
        batch: int | None = None,
        heads: int | None = None,
        b: int = 0,
        h: int | None = None,
    ) -> Reach:
        """What every position can have seen after layers of self-attention under this mask; see `attnmask.reach`."""
        from attnmask.reaching import reach

        mask = cast("Mask", self)
        return reach(mask, q_len, layers=layers, block=block, batch=batch, heads=heads, b=b, h=h)

    def layers_to_reach(
        self,
        q: int,
        k: int,
        *,
        q_len: int | None = None,
        block: int = 128,
        batch: int | None = None,
        heads: int | None = None,
        b: int = 0,
        h: int | None = None,
    ) -> int | None:
        """After how many layers position q has seen position k, None for never; see `attnmask.layers_to_reach`."""
        from attnmask.reaching import layers_to_reach

        mask = cast("Mask", self)
        return layers_to_reach(mask, q, k, q_len=q_len, block=block, batch=batch, heads=heads, b=b, h=h)

    def tile_formula(self, block: Block = 128) -> TileFormula:
        """Which tiles are live and which are full, as formulas in the lengths; for calls without an offset.

        MaskError where the mask depends on tables or on products of positions, or the formula would be long.
        """
        from attnmask.algebra.scope import Scope
        from attnmask.algebra.tile_formula import tile_formula
        from attnmask.tiles.build import block_pair

        mask = cast("Mask", self)
        if mask.chooses:
            raise MaskError("the tiles depend on what the mask chooses from q and k")
        scope = Scope(limits=mask.made_for)
        return tile_formula(mask.predicate, block_pair(block), scope, dict(mask.tables))


def _simplified(mask: Mask, limits: Domain) -> Simplified:
    from attnmask.algebra.scope import Scope
    from attnmask.algebra.simplify import simplify

    scope, tables = Scope(q_offset=None, limits=limits), dict(mask.tables)
    if not (chosen := choices_of(root := closed(mask.predicate))):
        return simplify(mask.predicate, scope, tables)
    found = simplify(resolved(root, unknown), scope, tables)
    back: dict[Expr, Expr] = {unknown(choice): choice for choice in chosen}

    def restored(changed: Predicate) -> Predicate:
        return substitute(changed, back)

    steps = tuple(
        replace(step, before=restored(step.before), after=restored(step.after)) for step in found.steps
    )
    return replace(found, before=restored(found.before), after=restored(found.after), steps=steps)


def _anyhow(mask: Mask) -> Mask:
    """The mask for whatever it may choose."""
    return replace(mask, predicate=anyhow(mask.predicate)) if mask.chooses else mask


def _scores(*masks: Mask) -> tuple[ScoreExpr, ...]:
    return tuple(mask.score for mask in masks if mask.score is not None)


def _of_choices(verdict: Verdict, *masks: Mask) -> Verdict:
    """A counterexample that assumes a choice is none: q and k that lead to it may not exist."""
    if verdict.status != "refuted" or not any(mask.chooses for mask in masks):
        return verdict
    reason = "it depends on what is chosen from q and k, of which only the candidates are known"
    return replace(verdict, status="unknown", counterexample=None, reason=reason)


def _question(
    mask: Mask, claim: str, of: str, within: int | None, q_offset: int | None
) -> tuple[Mask, Claim | NoneEmpty]:
    """The claim about the mask, and the mask with what the claim needs."""
    from attnmask.algebra import claims

    plain: dict[str, Callable[[Predicate], Claim | NoneEmpty]] = {
        "causal": claims.causal,
        "strictly_causal": claims.strictly_causal,
        "no_empty_rows": claims.no_empty_rows,
        "no_empty_columns": claims.no_empty_columns,
    }
    if not isinstance(claim, str):
        raise MaskError(f"a claim is asked for by name, not by {type(claim).__name__}")
    if claim in plain:
        return mask, plain[claim](mask.predicate)
    if claim == "symmetric":
        if q_offset is None:
            raise MaskError("'symmetric' needs to know where queries begin", hint="give q_offset")
        return mask, claims.symmetric(mask.predicate, q_offset)
    if claim == "banded":
        if within is None:
            raise MaskError("'banded' needs a distance", hint='write prove("banded", within=512)')
        return mask, claims.banded(mask.predicate, whole("within", within))
    if claim == "within_documents":
        from attnmask import library

        if not isinstance(of, str):
            raise MaskError(f"'of' is a token function as text, not {type(of).__name__}")
        mask, documents = _together(mask, library.same(of))
        return mask, claims.within(mask.predicate, documents.predicate, of)
    hint = did_you_mean(str(claim), get_args(ClaimName)) or f"ask for one of {', '.join(get_args(ClaimName))}"
    raise MaskError(f"there is no claim '{claim}'", hint=hint)


def _mask(other: object) -> Mask:
    if not isinstance(other, Provable):
        raise MaskError(f"a mask is compared with a mask, not with {type(other).__name__}")
    return cast("Mask", other)


def _together(mask: Mask, other: Mask) -> tuple[Mask, Mask]:
    """Both masks without scores, with each other's tables and limits."""
    mine, theirs = replace(mask, score=None), replace(_mask(other), score=None)
    return mine._combined(theirs, lambda first, _: first), theirs._combined(mine, lambda first, _: first)
