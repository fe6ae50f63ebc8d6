"""Tables that a claim uses in several ways, read in the one way in which a table fits them all."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from attnmask.algebra.claims import NoneEmpty, Question
from attnmask.ir import index, predicate
from attnmask.ir.nodes import BoolTable, Expr, Predicate, RealTable, Table
from attnmask.ir.walk import postorder, transform


def agreed(claim: Question, bound: Collection[str], scores: tuple[Expr, ...] = ()) -> Question:
    """The claim for the tables that can be bound: what is read as truth values somewhere holds no others.

    An integer read from such a table is 0 or 1, and a cell with one index fewer than another is that of its batch
    row, as in `fit`. `scores` use tables too. Uses that no table fits are left as they are.
    """
    truths, dimensions = set[str](), dict[str, set[int]]()
    for node in postorder(*claim.roots, *scores):
        if isinstance(node, Table | BoolTable | RealTable) and node.name not in bound:
            dimensions.setdefault(node.name, set()).add(len(node.indices))
            if isinstance(node, BoolTable):
                truths.add(node.name)
    if not any(len(numbers) > 1 for numbers in dimensions.values()) and not truths:
        return claim

    def change(node: Expr) -> Expr:
        if not isinstance(node, Table | BoolTable) or node.name in bound:
            return node
        indices = node.indices
        if indices and dimensions[node.name] == {len(indices), len(indices) + 1}:
            indices = (index.var("b"), *indices)
        if node.name not in truths:
            return index.table(node.name, indices)
        cell = predicate.bool_table(node.name, indices)
        if isinstance(node, BoolTable):
            return cell
        return predicate.where(cell, index.const(1), index.const(0)) if indices else node

    def changed(root: Predicate) -> Predicate:
        return transform(root, change)

    if isinstance(claim, NoneEmpty):
        return replace(claim, mask=changed(claim.mask))
    return replace(
        claim,
        masks=tuple(changed(mask) for mask in claim.masks),
        contradiction=changed(claim.contradiction),
        calls=tuple(changed(call) for call in claim.calls),
    )
