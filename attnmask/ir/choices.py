"""Choices inside a predicate: finding them, closing open ones, and giving them a meaning."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from math import isfinite
from typing import assert_never, cast

from attnmask.errors import MaskError
from attnmask.ir import index, predicate
from attnmask.ir.nodes import And, BoolTable, Choice, Expr, Predicate, VarName
from attnmask.ir.rules import (
    Above,
    Amount,
    Clusters,
    Counted,
    Probe,
    Rule,
    Selected,
    Selector,
    Spans,
    Top,
    TopP,
    along_diagonals,
)
from attnmask.ir.text import to_text
from attnmask.ir.walk import E, children, postorder, rebuild, substitute, table_names

VARIABLES: tuple[VarName, ...] = ("b", "h", "q", "k")


@lru_cache(maxsize=1024)
def choices_of(*roots: Expr) -> tuple[Choice, ...]:
    """The choices at or below the roots, each once, in the order in which they stand."""
    return tuple(node for node in postorder(*roots) if isinstance(node, Choice))


@lru_cache(maxsize=1024)
def closed(root: Predicate, late: frozenset[str] = frozenset()) -> Predicate:
    """`root` with the candidates of every choice filled in.

    A choice without candidates of its own has those that the conjunctions around it allow, as far as these are
    known beforehand: in `causal & (window(512) | topk_blocks(8))` it chooses among what is causal. Terms that
    choose themselves are not known, and neither are those that read `late` tables, which come with q and k.
    """
    if all(choice.among is not None for choice in choices_of(root)):
        return root
    return cast(Predicate, _closed(root, predicate.TRUE, late, {}))


def _closed(
    node: Expr, around: Predicate, late: frozenset[str], done: dict[tuple[Expr, Predicate], Expr]
) -> Expr:
    if all(choice.among is not None for choice in choices_of(node)):
        return node
    if (node, around) not in done:
        match node:
            case Choice(rule, q_unit, k_unit, None, count):
                changed: Expr = predicate.choice(rule, q_unit, k_unit, around, count)
            case And(args):
                static = [
                    arg for arg in args if not choices_of(arg) and not late.intersection(table_names(arg))
                ]
                inside = predicate.and_(around, *static)
                changed = rebuild(node, [_closed(arg, inside, late, done) for arg in args])
            case _:
                # Not, | and ^ pass on what surrounds them: it holds wherever the mask may still be true.
                changed = rebuild(node, [_closed(child, around, late, done) for child in children(node)])
        done[node, around] = changed
    return done[node, around]


def is_diagonal(choice: Choice) -> bool:
    """Whether its units of keys are units of distances q - k, from 0 on."""
    return isinstance(choice.rule, Selected) and along_diagonals(choice.rule.score)


def resolved(root: Predicate, meaning: Callable[[Choice], Predicate]) -> Predicate:
    """`root` with every choice replaced by what it means; those along diagonals hold for keys up to the query."""
    if not (choices := choices_of(root)):
        return root
    upto = predicate.compare(index.var("k"), "<=", index.var("q"))
    found: dict[Expr, Expr] = {
        choice: predicate.and_(upto, meaning(choice)) if is_diagonal(choice) else meaning(choice)
        for choice in choices
    }
    return substitute(root, found)


def unknown(choice: Choice) -> BoolTable:
    """A table that stands for what is chosen, where nothing is known of it: its name is the choice's text."""
    return predicate.bool_table(to_text(choice), tuple(index.var(name) for name in VARIABLES))


def anyhow(root: Predicate) -> Predicate:
    """`root` for whatever is chosen: what holds of it, with its tables unbound, holds for all q and k.

    More may hold of the mask: of what is chosen it is known that it lies among the candidates, and no more.
    """

    def some(choice: Choice) -> Predicate:
        rule = choice.rule
        inside = (
            isinstance(rule, Selected)
            and not isinstance(rule.score, Probe)
            and choice.count is predicate.FALSE
        )
        among = choice.among if inside and choice.among is not None else predicate.TRUE
        return predicate.and_(among, unknown(choice))

    return resolved(closed(root), some)


def reordered(root: E, q_table: str, k_table: str, group: int) -> E:
    """`root` for queries and keys in another order, that of tables [B, H, q] and [B, key heads, k] of old positions.

    Choices stay as they are: their units and candidates are those of the new order. `group`: query heads for each
    key head.
    """
    b, h, q, k = (index.var(name) for name in VARIABLES)
    moved: dict[Expr, Expr] = {
        q: index.table(q_table, (b, h, q)),
        k: index.table(k_table, (b, index.floordiv(h, index.const(group)), k)),
    }
    done: dict[Expr, Expr] = {}
    for node in postorder(root):
        if isinstance(node, Choice):
            done[node] = node
        else:
            done[node] = moved.get(node) or rebuild(node, [done[child] for child in children(node)])
    return cast(E, done[root])


def with_amounts(root: Predicate, numbers: Mapping[str, float]) -> Predicate:
    """`root` with numbers in the place of names that rules take. MaskError where a rule does not take such a one."""

    for name, value in numbers.items():
        if not isfinite(value):
            raise MaskError(f"'{name}' must be a number, not {value:g}")

    def bound(choice: Choice) -> Predicate:
        rule = _with_amounts(choice.rule, numbers)
        return predicate.choice(rule, choice.q_unit, choice.k_unit, choice.among, choice.count)

    bound_ones: dict[Expr, Expr] = {choice: bound(choice) for choice in choices_of(root)}
    return substitute(root, bound_ones)


def _with_amounts(rule: Rule, numbers: Mapping[str, float]) -> Rule:
    match rule:
        case Selected(selector, score):
            return Selected(_with_amount(selector, numbers), score)
        case Spans(chosen, back, ahead):
            return Spans(chosen, *(_with_reach(reach, numbers) for reach in (back, ahead)))
        case Clusters():
            return rule
        case _:
            assert_never(rule)


def _with_amount(selector: Selector, numbers: Mapping[str, float]) -> Selector:
    match selector:
        case Top(Counted(rule), of, over):
            changed = _with_amounts(rule, numbers)
            assert isinstance(changed, Selected), "it was"
            return Top(Counted(changed), of, over)
        case Top(str(name), of, over) if name in numbers:
            value = numbers[name]
            if of == "number" and value < 1:
                raise MaskError(f"'{name}' must be a whole number from 1, not {value:g}")
            return Top(_whole(name, value) if of == "number" else _share(name, value), of, over)
        case TopP(str(name)) if name in numbers:
            return replace(selector, p=_share(name, numbers[name]))
        case Above(str(name)) if name in numbers:
            return replace(selector, threshold=numbers[name])
    return selector


def _with_reach(reach: Amount, numbers: Mapping[str, float]) -> Amount:
    return _whole(reach, numbers[reach]) if isinstance(reach, str) and reach in numbers else reach


def _share(name: str, value: float) -> float:
    if not 0 <= value <= 1:
        raise MaskError(f"'{name}' must lie between 0 and 1, and is {value:g}")
    return value


def _whole(name: str, value: float) -> float:
    if value < 0 or value != int(value):
        raise MaskError(f"'{name}' must be a whole number, not {value:g}")
    return value
