"""Simplifying: fewer operations in `mask_mod`, and the same truth at every place of every call in question."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from attnmask.algebra.atoms import atoms
from attnmask.algebra.capped import TooHardError, capped
from attnmask.algebra.care import Pruner
from attnmask.algebra.cost import operations
from attnmask.algebra.facts import narrow
from attnmask.algebra.laws import rewrite
from attnmask.algebra.presburger import Sets
from attnmask.algebra.scope import Scope
from attnmask.ir.domain import Domain
from attnmask.ir.nodes import BoolTable, Predicate, Table, Var
from attnmask.ir.tables import TableData
from attnmask.ir.walk import postorder

_CAP = 1_000_000
# Larger predicates are left to the boolean laws.
_MOST_NODES = 600
_MOST_ROUNDS = 3


@dataclass(frozen=True, slots=True)
class Step:
    """One rewriting: the name of the rule, and the part that it changed, before and after."""

    rule: str
    before: Predicate
    after: Predicate


@dataclass(frozen=True, slots=True)
class Simplified:
    """A predicate after all steps, no costlier than before them, and equal in every call within `limits`."""

    before: Predicate
    after: Predicate
    steps: tuple[Step, ...]
    limits: Domain


def simplify(root: Predicate, scope: Scope, tables: Mapping[str, TableData]) -> Simplified:
    """The predicate with fewer operations per element (see `cost`), equal in every call of the scope."""
    steps: list[Step] = []
    limits = scope.limits
    current = rewrite(root, lambda *step: steps.append(Step(*step)))
    for _ in range(_MOST_ROUNDS):
        found = _by_sets(current, scope, tables, expand=True) or _by_sets(
            current, scope, tables, expand=False
        )
        if found is None:
            break
        current = found.after
        steps += found.steps
    if operations(current) >= operations(root):
        return Simplified(root, root, (), limits)
    return Simplified(root, current, tuple(steps), _narrowed(limits, root, current, tables))


def _narrowed(limits: Domain, before: Predicate, after: Predicate, tables: Mapping[str, TableData]) -> Domain:
    """The calls that are not refused before: those that tables which have disappeared were long enough for."""
    sizes = {"q": limits.q_len, "k": limits.kv_len, "b": limits.batch, "h": limits.heads}
    for node in set(postorder(before)) - set(postorder(after)):
        if isinstance(node, Table | BoolTable) and node.name in tables:
            for item, size in zip(node.indices, tables[node.name].array.shape, strict=True):
                if isinstance(item, Var) and item.name in sizes:
                    sizes[item.name] = min(sizes[item.name], size)
    return Domain(sizes["q"], sizes["k"], 0, sizes["b"], sizes["h"])


def _by_sets(
    root: Predicate, scope: Scope, tables: Mapping[str, TableData], *, expand: bool
) -> Simplified | None:
    """One round of pruning; None where it makes nothing cheaper, or would take too long."""
    if len(postorder(root)) > _MOST_NODES or (expand and atoms((root,), tables) == atoms((root,))):
        return None
    steps: list[Step] = []
    note = lambda *step: steps.append(Step(*step))  # noqa: E731  # as above
    try:
        with capped(_CAP):
            sets = Sets((root,), scope, tables, expand=expand)
            care = narrow(sets, (root,))
            pruner = Pruner(sets, note)
            after = rewrite(pruner.prune(root, care), note)
            if operations(after) < operations(root) and pruner.same(root, after, care):
                return Simplified(root, after, tuple(steps), scope.limits)
    except TooHardError:
        pass
    return None
