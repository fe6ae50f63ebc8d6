"""The cost of a predicate against its generated source: operators are counted in the text, by Python's own parser."""

from __future__ import annotations

import ast
from collections import Counter

import pytest
from hypothesis import assume, given, settings

import attnmask as am
from attnmask.algebra.cost import operations
from attnmask.ir.nodes import Add, And, Max, Min, Mul, Or, Predicate
from attnmask.ir.walk import children, postorder
from attnmask.lower.source import mask_source
from tests.algebra.entangled import entangled
from tests.strategies import predicates


class Counted:
    """The distinct operations that a text's result needs, locals followed to what they stand for."""

    def __init__(self, text: str) -> None:
        function = next(node for node in ast.walk(ast.parse(text)) if getattr(node, "name", "") == "mask_mod")
        assert isinstance(function, ast.FunctionDef)
        *statements, result = function.body
        self.locals: dict[str, ast.expr] = {}
        for statement in statements:
            assert isinstance(statement, ast.Assign) and isinstance(statement.targets[0], ast.Name)
            self.locals[statement.targets[0].id] = statement.value
        self.numbers: dict[object, int] = {}
        self.named: dict[str, int] = {}
        self.total = 0
        assert isinstance(result, ast.Return) and result.value is not None
        self.number(result.value)

    def number(self, node: ast.expr) -> int:
        """The number of an expression; equal ones have the same, and count once."""
        match node:
            case ast.Name(id=name) if name in self.locals:
                if name not in self.named:
                    self.named[name] = self.number(self.locals[name])
                return self.named[name]
            case ast.Name() | ast.Constant() | ast.UnaryOp(ast.USub(), ast.Constant()):
                return self.noted(ast.dump(node), 0)
            case ast.BinOp(op=ast.Add() | ast.Sub()):
                return self.sum(node)
            case ast.BinOp(op=ast.Mult()):
                return self.product(node, 1)
            case ast.BinOp(op=ast.BitAnd() | ast.BitOr() as op):
                parts = [self.number(part) for part in spread(node, type(op))]
                return self.noted((type(op), *parts), len(parts) - 1)
            case ast.BinOp(left, op, right):
                return self.noted((type(op), self.number(left), self.number(right)), 1)
            case ast.UnaryOp(op, operand):
                return self.noted((type(op), self.number(operand)), 1)
            case ast.Compare(left, [op], [right]):
                return self.noted((type(op), self.number(left), self.number(right)), 1)
            case ast.Subscript(ast.Name(id=table), at):
                parts = [self.number(part) for part in (at.elts if isinstance(at, ast.Tuple) else [at])]
                return self.noted((table, *parts), 1)
            case ast.Call(func=ast.Attribute(attr="new_ones" | "new_zeros")):
                return self.noted(ast.dump(node), 0)
            case ast.Call(func=ast.Attribute(attr="minimum" | "maximum" | "clamp")):
                which, args = self.extreme(node)
                return self.noted((which, *args), len(args) - 1)
            case ast.Call(ast.Attribute(ast.Name("torch"), "where"), args):
                return self.noted(("where", *(self.number(arg) for arg in args)), 1)
            case ast.Call(ast.Attribute(value, "abs"), []):
                return self.noted(("abs", self.number(value)), 1)
        raise AssertionError(ast.dump(node))

    def noted(self, key: object, operations: int) -> int:
        if key not in self.numbers:
            self.numbers[key] = len(self.numbers)
            self.total += operations
        return self.numbers[key]

    def sum(self, node: ast.expr) -> int:
        """A sum as a whole: what stands behind a minus sign is subtracted, and not negated first."""
        terms: list[tuple[int, ast.expr]] = []
        while isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
            terms.append((1 if isinstance(node.op, ast.Add) else -1, node.right))
            node = node.left
        opens_with_minus = isinstance(node, ast.UnaryOp) and not isinstance(node.operand, ast.Constant)
        terms.append((-1, node.operand) if opens_with_minus else (1, node))  # type: ignore[attr-defined]  # a minus
        parts = [
            (sign, self.product(term, sign) if isinstance(term, ast.BinOp) else self.number(term))
            for sign, term in terms
        ]
        return self.noted(("+", *parts), len(parts) - 1 + opens_with_minus)

    def product(self, node: ast.BinOp, sign: int) -> int:
        """A product as a whole; `- 3 * x` behind a sum is the same as `-3 * x` by itself."""
        if not isinstance(node.op, ast.Mult):
            return self.number(node)
        first, *rest = spread(node, ast.Mult)
        opening: object
        try:
            opening = sign * ast.literal_eval(first)
        except ValueError:
            opening = self.number(first)
        return self.noted(("*", opening, *(self.number(factor) for factor in rest)), len(rest))

    def extreme(self, node: ast.expr) -> tuple[str, list[int]]:
        """Nested calls of one kind as one: which extreme, and of what."""
        match node:
            case ast.Call(ast.Attribute(value, "clamp"), [], [ast.keyword(arg=side, value=bound)]):
                which, parts = "max" if side == "min" else "min", [value]
                last = [self.number(bound)]
            case ast.Call(ast.Attribute(_, "minimum" | "maximum" as name), args):
                which, parts, last = name[:3], args, []
            case _:
                raise AssertionError(ast.dump(node))
        found: list[int] = []
        for part in parts:
            inner = self.extreme(part) if is_extreme(part) else ("", [])
            found += inner[1] if inner[0] == which else [self.number(part)]
        return which, [*found, *last]


