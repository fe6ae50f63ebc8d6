"""How tightly operators bind: each text against the same expression with every bracket written, in Python."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from tests.syntax.loops import Pair, means

MEANINGS: dict[str, Pair] = {
    # comparisons bind tighter than & ^ |
    "k <= q & q - k < 3": lambda q, k: (k <= q) and (q - k < 3),
    "q < 4 ^ k < 4": lambda q, k: (q < 4) != (k < 4),
    "q < 4 | k < 4": lambda q, k: (q < 4) or (k < 4),
    # ^ stands between & and |
    "q < 4 ^ k < 4 & q < 2": lambda q, k: (q < 4) != ((k < 4) and (q < 2)),
    "q < 4 & k < 4 ^ q < 2": lambda q, k: ((q < 4) and (k < 4)) != (q < 2),
    "q < 4 | k < 4 ^ q < 2": lambda q, k: (q < 4) or ((k < 4) != (q < 2)),
    "q < 4 ^ k < 4 | q < 2": lambda q, k: ((q < 4) != (k < 4)) or (q < 2),
    "q < 4 ^ k < 4 ^ q == k": lambda q, k: (q < 4) ^ (k < 4) ^ (q == k),
    "k < 3 | k > 5 & q > 2": lambda q, k: (k < 3) or ((k > 5) and (q > 2)),
    "k < 3 & k > 1 | q > 2": lambda q, k: ((k < 3) and (k > 1)) or (q > 2),
    # not, ~ and -
    "not k <= q & k < 3": lambda q, k: (not (k <= q)) and (k < 3),
    "not k <= q | k < 3": lambda q, k: (not (k <= q)) or (k < 3),
    "q < 4 & not k < 2": lambda q, k: (q < 4) and not (k < 2),
    "not not k < 2": lambda q, k: k < 2,
    "~(k <= q) & k < 3": lambda q, k: (not (k <= q)) and (k < 3),
    "~causal & k < 3": lambda q, k: (k > q) and (k < 3),
    "~~causal": lambda q, k: k <= q,
    "-q + k < 0": lambda q, k: (k - q) < 0,
    "-q // 2 == -1": lambda q, k: (-q) // 2 == -1,
    "q - -k < 9": lambda q, k: q + k < 9,
    "+q - +k == 1": lambda q, k: q - k == 1,
    "--q == q": lambda q, k: True,
    # sums and products, from left to right
    "q - k - 1 < 0": lambda q, k: (q - k) - 1 < 0,
    "q - k + 1 < 0": lambda q, k: (q - k) + 1 < 0,
    "q - (k + 1) < 0": lambda q, k: q - (k + 1) < 0,
    "q + 2 * k < 9": lambda q, k: q + (2 * k) < 9,
    "q // 2 * 2 == q": lambda q, k: (q // 2) * 2 == q,
    "q * 2 // 3 == k": lambda q, k: (q * 2) // 3 == k,
    "q % 3 * 2 == k": lambda q, k: (q % 3) * 2 == k,
    "q * k % 5 == 1": lambda q, k: (q * k) % 5 == 1,
    "q // 2 // 2 == k": lambda q, k: (q // 2) // 2 == k,
    "q % 5 % 3 == k": lambda q, k: (q % 5) % 3 == k,
    "q + k % 2 == 3": lambda q, k: q + (k % 2) == 3,
    "q // -2 == -2": lambda q, k: q // -2 == -2,
    "(k - q) % 3 == 2": lambda q, k: (k - q) % 3 == 2,
    "(q - k) % -3 == -1": lambda q, k: (q - k) % -3 == -1,
    "(k - q) // 2 == -1": lambda q, k: (k - q) // 2 == -1,
    # chains, and ranges
    "k < q < 6": lambda q, k: k < q < 6,
    "0 < q - k <= 3 < k + 3": lambda q, k: 0 < q - k <= 3 < k + 3,
    "q == k == 3": lambda q, k: q == k == 3,
    "q != k != 3": lambda q, k: q != k != 3,
    "6 >= q > k": lambda q, k: 6 >= q > k,
    "k in q - 2:q + 1 & q > 1": lambda q, k: (k in range(q - 2, q + 1)) and (q > 1),
    "k not in 2:4 | q == k": lambda q, k: (k not in range(2, 4)) or (q == k),
    "not k in 2:4": lambda q, k: k not in range(2, 4),
    "k in 3:": lambda q, k: k >= 3,
    "k in :3": lambda q, k: k < 3,
    "k in :": lambda q, k: True,
    "k in 5:2": lambda q, k: False,
    "k not   in 3:": lambda q, k: k < 3,
    "q - k in -1:2": lambda q, k: -1 <= q - k < 2,
    "k in 3": lambda q, k: k == 3,
    # the words
    "causal and k < 2 or q == 0": lambda q, k: (k <= q and k < 2) or q == 0,
    "q == 0 or causal and not k < 2": lambda q, k: q == 0 or (k <= q and not k < 2),
    "causal and k < 2 | q == 0 & k == 1": lambda q, k: (k <= q and k < 2) or (q == 0 and k == 1),
    # differences of sets
    "causal - sink(2)": lambda q, k: k <= q and not k < 2,
    "causal - sink(2) - diagonal": lambda q, k: k <= q and not k < 2 and q != k,
    "causal - (sink(4) - sink(2))": lambda q, k: k <= q and not (k < 4 and not k < 2),
    "~causal - sink(2)": lambda q, k: (not k <= q) and not k < 2,
    "not causal - sink(2)": lambda q, k: not (k <= q and not k < 2),
    "causal - sink(2) & k < 5 | q == 0": lambda q, k: (k <= q and not k < 2 and k < 5) or q == 0,
    # integers bit by bit
    "(q & 3) == 2": lambda q, k: (q & 3) == 2,
    "(q & 6) == 2": lambda q, k: (q & 6) == 2,
    "(q | 4) == 6": lambda q, k: (q | 4) == 6,
    "(q ^ k) == 3": lambda q, k: (q ^ k) == 3,
    "(q ^ k & 1) == 3": lambda q, k: (q ^ (k & 1)) == 3,
    "(q | k ^ 1) == 3": lambda q, k: (q | (k ^ 1)) == 3,
    # functions of the language
    "abs(q - k) == 2": lambda q, k: abs(q - k) == 2,
    "min(q, k, 4) == 4": lambda q, k: min(q, k, 4) == 4,
    "max(q, k, 4) == 4": lambda q, k: max(q, k, 4) == 4,
    "min(q) == max(k)": lambda q, k: q == k,
    "where(k < 3, q, k) == 4": lambda q, k: (q if k < 3 else k) == 4,
    "where(q < 3, 1, 2) * k == 4": lambda q, k: (1 if q < 3 else 2) * k == 4,
}


@pytest.mark.parametrize("text", MEANINGS)
def test_every_pair_of_operators(text: str) -> None:
    means(text, MEANINGS[text])


# ---- random expressions, printed with the fewest brackets that the table of precedence allows ---------------

_OR, _XOR, _AND, _NOT, _COMPARE, _SUM, _PRODUCT, _UNARY, _ATOM = range(9)


@dataclass(frozen=True)
class Written:
    """A text, how tightly its outermost operator binds, and what it means."""

    text: str
    level: int
    meaning: Callable[[int, int], int]

    def at(self, level: int) -> str:
        return self.text if self.level >= level else f"({self.text})"


def _binary(
    symbol: str, level: int, apply: Callable[[int, int], int]
) -> Callable[[Written, Written], Written]:
    def build(left: Written, right: Written) -> Written:
        text = f"{left.at(level)} {symbol} {right.at(level + 1)}"
        return Written(text, level, lambda q, k: apply(left.meaning(q, k), right.meaning(q, k)))

    return build


_SUMS = [_binary("+", _SUM, lambda a, b: a + b), _binary("-", _SUM, lambda a, b: a - b)]
_PRODUCTS = [_binary("*", _PRODUCT, lambda a, b: a * b)]
_DIVISIONS = [_binary("//", _PRODUCT, lambda a, b: a // b), _binary("%", _PRODUCT, lambda a, b: a % b)]
_COMPARISONS = [
    _binary("<", _COMPARE, lambda a, b: a < b),
    _binary("<=", _COMPARE, lambda a, b: a <= b),
    _binary(">", _COMPARE, lambda a, b: a > b),
    _binary(">=", _COMPARE, lambda a, b: a >= b),
    _binary("==", _COMPARE, lambda a, b: a == b),
    _binary("!=", _COMPARE, lambda a, b: a != b),
]
_CONNECTIVES = [
    _binary("|", _OR, lambda a, b: a or b),
    _binary("or", _OR, lambda a, b: a or b),
    _binary("^", _XOR, lambda a, b: a != b),
    _binary("&", _AND, lambda a, b: a and b),
    _binary("and", _AND, lambda a, b: a and b),
    _binary("-", _SUM, lambda a, b: a and not b),
]


def _negative(arg: Written) -> Written:
    return Written(f"-{arg.at(_UNARY)}", _UNARY, lambda q, k: -arg.meaning(q, k))


def _tilde(arg: Written) -> Written:
    return Written(f"~{arg.at(_UNARY)}", _UNARY, lambda q, k: not arg.meaning(q, k))


def _not(arg: Written) -> Written:
    return Written(f"not {arg.at(_NOT)}", _NOT, lambda q, k: not arg.meaning(q, k))


def _positions() -> SearchStrategy[Written]:
    numbers = st.integers(1, 5).map(lambda n: Written(str(n), _ATOM, lambda q, k: n))
    variables = st.sampled_from([Written("q", _ATOM, lambda q, k: q), Written("k", _ATOM, lambda q, k: k)])

    def larger(inner: SearchStrategy[Written]) -> SearchStrategy[Written]:
        return st.one_of(
            st.tuples(st.sampled_from(_SUMS + _PRODUCTS), inner, inner).map(lambda t: t[0](t[1], t[2])),
            st.tuples(st.sampled_from(_DIVISIONS), inner, numbers).map(lambda t: t[0](t[1], t[2])),
            inner.map(_negative),
        )

    return st.recursive(numbers | variables, larger, max_leaves=6)


def _masks() -> SearchStrategy[Written]:
    positions = _positions()
    compared = st.tuples(st.sampled_from(_COMPARISONS), positions, positions).map(lambda t: t[0](t[1], t[2]))

    def larger(inner: SearchStrategy[Written]) -> SearchStrategy[Written]:
        return st.one_of(
            st.tuples(st.sampled_from(_CONNECTIVES), inner, inner).map(lambda t: t[0](t[1], t[2])),
            inner.map(_tilde),
            inner.map(_not),
        )

    return st.recursive(compared, larger, max_leaves=6)


@given(_masks())
def test_random_expressions(written: Written) -> None:
    means(written.text, written.meaning)
