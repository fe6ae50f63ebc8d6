"""What the operators of the language mean on values of each kind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from attnmask.errors import MaskError
from attnmask.ir import index, predicate, score
from attnmask.ir.kinds import describe, is_index, is_mask, is_score, to_index, to_mask, to_score
from attnmask.ir.nodes import Index, Predicate, ScoreExpr
from attnmask.ir.values import Function, Interval, TableName, Value
from attnmask.syntax import tree

_INTEGER: dict[str, Callable[[Index, Index], Index]] = {
    "*": lambda lhs, rhs: index.mul(lhs, rhs),
    "//": index.floordiv,
    "%": index.mod,
}


@dataclass(frozen=True, slots=True)
class Operand:
    """A value and the expression that it is of."""

    value: Value
    node: tree.Expr


@dataclass(slots=True)
class Fault(Exception):
    """A value of the wrong kind at `node`; `unknown` is a name that nothing defines, used as a mask."""

    message: str
    node: tree.Expr
    hint: str | None = None
    unknown: str | None = None


def as_index(operand: Operand) -> Index:
    found = to_index(operand.value)
    if found is None:
        hint = "scores come after 'with'; '//' divides integers" if is_score(operand.value) else None
        message = f"an index (an integer) is expected here, not {describe(operand.value)}"
        raise Fault(message, operand.node, hint)
    return found


def as_score(operand: Operand) -> ScoreExpr:
    found = to_score(operand.value)
    if found is None:
        raise Fault(f"a score is expected here, not {describe(operand.value)}", operand.node)
    return found


def as_mask(operand: Operand) -> Predicate:
    value = operand.value
    found = to_mask(value)
    if found is not None:
        return found
    if isinstance(value, TableName):
        raise Fault(f"unknown name '{value.name}'", operand.node, unknown=value.name)
    hint = None
    if is_index(value):
        hint = "compare it, as in q - k < 512; bits need brackets, as in ((q - k) & 3) == 0"
    elif isinstance(value, Function):
        name = operand.node.name if isinstance(operand.node, tree.Name) else value.definition.name
        hint = f"call it: {name}(…)"
    raise Fault(f"a mask is expected here, not {describe(value)}", operand.node, hint)


def unary(op: Literal["-", "~"], operand: Operand) -> Value:
    """`-x` of an index or a score; `~x` of a mask."""
    if op == "~":
        if is_index(operand.value):
            # Python would flip its bits, and `~q == k` would silently mean `-q - 1 == k`.
            raise Fault(
                "'~' is for masks, and this is an index", operand.node, "write ~(q == k), with brackets"
            )
        return predicate.not_(as_mask(operand))
    if is_score(operand.value):
        return score.arith("*", score.real(-1), as_score(operand))
    return index.neg(as_index(operand))


def total(signs: Sequence[Literal["+", "-"]], operands: Sequence[Operand]) -> Value:
    """Sums of indices or scores; `a - b` of masks is a without b."""
    if any(is_mask(operand.value) for operand in operands):
        masks = [as_mask(operand) for operand in operands]
        for sign, operand in zip(signs[1:], operands[1:], strict=True):
            if sign == "+":
                raise Fault("masks cannot be added", operand.node, "write '|' for the union")
        return predicate.and_(masks[0], *(predicate.not_(mask) for mask in masks[1:]))
    if any(is_score(operand.value) for operand in operands):
        result = as_score(operands[0])
        for sign, operand in zip(signs[1:], operands[1:], strict=True):
            result = score.arith(sign, result, as_score(operand))
        return result
    terms = [as_index(operand) for operand in operands]
    return index.add(*(t if sign == "+" else index.neg(t) for sign, t in zip(signs, terms, strict=True)))


def product(ops: Sequence[str], operands: Sequence[Operand]) -> Value:
    """Products and quotients, from left to right: `//` and `%` of indices, `/` of scores."""
    if "/" in ops or any(is_score(operand.value) for operand in operands):
        return _score_product(ops, operands)
    result = as_index(operands[0])
    for op, operand in zip(ops, operands[1:], strict=True):
        try:
            result = _INTEGER[op](result, as_index(operand))
        except MaskError as error:
            raise Fault(error.message, operand.node, error.hint) from None
    return result


def _score_product(ops: Sequence[str], operands: Sequence[Operand]) -> ScoreExpr:
    result = as_score(operands[0])
    for op, operand in zip(ops, operands[1:], strict=True):
        if op in ("//", "%"):
            raise Fault(f"'{op}' is for integers", operand.node, "write '/' for scores")
        result = score.arith("*" if op == "*" else "/", result, as_score(operand))
    return result


def comparison(ops: Sequence[tree.CompareOp], operands: Sequence[Operand]) -> Predicate:
    """A chain: each operator between its neighbours, all joined by and."""
    left = as_index(operands[0])
    parts: list[Predicate] = []
    for op, operand in zip(ops, operands[1:], strict=True):
        if op == "in" or op == "not in":
            inside = _membership(left, operand)
            parts.append(inside if op == "in" else predicate.not_(inside))
        else:
            right = as_index(operand)
            parts.append(predicate.compare(left, op, right))
            left = right
    return predicate.and_(*parts)


def _membership(item: Index, operand: Operand) -> Predicate:
    """`x in low:high`; a single integer is a range of one."""
    value = operand.value
    if not isinstance(value, Interval):
        number = to_index(value)
        if number is None:
            raise Fault(f"'in' needs a range, and this is {describe(value)}", operand.node, "write 0:8")
        return predicate.compare(item, "==", number)
    low = predicate.TRUE if value.low is None else predicate.compare(value.low, "<=", item)
    high = predicate.TRUE if value.high is None else predicate.compare(item, "<", value.high)
    return predicate.and_(low, high)


def logic(op: tree.LogicOp, operands: Sequence[Operand]) -> Value:
    """`& ^ |` of masks; bit by bit where all operands are indices."""
    if any(is_index(o.value) for o in operands) and not any(is_mask(o.value) for o in operands):
        bits = as_index(operands[0])
        for operand in operands[1:]:
            bits = index.bitop(op, bits, as_index(operand))
        return bits
    masks = [as_mask(operand) for operand in operands]
    match op:
        case "&":
            return predicate.and_(*masks)
        case "|":
            return predicate.or_(*masks)
        case "^":
            result = masks[0]
            for mask in masks[1:]:
                result = predicate.xor(result, mask)
            return result