def is_extreme(node: ast.expr) -> bool:
    match node:
        case ast.Call(ast.Attribute(_, "minimum" | "maximum" | "clamp")):
            return True
    return False


def spread(node: ast.expr, op: type[ast.operator]) -> list[ast.expr]:
    """The operands of a chain of one operator."""
    rest: list[ast.expr] = []
    while isinstance(node, ast.BinOp) and isinstance(node.op, op):
        rest.append(node.right)
        node = node.left
    return [node, *reversed(rest)]


def counted(root: Predicate) -> int:
    return Counted(mask_source(root).text).total


def same_but_for_order(root: Predicate) -> bool:
    """Whether two parts are equal but for the order of their operands, which the text may hide or show."""
    kinds = (Add, Mul, Min, Max, And, Or)
    many = Counter(
        (type(node), frozenset(children(node))) for node in postorder(root) if isinstance(node, kinds)
    )
    return max(many.values(), default=0) > 1


@pytest.mark.parametrize(
    ("text", "cost"),
    [
        ("all", 0),
        ("causal", 1),
        ("q - k < 5", 2),
        ("k < q - 5", 2),
        ("-k < q", 2),
        ("-k - 3 * q <= b", 4),
        ("3 * q - 2 * k < 5", 4),
        ("window(512)", 3),
        ("min(q, k, 7) == max(q, 3)", 4),
        ("same(doc)", 3),
        ("adj[doc[q] // 2, k % 5]", 4),
        ("where(k <= q, q, 0) < k", 3),
        ("~(live[q] ^ live[k]) & causal", 6),
        ("(q & k) != 0", 2),
        ("q * k * h < 7", 3),
        ("abs(q - k) < 9 & abs(q - k) != 4", 5),
        ("k - 3 * (q // 64) < 5 & h - 3 * (q // 64) < 7", 7),
        ("k - (q // 64) < 5 & h - (q // 64) < 7", 6),
        ("k - (q // 64) < 5 & -(q // 64) < h", 6),
        ("h - q * k < 5 & -(q * k) < h", 6),
    ],
)
def test_known_costs(text: str, cost: int) -> None:
    root = am.compile(text).predicate
    assert operations(root) == counted(root) == cost


@settings(max_examples=400)
@given(predicates)
def test_the_cost_is_that_of_the_text(root: Predicate) -> None:
    assume(not same_but_for_order(root))
    assert operations(root) == counted(root), mask_source(root).text


@settings(max_examples=400)
@given(entangled())
def test_the_cost_is_that_of_the_text_where_much_is_shared(root: Predicate) -> None:
    assume(not same_but_for_order(root))
    assert operations(root) == counted(root), mask_source(root).text
