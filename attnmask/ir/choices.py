"""Choices inside a predicate: finding them, closing open ones, and giving them a meaning."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import cast

from attnmask.errors import MaskError
from attnmask.ir import index, predicate
from attnmask.ir.nodes import And, BoolTable, Choice, Expr, Predicate, VarName
from attnmask.ir.rules import Above, Probe, Rule, Selected, Selector, Top, TopP
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


def resolved(root: Predicate, meaning: Callable[[Choice], Predicate]) -> Predicate:
    """`root` with every choice replaced by what it means."""
    found: Mapping[Expr, Expr] = {choice: meaning(choice) for choice in choices_of(root)}
    return substitute(root, found) if found else root


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


def _amount(rule: Rule) -> str | None:
    match rule:
        case Selected(Top(str(name)) | TopP(str(name)) | Above(str(name))):
            return name
    return None


def with_amounts(root: Predicate, numbers: Mapping[str, float]) -> Predicate:
    """`root` with numbers in the place of names that rules take. MaskError where a rule does not take such a one."""

    def bound(choice: Choice) -> Predicate:
        name = _amount(choice.rule)
        if name is None or name not in numbers:
            return choice
        assert isinstance(choice.rule, Selected), "it has an amount"
        value, selector = numbers[name], choice.rule.selector
        match selector:
            case Top(_, "number") if value < 1 or value != int(value):
                raise MaskError(f"'{name}' must be a whole number from 1, not {value:g}")
            case Top(_, of, over):
                changed: Selector = Top(value, of, over)
            case TopP():
                changed = replace(selector, p=value)
            case Above():
                changed = replace(selector, threshold=value)
        share = isinstance(changed, TopP) or getattr(changed, "of", "number") != "number"
        if share and not 0 <= value <= 1:
            raise MaskError(f"'{name}' must lie between 0 and 1, and is {value:g}")
        rule = Selected(changed, choice.rule.score)
        return predicate.choice(rule, choice.q_unit, choice.k_unit, choice.among, choice.count)

    return resolved(root, bound)
