"""Tree to IR: names get their meaning, definitions are expanded, kinds are checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import assert_never, cast

from attnmask.errors import MaskError, Place, Source, Span, did_you_mean
from attnmask.ir import index, predicate, score
from attnmask.ir.binding import Misfit, check_definition, match_arguments
from attnmask.ir.builtins import BUILTINS
from attnmask.ir.kinds import describe, is_index, is_mask, is_score, to_index, to_mask, to_score
from attnmask.ir.nodes import Expr, Index, Predicate, ScoreExpr, VarName
from attnmask.ir.values import (
    Bound,
    Cell,
    Frame,
    Function,
    Interval,
    Meaning,
    Scored,
    TableName,
    TokenFunction,
    Value,
)
from attnmask.ir.walk import substitute
from attnmask.syntax import tree

Lookup = Callable[[str], Bound | None]
Place_ = tree.Expr | tree.Statement | tree.Argument

VARIABLES = frozenset("qkbhQKBH")
RESERVED = VARIABLES | {"i", "s"} | BUILTINS.keys()
_INTEGER_OPS: dict[str, Callable[[Index, Index], Index]] = {
    "*": lambda lhs, rhs: index.mul(lhs, rhs),
    "//": index.floordiv,
    "%": index.mod,
}
_MOST_STEPS = 100_000
_DEEPEST = 150


class FreePlaceholder(MaskError):
    """`i` where no position is given to it: the expression around it is a token function."""


def elaborate(
    program: tree.Program, source: Source, scope: Mapping[str, Bound], lookup: Lookup = lambda name: None
) -> Meaning:
    """The meaning of a parsed text, in a scope of names (the standard library).

    `lookup` finds dotted names such as `zoo.longformer`. Raises MaskError with the place of the fault.
    """
    elaborator = _Elaborator(source, lookup)
    frame = Frame(source, dict(scope))
    for statement in program.statements:
        value = elaborator.statement(statement, frame)
        frame = replace(frame, bindings={**frame.bindings, statement.name: Bound(value)})
    if program.result is None:
        return Meaning(None, None, frame.bindings, elaborator.origins)
    result = elaborator.value(program.result, frame)
    if isinstance(result, Scored):
        return Meaning(result.predicate, result.score, frame.bindings, elaborator.origins)
    mask = elaborator.as_mask(result, program.result, frame)
    return Meaning(mask, None, frame.bindings, elaborator.origins)


def call(function: Function, given: Mapping[str, Value], lookup: Lookup = lambda name: None) -> Value:
    """The value of a definition for arguments that are values already (as Python callers give them)."""
    text = f"{function.definition.name}(…)"
    elaborator = _Elaborator(Source(text), lookup)
    place = Place(elaborator.source, Span(0, len(text)))
    frame = Frame(elaborator.source, {})
    return elaborator.expand(function, {name: Bound(value) for name, value in given.items()}, place, frame)


def argument_value(program: tree.Program, source: Source, scope: Mapping[str, Bound]) -> Value:
    """The value of a text that stands for one argument: a mask, an index, or a token function in `i`."""
    if program.statements or program.result is None:
        raise MaskError("an argument is one expression, without definitions")
    return _Elaborator(source, lambda name: None).argument(program.result, Frame(source, scope))


class _Elaborator:
    """What one elaboration needs everywhere: the user's text, a budget, and where nodes come from."""

    def __init__(self, source: Source, lookup: Lookup) -> None:
        self.source = source
        self.lookup = lookup
        self.origins: dict[Expr, Place] = {}
        self.applied: dict[tuple[TokenFunction, Index | None], Value] = {}
        self.steps = 0
        self.depth = 0

    # ---- faults --------------------------------------------------------------------------------------

    def place(self, node: Place_, frame: Frame) -> Place:
        """Where to point in the user's text for a fault at `node`, which may stand in the library."""
        bound = frame.bindings.get(node.name) if isinstance(node, tree.Name) else None
        if bound is not None and bound.place is not None:
            return bound.place
        return frame.caller or Place(frame.source, node.span)

    def fault(self, message: str, node: Place_, frame: Frame, hint: str | None = None) -> MaskError:
        return MaskError(message, hint=hint, place=self.place(node, frame))

    # ---- statements ----------------------------------------------------------------------------------

    def statement(self, node: tree.Statement, frame: Frame) -> Value:
        if node.name in RESERVED:
            raise self.fault(f"'{node.name}' has a meaning of its own and cannot be redefined", node, frame)
        if isinstance(node, tree.Let):
            return self.argument(node.value, frame)
        try:
            check_definition(node, RESERVED)
        except MaskError as error:
            raise self.fault(error.message, node, frame) from None
        return Function(node, frame)

    # ---- expressions ---------------------------------------------------------------------------------

    def value(self, node: tree.Expr, frame: Frame) -> Value:
        """What an expression stands for; its nodes remember their place."""
        self.steps += 1
        self.depth += 1
        try:
            if self.steps > _MOST_STEPS or self.depth > _DEEPEST:
                raise self.fault(
                    "the expression grows too large when its definitions are expanded",
                    node,
                    frame,
                    "put the values into a table",
                )
            value = self._value(node, frame)
        except MaskError as error:
            if error.place is None:
                raise self.fault(error.message, node, frame, error.hint) from None
            raise
        finally:
            self.depth -= 1
        self.remember(value, node, frame)
        return value

    def remember(self, value: Value, node: tree.Expr, frame: Frame) -> None:
        if is_index(value) or is_mask(value) or is_score(value):
            self.origins.setdefault(cast(Expr, value), self.place(node, frame))

    def _value(self, node: tree.Expr, frame: Frame) -> Value:
        match node:
            case tree.Number(number):
                return index.const(number)
            case tree.Real(number):
                return score.real(number)
            case tree.Truth(value):
                return predicate.truth(value)
            case tree.Name():
                return self.name(node, frame)
            case tree.Unary():
                return self.unary(node, frame)
            case tree.Sum():
                return self.sum(node, frame)
            case tree.Product():
                return self.product(node, frame)
            case tree.Comparison():
                return self.comparison(node, frame)
            case tree.Logic():
                return self.logic(node, frame)
            case tree.Range(low, high):
                ends = [None if end is None else self.index(end, frame) for end in (low, high)]
                return Interval(*ends)
            case tree.Call():
                return self.call(node, frame)
            case tree.Index():
                return self.cell(node, frame)
            case tree.With():
                return self.scored(node, frame)
            case _:
                assert_never(node)

    def name(self, node: tree.Name, frame: Frame) -> Value:
        if node.name in VARIABLES:
            return index.var(cast(VarName, node.name))
        if node.name == "i":
            if frame.position is None:
                raise FreePlaceholder(
                    "'i' stands for a position, and here is none",
                    hint="use it in a token function, such as same(i // 64), or write q or k",
                    place=self.place(node, frame),
                )
            return frame.position
        if node.name == "s":
            return score.SCORE
        bound = frame.bindings.get(node.name) or ("." in node.name and self.lookup(node.name)) or None
        if bound is None:
            if "." in node.name or node.name in BUILTINS:
                raise self.unknown(node, frame)
            return TableName(node.name)
        value = bound.value
        # A definition without parameters may be written without brackets.
        if isinstance(value, Function) and not value.definition.parameters:
            return self.expand(value, {}, self.place(node, frame), frame)
        return value

    def unary(self, node: tree.Unary, frame: Frame) -> Value:
        value = self.forced(node.operand, frame)
        if node.op == "~":
            mask = to_mask(value)
            if mask is not None:
                return predicate.not_(mask)
            return index.sub(index.const(-1), self.as_index(value, node.operand, frame))
        if is_score(value):
            return score.arith("*", score.real(-1), self.as_score(value, node.operand, frame))
        return index.neg(self.as_index(value, node.operand, frame))

    def sum(self, node: tree.Sum, frame: Frame) -> Value:
        values = [(sign, term, self.forced(term, frame)) for sign, term in node.terms]
        if any(is_mask(value) for _, _, value in values):
            masks = [(sign, term, self.as_mask(value, term, frame)) for sign, term, value in values]
            for sign, term, _ in masks[1:]:
                if sign == "+":
                    raise self.fault("masks cannot be added", term, frame, "write '|' for the union")
            return predicate.and_(masks[0][2], *(predicate.not_(mask) for _, _, mask in masks[1:]))
        if any(is_score(value) for _, _, value in values):
            total = self.as_score(values[0][2], values[0][1], frame)
            for sign, term, value in values[1:]:
                total = score.arith(sign, total, self.as_score(value, term, frame))
            return total
        terms = [(sign, self.as_index(value, term, frame)) for sign, term, value in values]
        return index.add(*(term if sign == "+" else index.neg(term) for sign, term in terms))

    def product(self, node: tree.Product, frame: Frame) -> Value:
        operands = [node.first, *(term for _, term in node.rest)]
        values = [self.forced(operand, frame) for operand in operands]
        ops = [op for op, _ in node.rest]
        if any(is_score(value) for value in values) or "/" in ops:
            if "//" in ops or "%" in ops:
                raise self.fault("'//' and '%' are for integers", node, frame, "write '/' for scores")
            if not any(is_score(value) for value in values):
                raise self.fault("'/' is for scores", node, frame, "write '//' for integers")
            total = self.as_score(values[0], operands[0], frame)
            for op, operand, value in zip(ops, operands[1:], values[1:], strict=True):
                factor = self.as_score(value, operand, frame)
                total = score.arith("*" if op == "*" else "/", total, factor)
            return total
        result = self.as_index(values[0], operands[0], frame)
        for op, operand, value in zip(ops, operands[1:], values[1:], strict=True):
            right = self.as_index(value, operand, frame)
            build = _INTEGER_OPS[op]
            try:
                result = build(result, right)
            except MaskError as error:
                raise self.fault(error.message, operand, frame, error.hint) from None
            self.origins.setdefault(result, self.place(operand, frame))
        return result

    def comparison(self, node: tree.Comparison, frame: Frame) -> Value:
        left = self.index(node.first, frame)
        parts: list[Predicate] = []
        for op, operand in node.rest:
            if op == "in" or op == "not in":
                inside = self.membership(left, operand, frame)
                parts.append(inside if op == "in" else predicate.not_(inside))
            else:
                right = self.index(operand, frame)
                parts.append(predicate.compare(left, op, right))
                left = right
        return predicate.and_(*parts)

    def membership(self, item: Index, operand: tree.Expr, frame: Frame) -> Predicate:
        value = self.forced(operand, frame)
        if not isinstance(value, Interval):
            number = to_index(value)
            if number is None:
                raise self.fault(f"'in' needs a range, and this is {describe(value)}", operand, frame, "write 0:8")
            return predicate.compare(item, "==", number)
        low = predicate.TRUE if value.low is None else predicate.compare(value.low, "<=", item)
        high = predicate.TRUE if value.high is None else predicate.compare(item, "<", value.high)
        return predicate.and_(low, high)

    def logic(self, node: tree.Logic, frame: Frame) -> Value:
        values = [self.forced(operand, frame) for operand in node.operands]
        if any(is_index(value) for value in values) and not any(is_mask(value) for value in values):
            total = self.as_index(values[0], node.operands[0], frame)
            for operand, value in zip(node.operands[1:], values[1:], strict=True):
                total = index.bitop(node.op, total, self.as_index(value, operand, frame))
            return total
        masks = [
            self.as_mask(value, operand, frame) for operand, value in zip(node.operands, values, strict=True)
        ]
        match node.op:
            case "&":
                return predicate.and_(*masks)
            case "|":
                return predicate.or_(*masks)
            case "^":
                result = masks[0]
                for mask in masks[1:]:
                    result = predicate.xor(result, mask)
                return result

    def cell(self, node: tree.Index, frame: Frame) -> Value:
        bound = frame.bindings.get(node.table.name)
        value = TableName(node.table.name) if bound is None else bound.value
        if node.table.name in RESERVED or "." in node.table.name:
            raise self.fault(f"'{node.table.name}' is not a table", node.table, frame)
        if not isinstance(value, TableName):
            raise self.fault(f"only a table has entries, and this is {describe(value)}", node.table, frame)
        return Cell(value.name, tuple(self.index(item, frame) for item in node.indices))

    def scored(self, node: tree.With, frame: Frame) -> Scored:
        value = self.value(node.mask, frame)
        total: ScoreExpr = score.SCORE
        if isinstance(value, Scored):
            total = value.score
            value = value.predicate
        mask = self.as_mask(value, node.mask, frame)
        for entry in node.scores:
            step = self.as_score(self.forced(entry, frame), entry, frame)
            total = substitute(step, {score.SCORE: total})
        return Scored(mask, total)

    # ---- calls ---------------------------------------------------------------------------------------

    def call(self, node: tree.Call, frame: Frame) -> Value:
        name = node.function.name
        if name in BUILTINS:
            return self.call_builtin(node, frame)
        bound = frame.bindings.get(name) or ("." in name and self.lookup(name)) or None
        if bound is None:
            raise self.unknown(node.function, frame)
        match bound.value:
            case Function() as function:
                return self.call_function(function, node, frame)
            case TokenFunction() | TableName() as function:
                if len(node.arguments) != 1 or node.arguments[0].name is not None:
                    raise self.fault(f"'{name}' is a token function and takes one position", node, frame)
                return self.apply(function, self.index(node.arguments[0].value, frame), frame)
            case value:
                if bound.place is not None:
                    raise self.fault(
                        f"a token function is expected here, not {describe(value)}",
                        node.function,
                        frame,
                        "write a table's name, or an expression in i such as i // 64",
                    )
                hint = f"write {name} without brackets" if is_mask(value) else None
                raise self.fault(
                    f"'{name}' cannot be called: it is {describe(value)}", node.function, frame, hint
                )

    def call_builtin(self, node: tree.Call, frame: Frame) -> Value:
        for argument in node.arguments:
            if argument.name is not None:
                raise self.fault(f"{node.function.name} has no parameter names", argument, frame)
        return BUILTINS[node.function.name]([self.forced(a.value, frame) for a in node.arguments])

    def call_function(self, function: Function, node: tree.Call, frame: Frame) -> Value:
        try:
            matched = match_arguments(function.definition, node.arguments)
        except Misfit as misfit:
            raise self.fault(misfit.message, misfit.argument or node, frame, misfit.hint) from None
        values = {
            name: Bound(self.argument(argument.value, frame), self.place(argument.value, frame))
            for name, argument in matched.items()
            if argument is not None
        }
        return self.expand(function, values, self.place(node, frame), frame)

    def expand(self, function: Function, given: Mapping[str, Bound], place: Place, frame: Frame) -> Value:
        """The body of a definition, with its parameters bound."""
        bindings = dict(function.frame.bindings)
        for parameter in function.definition.parameters:
            if parameter.name in given:
                bindings[parameter.name] = given[parameter.name]
            else:
                default = cast(tree.Expr, parameter.default)
                bindings[parameter.name] = Bound(self.argument(default, function.frame))
        caller = frame.caller or (place if function.frame.source is not self.source else None)
        return self.value(
            function.definition.body, Frame(function.frame.source, bindings, caller, frame.position)
        )

    def argument(self, node: tree.Expr, frame: Frame) -> Value:
        """The value of an argument, or a token function when it depends on `i`."""
        if frame.position is not None and _mentions_position(node, frame):
            return TokenFunction(node, frame)
        try:
            return self.value(node, frame)
        except FreePlaceholder:
            return TokenFunction(node, frame)

    def apply(self, function: Value, position: Index, frame: Frame) -> Value:
        """A token function or a table at a position."""
        match function:
            case TokenFunction():
                key = (function, position)
                if key not in self.applied:
                    # A default such as `of=i` stands in the library: its faults are the caller's.
                    caller = function.frame.caller or (
                        frame.caller if function.frame.source is not self.source else None
                    )
                    body_frame = replace(function.frame, position=position, caller=caller)
                    self.applied[key] = self.value(function.body, body_frame)
                return self.applied[key]
            case TableName(name):
                return Cell(name, (position,))
            case _:
                raise AssertionError(function)

    def forced(self, node: tree.Expr, frame: Frame) -> Value:
        """The value of an expression; a name that stands for a token function is taken at the position."""
        value = self.value(node, frame)
        if not isinstance(value, TokenFunction):
            return value
        position = value.frame.position or frame.position
        if position is None:
            raise FreePlaceholder(
                "a token function stands here without a position",
                hint="give it one, as in f(q) or f(k)",
                place=self.place(node, frame),
            )
        return self.apply(value, position, frame)

    # ---- kinds ---------------------------------------------------------------------------------------

    def index(self, node: tree.Expr, frame: Frame) -> Index:
        return self.as_index(self.forced(node, frame), node, frame)

    def as_index(self, value: Value, node: tree.Expr, frame: Frame) -> Index:
        found = to_index(value)
        if found is None:
            raise self.fault(f"an index (an integer) is expected here, not {describe(value)}", node, frame)
        self.remember(found, node, frame)
        return found

    def as_score(self, value: Value, node: tree.Expr, frame: Frame) -> ScoreExpr:
        found = to_score(value)
        if found is None:
            raise self.fault(f"a score is expected here, not {describe(value)}", node, frame)
        self.remember(found, node, frame)
        return found

    def as_mask(self, value: Value, node: tree.Expr, frame: Frame) -> Predicate:
        found = to_mask(value)
        if found is not None:
            self.remember(found, node, frame)
            return found
        if isinstance(value, TableName):
            raise self.unknown(node, frame, value.name)
        hint = None
        if is_index(value):
            hint = "compare it, as in q - k < 512; comparisons bind tighter than & and |"
        elif isinstance(value, Function):
            hint = f"call it: {value.definition.name}(…)"
        raise self.fault(f"a mask is expected here, not {describe(value)}", node, frame, hint)

    def unknown(self, node: tree.Expr, frame: Frame, name: str | None = None) -> MaskError:
        name = name or cast(tree.Name, node).name
        known = [*frame.bindings, *BUILTINS]
        hint = did_you_mean(name, known) or "a table is indexed: table[q, k]; 'attnmask zoo' lists named masks"
        return self.fault(f"unknown name '{name}'", node, frame, hint)


def _mentions_position(node: tree.Expr, frame: Frame) -> bool:
    stack = [node]
    while stack:
        item = stack.pop()
        if isinstance(item, tree.Name):
            bound = frame.bindings.get(item.name)
            if item.name == "i" or (bound is not None and isinstance(bound.value, TokenFunction)):
                return True
        stack.extend(tree.children(item))
    return False
