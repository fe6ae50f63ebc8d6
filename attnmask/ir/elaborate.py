"""Tree to IR: names get their meaning, definitions are expanded, kinds are checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import assert_never, cast

from attnmask.errors import MaskError, Place, Source, did_you_mean
from attnmask.ir import index, operators, predicate, score
from attnmask.ir.binding import Misfit, check_definition, match_arguments
from attnmask.ir.builtins import BUILTINS
from attnmask.ir.choices import choices_of
from attnmask.ir.choosing import Operator, choosers
from attnmask.ir.choosing_arguments import Unfit, operator_arguments
from attnmask.ir.kinds import describe, is_mask, readings
from attnmask.ir.nodes import Expr, Index, Predicate, ScoreExpr, VarName
from attnmask.ir.operators import Fault, Operand
from attnmask.ir.values import (
    Bound,
    Cell,
    Frame,
    Function,
    Interval,
    Meaning,
    Scored,
    Symbol,
    TableName,
    TokenFunction,
    Value,
    mentions_position,
)
from attnmask.ir.walk import postorder, substitute
from attnmask.syntax import tree

Lookup = Callable[[str], Bound | None]
Place_ = tree.Expr | tree.Statement | tree.Argument

VARIABLES = frozenset("qkbhQKBH")
RESERVED = VARIABLES | {"i", "s"} | BUILTINS.keys()
_MOST_STEPS = 100_000
_DEEPEST = 100


class FreePlaceholder(MaskError):
    """`i` where no position is given to it: the expression around it is a token function."""


def elaborate(
    program: tree.Program, source: Source, scope: Mapping[str, Bound], lookup: Lookup = lambda name: None
) -> Meaning:
    """The meaning of a parsed text, in a scope of names (the standard library).

    `lookup` finds dotted names such as `zoo.longformer`. Raises MaskError with the place of the fault.
    """
    try:
        return _elaborate(program, source, scope, lookup)
    except RecursionError:
        # Depths are bounded, but how much stack the caller has left is not ours to know.
        raise MaskError("the expression is nested too deeply", hint="name inner parts with 'let'") from None


def _elaborate(program: tree.Program, source: Source, scope: Mapping[str, Bound], lookup: Lookup) -> Meaning:
    elaborator = _Elaborator(source, lookup)
    frame = Frame(source, dict(scope))
    for statement in program.statements:
        value = elaborator.statement(statement, frame)
        frame = replace(frame, bindings={**frame.bindings, statement.name: Bound(value)})
    if program.result is None:
        return Meaning(None, None, frame.bindings, elaborator.origins)
    result = elaborator.result(program.result, frame)
    mask, scores = (result.predicate, result.score) if isinstance(result, Scored) else (result, None)
    return Meaning(mask, scores, frame.bindings, elaborator.origins)


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

    def remember(self, value: Value, node: Place_, frame: Frame) -> None:
        """Where the nodes that a value may be read as come from first."""
        for reading in readings(value):
            if reading not in self.origins:
                self.origins[reading] = self.place(node, frame)

    def fault(self, message: str, node: Place_, frame: Frame, hint: str | None = None) -> MaskError:
        return MaskError(message, hint=hint, place=self.place(node, frame))

    def placed(self, error: Fault | MaskError, node: tree.Expr, frame: Frame) -> MaskError:
        """The error as the user sees it; `node` is where it came up, unless it says better."""
        match error:
            case Fault(_, at, _, str(name)):
                return self.unknown(at, name, frame)
            case Fault(message, at, hint):
                return self.fault(message, at, frame, hint)
            case MaskError() if error.place is None:
                return self.fault(error.message, node, frame, error.hint)
            case _:
                return error

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
        if (itself := tree.use_of(node.name, node.body)) is not None and node.name not in frame.bindings:
            raise self.fault(f"the definition of '{node.name}' uses itself", itself, frame)
        return Function(node, frame)

    def result(self, node: tree.Expr, frame: Frame) -> Predicate | Scored:
        """The value of a whole text: a mask, with scores or without."""
        value = self.value(node, frame)
        if isinstance(value, Scored):
            return value
        try:
            return operators.as_mask(Operand(value, node))
        except Fault as fault:
            raise self.placed(fault, node, frame) from None

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
        except (Fault, MaskError) as error:
            raise self.placed(error, node, frame) from None
        finally:
            self.depth -= 1
        self.remember(value, node, frame)
        return value

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
            case tree.Unary(op, operand):
                return operators.unary(op, self.operand(operand, frame))
            case tree.Sum(terms):
                signs = [sign for sign, _ in terms]
                return operators.total(signs, [self.operand(term, frame) for _, term in terms])
            case tree.Product(first, rest):
                operands = [self.operand(part, frame) for part in (first, *(term for _, term in rest))]
                return operators.product([op for op, _ in rest], operands)
            case tree.Comparison(first, chain):
                operands = [self.operand(part, frame) for part in (first, *(term for _, term in chain))]
                return operators.comparison([op for op, _ in chain], operands)
            case tree.Logic(op, parts):
                return operators.logic(op, [self.operand(part, frame) for part in parts])
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
            if node.name in BUILTINS:
                return Symbol(node.name)
            if "." in node.name:
                raise self.unknown(node, node.name, frame)
            return TableName(node.name)
        value = bound.value
        # A definition without parameters may be written without brackets.
        if isinstance(value, Function) and not value.definition.parameters:
            return self.expand(value, {}, self.place(node, frame), frame)
        return value

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
        mask = operators.as_mask(Operand(value, node.mask))
        for entry in node.scores:
            step = operators.as_score(self.operand(entry, frame))
            if score.SCORE not in postorder(step):
                raise self.fault(
                    "this takes no notice of the score 's'", entry, frame, "write s + …, or s * …"
                )
            if choices_of(step):
                raise self.fault("scores cannot depend on what is chosen", entry, frame)
            total = substitute(step, {score.SCORE: total})
        return Scored(mask, total)

    # ---- calls ---------------------------------------------------------------------------------------

    def call(self, node: tree.Call, frame: Frame) -> Value:
        name = node.function.name
        if name in BUILTINS:
            return self.call_builtin(node, frame)
        if name in choosers() and name not in frame.bindings:
            return self.call_operator(choosers()[name], node, frame)
        bound = frame.bindings.get(name) or ("." in name and self.lookup(name)) or None
        if name in RESERVED:
            raise self.fault(f"'{name}' is no function and cannot be called", node.function, frame)
        if bound is None:
            raise self.unknown(node.function, name, frame)
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
                        "write an expression in i, such as i // 64 or doc[i] // 2, or a table's name alone",
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

    def call_operator(self, operator: Operator, node: tree.Call, frame: Frame) -> Value:
        """A score map, or a set that is chosen when a call runs."""
        matched = self.matched(operator.definition, node, frame)

        def at(function: Value, position: Index) -> Value:
            return self.apply(function, position, frame)

        try:
            given = operator_arguments(operator, matched, lambda it: self.argument(it.value, frame), at)
            return operator.make(given)
        except Unfit as unfit:
            raise self.placed(unfit.error, unfit.argument.value, frame) from None

    def matched(
        self, definition: tree.Def, node: tree.Call, frame: Frame
    ) -> Mapping[str, tree.Argument | None]:
        try:
            return match_arguments(definition, node.arguments)
        except Misfit as misfit:
            raise self.fault(misfit.message, misfit.argument or node, frame, misfit.hint) from None

    def call_function(self, function: Function, node: tree.Call, frame: Frame) -> Value:
        matched = self.matched(function.definition, node, frame)
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
        if frame.position is not None and mentions_position(node, frame):
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

    def operand(self, node: tree.Expr, frame: Frame) -> Operand:
        value = self.forced(node, frame)
        self.remember(value, node, frame)
        return Operand(value, node)

    def index(self, node: tree.Expr, frame: Frame) -> Index:
        return operators.as_index(self.operand(node, frame))

    def mask(self, node: tree.Expr, frame: Frame) -> Predicate:
        return operators.as_mask(self.operand(node, frame))

    def unknown(self, node: Place_, name: str, frame: Frame) -> MaskError:
        hint = did_you_mean(name, [*frame.bindings, *BUILTINS, *choosers(), "true", "false"])
        hint = hint or "a table is indexed, as in doc[q]; 'attnmask zoo' lists named masks"
        return self.fault(f"unknown name '{name}'", node, frame, hint)
