"""Small calls to choose in: choices written in the language, q and k as nested lists of few numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

import attnmask as am
from attnmask.ir.choices import choices_of, closed
from attnmask.ir.chosen import chosen, unit_scores
from attnmask.ir.domain import Domain
from attnmask.ir.nodes import Choice


def choice_in(text: str) -> Choice:
    """The one choice of a mask, closed."""
    (choice,) = choices_of(closed(am.compile(text).predicate))
    return choice


def vectors(values: Any) -> NDArray[np.float64]:
    """[B, H, n, D]: rows of vectors are of one head, single numbers are vectors of one channel."""
    array = np.asarray(values, np.float64)
    if array.ndim == 1:
        array = array[:, None]
    return np.asarray(array.reshape((1,) * (4 - array.ndim) + array.shape))


def domain_of(q: NDArray[Any], k: NDArray[Any], q_offset: int = 0) -> Domain:
    return Domain(q.shape[2], k.shape[2], q_offset, *q.shape[:2])


def scores(text: str, q: Any, k: Any, q_offset: int = 0, **given: Any) -> NDArray[np.float64]:
    """[sets, rows, keys]: the scores of the choice in `text`, in a call of one batch row."""
    q, k = vectors(q), vectors(k)
    arrays = {name: np.asarray(array) for name, array in given.items()}
    return np.asarray(unit_scores(choice_in(text), q, k, domain_of(q, k, q_offset), {}, arrays).scores[0])


def picks(text: str, q: Any, k: Any, q_offset: int = 0, **given: Any) -> list[list[list[int]]]:
    """The chosen units of every row of every set, in a call of one batch row."""
    q, k = vectors(q), vectors(k)
    arrays = {name: np.asarray(array) for name, array in given.items()}
    found = chosen(choice_in(text), q, k, domain_of(q, k, q_offset), {}, arrays)[0]
    return [[np.flatnonzero(row).tolist() for row in of_set] for of_set in found]


def close(found: Any, expected: Any) -> None:
    """Numbers are equal up to rounding; `expected` may leave out axes of length 1."""
    np.testing.assert_allclose(found, np.reshape(expected, np.shape(found)), rtol=1e-12, atol=1e-12)
