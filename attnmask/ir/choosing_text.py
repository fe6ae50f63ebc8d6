"""Printing of choices: the call of the language that makes a rule, without what is as it is by default."""

from __future__ import annotations

from collections.abc import Callable
from typing import assert_never

from attnmask.ir import index
from attnmask.ir.nodes import Choice, Const, Expr, FloorDiv, Index
from attnmask.ir.predicate import FALSE
from attnmask.ir.rules import (
    Above,
    Amount,
    Antidiagonal,
    Blocks,
    Clusters,
    Compressed,
    Concat,
    Counted,
    Exact,
    Given,
    Linear,
    Pool,
    Pooling,
    Probe,
    ScoreMap,
    Selected,
    Selector,
    Spans,
    Top,
    TopP,
)
from attnmask.ir.walk import substitute

Print = Callable[[Expr], str]


def choice_text(choice: Choice, show: Print) -> str:
    """The choice in the language; `show` prints expressions."""
    if isinstance(choice.rule, Clusters):
        members = choice.rule.members
        return _call("clusters", choice.rule.centroids, members=None if members is None else str(members))
    units = _units(choice, show)
    among = None if choice.among is None else show(choice.among)
    if isinstance(choice.rule, Spans):
        back, ahead = (_unless(_amount(reach), "0") for reach in (choice.rule.back, choice.rule.ahead))
        return _call("spans", _selected(choice.rule.chosen, units, among, None), back=back, ahead=ahead)
    count = None if choice.count is FALSE else show(choice.count)
    return _selected(choice.rule, units, among, count)


def _call(name: str, *positional: str, **named: str | None) -> str:
    """A call, without the named arguments that are None."""
    shown = [*positional, *(f"{key}={value}" for key, value in named.items() if value is not None)]
    return f"{name}({', '.join(shown)})"


def _unless(value: str, default: str) -> str | None:
    return None if value == default else value


def _units(choice: Choice, show: Print) -> tuple[str, str]:
    """`block` and `q_block` as they are written."""
    return _unit(choice.k_unit, "k", show), _unit(choice.q_unit, "q", show)


def _unit(unit: Index, axis: str, show: Print) -> str:
    position: Index = index.var("k" if axis == "k" else "q")
    distance = index.maximum(index.sub(index.var("q"), index.var("k")), index.const(0))
    i = index.table("i", ())
    written = substitute(substitute(unit, {distance: i}), {position: i})
    if isinstance(written, FloorDiv) and written.lhs is i and isinstance(written.rhs, Const):
        return str(written.rhs.value)
    if isinstance(unit, Const):
        return "all" if unit.value == 0 else f"0 * i + {unit.value}"
    return "1" if written is i else show(written)


def _selected(rule: Selected, units: tuple[str, str], among: str | None, count: str | None) -> str:
    return _selector(rule.selector, _score(rule.score, *units), units, among, count)


def _selector(
    selector: Selector, score: str, units: tuple[str, str], among: str | None, count: str | None
) -> str:
    over = _unless(selector.over, "row")
    match selector:
        case Top(Counted(rule), _, _):
            amount = _selected(rule, units, None, None)
            return _call("top", amount, score, over=over, among=among, count=count)
        case Top(amount, "number", _):
            return _call("top", _amount(amount), score, over=over, among=among, count=count)
        case Top(amount, of, _):
            return _call("top", **{of: _amount(amount)}, score=score, over=over, among=among, count=count)
        case TopP(p, _, crossing, least, most):
            return _call(
                "top_p",
                _amount(p),
                score,
                over=over,
                crossing=_unless(crossing, "keep"),
                least=_unless(str(least), "1"),
                most=None if most is None else str(most),
                among=among,
                count=count,
            )
        case Above(threshold, quantile, _):
            return _call(
                "above",
                _amount(threshold),
                score,
                quantile="true" if quantile else None,
                over=over,
                among=among,
                count=count,
            )
        case _:
            assert_never(selector)


def _score(score: ScoreMap, block: str, q_block: str) -> str:
    match score:
        case Blocks(pool, q_pool, scale, heads, norm, proxy):
            return _call(
                "blocks",
                block,
                pool=_unless(_pool(pool), "mean"),
                q_block=_unless(q_block, "1"),
                q_pool=_unless(_pool(q_pool), "mean"),
                scale=_unless(_scale(scale), "none"),
                norm=_unless(norm, "none"),
                heads=_unless(heads, "each"),
                proxy=_unless(str(proxy), "1"),
            )
        case Compressed(kernel, stride, heads):
            return _call(
                "compressed",
                block,
                kernel=_unless(str(kernel), "32"),
                stride=_unless(str(stride), "16"),
                heads=_unless(heads, "group_sum"),
                q_block=_unless(q_block, "1"),
            )
        case Exact(reduce, norm, heads, causal, stride, proxy):
            return _call(
                "exact",
                block,
                reduce=_unless(reduce, "mean"),
                q_block=_unless(q_block, "1"),
                norm=_unless(norm, "softmax"),
                heads=_unless(heads, "each"),
                causal=None if causal else "false",
                stride=_unless(str(stride), "1"),
                proxy=_unless(str(proxy), "1"),
            )
        case Antidiagonal(stride, mode, scale, causal):
            return _call(
                "antidiag",
                str(stride),
                block,
                mode=_unless(mode, "anti"),
                scale=_unless(_scale(scale), "none"),
                causal=None if causal else "false",
            )
        case Probe(rows, along, heads, causal, width):
            return _call(
                "probe",
                str(rows),
                along=_unless(along, "keys"),
                block=_unless(block, "1"),
                heads=_unless(heads, "each"),
                width=_unless(str(width), "1"),
                causal=None if causal else "false",
            )
        case Given(name):
            return _call("given", name, block, q_block=_unless(q_block, "64"))
        case _:
            assert_never(score)


def _scale(scale: float | None) -> str:
    if scale is None:
        return "sqrt"
    return "none" if scale == 1 else _amount(scale)


def _amount(amount: Amount | Counted) -> str:
    assert not isinstance(amount, Counted), "printed as the choice that counts"
    if isinstance(amount, str):
        return amount
    return str(int(amount)) if amount == int(amount) else repr(amount)


def _pool(pool: Pooling) -> str:
    match pool:
        case Pool(name):
            return name
        case Concat(pools):
            return f"concat({', '.join(map(_pool, pools))})"
        case Linear(weights, inner):
            return f"linear({weights}, {_pool(inner)})"
        case _:
            assert_never(pool)
