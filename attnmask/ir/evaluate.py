"""The definition: what each node means, in numpy, element by element.

Everything else in attnmask (tiles, generated source, kernels) is tested against this file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import reduce
from typing import Any, assert_never

import numpy as np
from numpy.typing import NDArray

from attnmask.ir.nodes import (
    Abs,
    Add,
    And,
    Apply,
    Arith,
    BitOp,
    BoolTable,
    Choice,
    Compare,
    Const,
    Expr,
    FloorDiv,
    FromIndex,
    Max,
    Min,
    Mod,
    Mul,
    Not,
    Or,
    Real,
    RealTable,
    Score,
    ScoreWhere,
    Table,
    Truth,
    Var,
    Where,
    Xor,
)
from attnmask.ir.walk import children, postorder

Array = NDArray[Any]

_COMPARE = {"<": np.less, "<=": np.less_equal, "==": np.equal, "!=": np.not_equal}
_BITS = {"&": np.bitwise_and, "|": np.bitwise_or, "^": np.bitwise_xor}
_ARITH = {"+": np.add, "-": np.subtract, "*": np.multiply, "/": np.divide}
_REAL = {"tanh": np.tanh, "exp": np.exp, "log": np.log}


def evaluate(
    root: Expr, variables: Mapping[str, Array], tables: Mapping[str, Array], score: Array | None = None
) -> Array:
    """The value of `root` where its variables have the given values (arrays that broadcast together).

    The result has the shape that the variables in `root` broadcast to, which may be smaller than that of all
    of them. Indices and divisors are checked beforehand (see `check`), not here.
    """
    values: dict[Expr, Array] = {}
    for node in postorder(root):
        values[node] = _value(node, [values[child] for child in children(node)], variables, tables, score)
    return values[root]


def _value(
    node: Expr,
    args: Sequence[Array],
    variables: Mapping[str, Array],
    tables: Mapping[str, Array],
    score: Array | None,
) -> Array:
    match node:
        case Const(value):
            return np.asarray(value)
        case Var(name):
            return variables[name]
        case Truth(value):
            return np.asarray(value)
        case Add():
            return reduce(np.add, args)
        case Mul():
            return reduce(np.multiply, args)
        case FloorDiv():
            return np.floor_divide(*args)
        case Mod():
            return np.mod(*args)
        case Min():
            return reduce(np.minimum, args)
        case Max():
            return reduce(np.maximum, args)
        case Abs():
            return np.abs(args[0])
        case BitOp(op):
            return _BITS[op](*args)
        case Where() | ScoreWhere():
            return np.where(*args)
        case Table(name) | BoolTable(name) | RealTable(name):
            return tables[name][tuple(args)]
        case Compare(_, comparison, _):
            return _COMPARE[comparison](*args)
        case And():
            return reduce(np.logical_and, args)
        case Or():
            return reduce(np.logical_or, args)
        case Xor():
            return np.logical_xor(*args)
        case Not():
            return np.logical_not(args[0])
        case Score():
            assert score is not None, "a score expression is evaluated with a score"
            return score
        case Real(value):
            return np.asarray(value)
        case FromIndex():
            return args[0].astype(np.float64)
        case Arith(operator):
            return _ARITH[operator](*args)
        case Apply(function):
            return _REAL[function](args[0])
        case Choice():
            raise AssertionError("choices are given their meaning beforehand")
        case _:
            assert_never(node)
