"""What names and expressions of the language stand for while a tree is turned into IR."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from attnmask.errors import Place, Source
from attnmask.ir.nodes import Index, Predicate, ScoreExpr
from attnmask.ir.rules import Pooling, ScoreMap
from attnmask.syntax import tree


@dataclass(frozen=True, slots=True)
class Bound:
    """A name's value, and for a parameter the place of the argument that it was given."""

    value: Value
    place: Place | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """Where names are looked up: the bindings in sight, the text they stand in, and who called.

    `caller` is the place in the user's text that leads into a library definition; faults found inside the
    library are shown there.
    """

    source: Source
    bindings: Mapping[str, Bound] = field(repr=False)  # earlier definitions, each with a frame of its own
    caller: Place | None = None
    position: Index | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Function:
    """A `def`, with the frame that its body sees."""

    definition: tree.Def
    frame: Frame


@dataclass(frozen=True, slots=True, eq=False)
class TokenFunction:
    """An expression in the placeholder `i`, with the frame it was written in."""

    body: tree.Expr
    frame: Frame


@dataclass(frozen=True, slots=True)
class TableName:
    """A name that nothing defines: a table, or a number set at compile time."""

    name: str


@dataclass(frozen=True, slots=True)
class Cell:
    """`doc[q]`, before its place says whether it is read as an integer, a truth value or a float."""

    name: str
    indices: tuple[Index, ...]


@dataclass(frozen=True, slots=True)
class Interval:
    """A half-open range; None is an open end."""

    low: Index | None
    high: Index | None


@dataclass(frozen=True, slots=True)
class Scored:
    """A mask with what happens to the scores."""

    predicate: Predicate
    score: ScoreExpr


@dataclass(frozen=True, slots=True)
class Symbol:
    """The name of a function where it stands for itself, as `max` in `pool=max`."""

    name: str


@dataclass(frozen=True, slots=True)
class Pooled:
    """A way to make one vector of those of a unit."""

    pool: Pooling


@dataclass(frozen=True, slots=True)
class UnitScores:
    """Scores of pairs of units, to choose by."""

    score: ScoreMap
    q_unit: Index
    k_unit: Index


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a whole text means: the result, if it has one, and the names that it defines."""

    predicate: Predicate | None
    score: ScoreExpr | None
    bindings: Mapping[str, Bound]
    origins: Mapping[Index | Predicate | ScoreExpr, Place] = field(repr=False)


Value = (
    Predicate
    | Index
    | ScoreExpr
    | Function
    | TokenFunction
    | TableName
    | Cell
    | Interval
    | Scored
    | Symbol
    | Pooled
    | UnitScores
)


def mentions_position(node: tree.Expr, frame: Frame) -> bool:
    """Whether an expression, or what its names stand for, depends on the placeholder `i`."""
    stack = [node]
    while stack:
        item = stack.pop()
        if isinstance(item, tree.Name):
            bound = frame.bindings.get(item.name)
            if item.name == "i" or (bound is not None and isinstance(bound.value, TokenFunction)):
                return True
        stack.extend(tree.children(item))
    return False
