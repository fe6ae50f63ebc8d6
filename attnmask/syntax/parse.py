"""Text to syntax tree, by lark; the only module that knows lark."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, cast

from lark import Lark, Token, v_args
from lark.exceptions import UnexpectedCharacters, UnexpectedInput, UnexpectedToken, VisitError
from lark.tree import Meta
from lark.visitors import Transformer_NonRecursive

from attnmask.errors import MaskError, Place, Source, Span
from attnmask.resources import read_grammar
from attnmask.syntax import tree
from attnmask.syntax.messages import ends_early, unexpected

LONGEST_TEXT = 100_000
MOST_TOKENS = 20_000
MOST_STATEMENTS = 1_000
DEEPEST_TREE = 100
_LARGEST = 2**63 - 1
_RESERVED = frozenset({"in", "not", "and", "or", "let", "def", "with", "true", "false"})
_CONTINUING = frozenset(
    {
        "VBAR",
        "CIRCUMFLEX",
        "AMPERSAND",
        "SIGN",
        "FACTOR",
        "COMPARE",
        "IN",
        "EQUAL",
        "COMMA",
        "OR",
        "AND",
        "WITH",
    }
)
_SUFFIXES = {"k": 1 << 10, "m": 1 << 20}


def parse(source: Source) -> tree.Program:
    """The syntax tree of `source`; MaskError where the text is not of the language."""
    if len(source.text) > LONGEST_TEXT:
        raise MaskError(
            f"the text has {len(source.text)} characters and the limit is {LONGEST_TEXT}",
            hint="put long lists of positions into a table and bind it",
        )
    parser = _parser()
    try:
        # Neither step recurses, so a deep text is no danger before its depth is looked at.
        program = cast(tree.Program, _Builder().transform(parser.parse(source.text)))
    except UnexpectedInput as error:
        raise _syntax_error(error, source) from None
    except VisitError as error:
        if not isinstance(error.orig_exc, _Rejected):
            raise
        raise error.orig_exc.placed(source) from None
    except _Rejected as rejected:
        raise rejected.placed(source) from None
    _limit_depth(program, source)
    return program


@lru_cache(maxsize=1)
def _parser() -> Lark:
    return Lark(
        read_grammar("attnmask.lark"),
        parser="lalr",
        start="program",
        postlex=_JoinLines(),
        propagate_positions=True,
    )


class _Rejected(Exception):
    """A text that the grammar admits and the language does not."""

    def __init__(self, message: str, span: Span, hint: str | None = None) -> None:
        super().__init__(message)
        self.message, self.span, self.hint = message, span, hint

    def placed(self, source: Source) -> MaskError:
        return MaskError(self.message, hint=self.hint, place=Place(source, self.span))


class _JoinLines:
    """Drops line ends inside brackets and after an operator, so that an expression may take several lines."""

    always_accept = ("NEWLINE",)

    def process(self, stream: Iterator[Token]) -> Iterator[Token]:
        depth, open_ended = 0, False
        for number, token in enumerate(stream):
            if number >= MOST_TOKENS:
                start = token.start_pos or 0
                raise _Rejected(
                    f"the text has more than {MOST_TOKENS} words and signs",
                    Span(start, start + len(token)),
                    "put long lists of positions into a table and bind it",
                )
            if token.type == "NEWLINE":
                if depth <= 0 and not open_ended:
                    yield token
                continue
            open_ended = token.type in _CONTINUING
            if token.type in ("LPAR", "LSQB"):
                depth += 1
            elif token.type in ("RPAR", "RSQB"):
                depth -= 1
            yield token


def _span(meta: Meta) -> Span:
    return Span(meta.start_pos, meta.end_pos) if not meta.empty else Span(0, 0)


@v_args(meta=True)
class _Builder(Transformer_NonRecursive[Token, Any]):
    """One method a grammar rule, called bottom-up."""

    def program(self, meta: Meta, items: list[Any]) -> tree.Program:
        entries = [item for item in items if item is not None and not isinstance(item, Token)]
        *statements, last = entries or [None]
        if len(statements) > MOST_STATEMENTS:
            raise _Rejected(f"the text has more than {MOST_STATEMENTS} definitions", statements[-1].span)
        for entry in statements:
            if not isinstance(entry, tree.Let | tree.Def):
                raise _Rejected(
                    "only the last line may be an expression", entry.span, "name it with 'let NAME = …'"
                )
        if isinstance(last, tree.Let | tree.Def):
            statements, last = [*statements, last], None
        return tree.Program(tuple(statements), last, _span(meta))

    def let(self, meta: Meta, items: list[Any]) -> tree.Let:
        return tree.Let(_checked(items[0]), items[1], _span(meta))

    def def_(self, meta: Meta, items: list[Any]) -> tree.Def:
        name, *parameters, body = items
        kept = tuple(parameter for parameter in parameters if parameter is not None)
        return tree.Def(_checked(name), kept, body, _span(meta))

    def parameter(self, meta: Meta, items: list[Any]) -> tree.Parameter:
        return tree.Parameter(_checked(items[0]), items[1], _span(meta))

    def with_(self, meta: Meta, items: list[Any]) -> tree.With:
        return tree.With(items[0], tuple(items[1:]), _span(meta))

    def or_(self, meta: Meta, items: list[Any]) -> tree.Logic:
        return tree.Logic("|", tuple(items), _span(meta))

    def xor(self, meta: Meta, items: list[Any]) -> tree.Logic:
        return tree.Logic("^", tuple(items), _span(meta))

    def and_(self, meta: Meta, items: list[Any]) -> tree.Logic:
        return tree.Logic("&", tuple(items), _span(meta))

    def invert(self, meta: Meta, items: list[Any]) -> tree.Unary:
        return tree.Unary("~", items[0], _span(meta))

    def signed(self, meta: Meta, items: list[Any]) -> tree.Expr:
        sign, operand = items
        return cast(tree.Expr, operand) if sign == "+" else tree.Unary("-", operand, _span(meta))

    def comparison(self, meta: Meta, items: list[Any]) -> tree.Comparison:
        rest = [(" ".join(str(op).split()), term) for op, term in zip(items[1::2], items[2::2], strict=True)]
        for op, term in rest[:-1]:
            if op.endswith("in"):
                raise _Rejected("a range ends the chain of comparisons", term.span, "join two with '&'")
        return tree.Comparison(items[0], cast(Any, tuple(rest)), _span(meta))

    def slice(self, meta: Meta, items: list[Any]) -> tree.Range:
        return tree.Range(items[0], items[1], _span(meta))

    def open_slice(self, meta: Meta, items: list[Any]) -> tree.Range:
        low, high = items if len(items) == 2 else (None, items[0])
        return tree.Range(low, high, _span(meta))

    def sum(self, meta: Meta, items: list[Any]) -> tree.Sum:
        signs = ["+", *(str(sign) for sign in items[1::2])]
        return tree.Sum(cast(Any, tuple(zip(signs, items[0::2], strict=True))), _span(meta))

    def product(self, meta: Meta, items: list[Any]) -> tree.Product:
        rest = tuple((str(op), term) for op, term in zip(items[1::2], items[2::2], strict=True))
        return tree.Product(items[0], cast(Any, rest), _span(meta))

    def call(self, meta: Meta, items: list[Any]) -> tree.Call:
        arguments = tuple(item for item in items[1:] if item is not None)
        return tree.Call(items[0], arguments, _span(meta))

    def index(self, meta: Meta, items: list[Any]) -> tree.Index:
        return tree.Index(items[0], tuple(items[1:]), _span(meta))

    def argument(self, meta: Meta, items: list[Any]) -> tree.Argument:
        name, value = items
        return tree.Argument(None if name is None else _checked(name), value, _span(meta))

    def number(self, meta: Meta, items: list[Any]) -> tree.Number:
        digits = str(items[0]).replace("_", "")
        factor = _SUFFIXES.get(digits[-1], 1)
        digits = (digits if factor == 1 else digits[:-1]).lstrip("0") or "0"
        # The length is looked at first: int() of a very long string is slow, and refused by Python.
        if len(digits) > 19 or int(digits) * factor > _LARGEST:
            raise _Rejected("the number is larger than 2**63 - 1", _span(meta))
        return tree.Number(int(digits) * factor, _span(meta))

    def real(self, meta: Meta, items: list[Any]) -> tree.Real:
        return tree.Real(float(items[0]), _span(meta))

    def true(self, meta: Meta, items: list[Any]) -> tree.Truth:
        return tree.Truth(True, _span(meta))

    def false(self, meta: Meta, items: list[Any]) -> tree.Truth:
        return tree.Truth(False, _span(meta))

    def name(self, meta: Meta, items: list[Any]) -> tree.Name:
        return tree.Name(".".join(_checked(item) for item in items), _span(meta))


def _checked(token: Token) -> str:
    if token in _RESERVED:
        start = token.start_pos or 0
        raise _Rejected(f"'{token}' is a word of the language", Span(start, start + len(token)))
    return str(token)


def _syntax_error(error: UnexpectedInput, source: Source) -> MaskError:
    match error:
        case UnexpectedToken() if error.token.type == "$END":
            return ends_early(source)
        case UnexpectedToken():
            return unexpected(
                source, error.token.start_pos or 0, str(error.token), error.token.type == "NEWLINE"
            )
        case UnexpectedCharacters():
            start = error.pos_in_stream or 0
            return unexpected(source, start, source.text[start], False)
        case _:
            return MaskError("the text cannot be read as a mask")


def _limit_depth(program: tree.Program, source: Source) -> None:
    """Later passes recurse over the tree, so its depth is bounded here, without recursion."""
    roots: list[tree.Expr] = [
        statement.value if isinstance(statement, tree.Let) else statement.body
        for statement in program.statements
    ]
    if program.result is not None:
        roots.append(program.result)
    level, depth = roots, 1
    while level:
        if depth > DEEPEST_TREE:
            raise MaskError(
                f"the expression is nested more than {DEEPEST_TREE} levels deep",
                hint="name inner parts with 'let NAME = …'",
                place=Place(source, level[0].span),
            )
        level = [child for node in level for child in tree.children(node)]
        depth += 1
