"""Differences of masks against dense evaluation."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings

import attnmask as am
from tests.strategies import Case, cases


@settings(deadline=None, max_examples=40)
@given(one=cases(most=40), other=cases(most=40))
def test_counts_and_positions(one: Case, other: Case) -> None:
    domain, call = one.call.domain, one.call
    options = call.options
    try:
        second = other.mask.dense(*call.lengths, **options)
    except am.MaskError:
        return
    first = one.mask.dense(*call.lengths, **options)
    b, h = domain.batch - 1, domain.heads - 1
    found = one.mask.difference(other.mask, *call.lengths, block=call.block, b=b, h=h, **options)
    planes = {
        "both": first[b, h] & second[b, h],
        "only_first": first[b, h] & ~second[b, h],
        "only_second": second[b, h] & ~first[b, h],
    }
    assert found.pairs == {name: int(plane.sum()) for name, plane in planes.items()}
    for kind in ("only_first", "only_second"):
        places = [(int(row) + domain.q_offset, int(k)) for row, k in np.argwhere(planes[kind])[:5]]
        assert found.positions(kind) == places
        assert found.to_dict()["first_positions"][kind] == [list(place) for place in places]
    assert found.equal == bool((first[b, h] == second[b, h]).all())


def test_a_head_that_is_not_there() -> None:
    found = am.compile("heads(:1) & causal").difference(am.library.causal, 8, heads=2, h=2)
    with pytest.raises(am.MaskError, match="no head 2"):
        _ = found.pairs
