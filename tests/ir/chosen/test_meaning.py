"""Choices as sets of pairs of positions, alone and inside of masks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import attnmask as am
from attnmask.errors import MaskError
from attnmask.ir.chosen import clusters_of, dense_with_choices, meaning
from attnmask.ir.domain import Domain
from attnmask.ir.rules import Clusters
from tests.ir.chosen.calls import choice_in, domain_of, picks, vectors

Array = np.ndarray[Any, Any]


def whole(text: str, q: Array, k: Array, q_offset: int = 0, **given: Any) -> Array:
    arrays = {name: np.asarray(array) for name, array in given.items()}
    return dense_with_choices(am.compile(text).predicate, q, k, domain_of(q, k, q_offset), {}, arrays)


@st.composite
def calls(draw: st.DrawFn) -> tuple[Array, Array]:
    """Few whole numbers, so that many scores are equal."""
    batch, kv_heads, group, length = (draw(st.integers(1, most)) for most in (2, 2, 2, 14))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    q = random.integers(-1, 2, (batch, kv_heads * group, length, 2)).astype(float)
    return q, random.integers(-1, 2, (batch, kv_heads, length, 2)).astype(float)


MOBA = "causal & top(3, blocks(4, pool=scaled_sum), count=q // 4 == k // 4)"


@given(calls())
def test_mixture_of_block_attention(call: tuple[Array, Array]) -> None:
    """The gates of MoBA (arXiv:2502.13189): its own block is the best, later ones are none."""
    q, k = call
    found = whole(MOBA.replace("scaled_sum", "mean"), q, k)
    group = q.shape[1] // k.shape[1]
    for b, h, i in np.ndindex(q.shape[:3]):
        keys, own = k[b, h // group], i // 4
        gates = [float(q[b, h, i] @ keys[at * 4 : at * 4 + 4].mean(0)) for at in range(own)] + [np.inf]
        best = sorted(range(own + 1), key=lambda at: -gates[at])[:3]
        assert found[b, h, i].tolist() == [j <= i and j // 4 in best for j in range(k.shape[2])]


@given(calls(), st.integers(2, 4))
def test_counting_itself_is_itself_and_one_less_of_the_earlier(
    call: tuple[Array, Array], number: int
) -> None:
    blocks = "blocks(4), among=k // 4 < q // 4"
    inside = f"causal & top({number}, {blocks}, count=q // 4 == k // 4)"
    outside = f"causal & (q // 4 == k // 4 | top({number - 1}, {blocks}))"
    np.testing.assert_array_equal(whole(inside, *call), whole(outside, *call))


@settings(max_examples=30)
@given(
    calls(),
    st.integers(0, 14),
    st.sampled_from(
        [
            MOBA,
            "causal & top_p(0.5, compressed(4, kernel=2, stride=1), least=2)",
            "causal & (window(2) | above(0.1, exact(3)))",
            "causal & top_p(0.75, blocks(3, norm=softmax, heads=group_mean))",
        ]
    ),
)
def test_a_call_in_two_parts_is_the_call(call: tuple[Array, Array], first: int, text: str) -> None:
    """Where every query chooses for itself, it does not matter which others there are."""
    q, k = call
    first = min(first, q.shape[2] - 1)
    parts = [whole(text, q[:, :, :first], k)] if first else []
    parts.append(whole(text, q[:, :, first:], k, first))
    np.testing.assert_array_equal(np.concatenate(parts, axis=2), whole(text, q, k))


@given(calls())
def test_a_choice_in_a_mask_is_one_of_its_sets(call: tuple[Array, Array]) -> None:
    q, k = call
    domain = domain_of(q, k)
    one, two = "top(2, blocks(3, q_block=2), among=causal)", "above(0.2, exact(2), among=causal)"
    first, second = (meaning(choice_in(text), q, k, domain, {}, {}) for text in (one, two))
    causal = np.tril(np.ones(q.shape[2:3] * 2, bool))
    for text, expected in (
        (f"{one} & ~{two}", first & ~second),
        (f"{one} ^ {two}", first ^ second),
        (f"causal - {one}", causal & ~first),
        (f"causal & ({one} | {two})", causal & (first | second)),
    ):
        np.testing.assert_array_equal(whole(text, q, k), expected)


def test_a_choice_without_candidates_has_those_around_it() -> None:
    # By the products the last key would be the best for all.
    q, k = vectors([1, 1, 1]), vectors([1, 2, 3])
    expected = [[[[True, False, False], [False, True, False], [False, False, True]]]]
    assert whole("causal & top(1, blocks(1))", q, k).tolist() == expected
    assert whole("causal & (k > 5 | top(1, blocks(1)))", q, k).tolist() == expected


def test_tables_stay_tables() -> None:
    mask = am.compile("causal & doc[q] == doc[k] & top(1, blocks(1))", doc=[0, 0, 1, 1])
    tables = {name: data.array for name, data in mask.tables}
    q = vectors([1, 1, 1, 1])
    found = dense_with_choices(mask.predicate, q, vectors([2, 1, 0, 5]), Domain(4, 4), tables, {})
    assert found[0, 0].argmax(1).tolist() == [0, 0, 2, 3]
    assert found[0, 0].sum(1).tolist() == [1, 1, 1, 1]


def test_a_mask_that_chooses_nothing_is_what_it_is() -> None:
    mask, q = am.compile("causal & h < 1"), np.ones((2, 2, 5, 1))
    found = dense_with_choices(mask.predicate, q, q, Domain(5, 5, 0, 2, 2), {}, {})
    np.testing.assert_array_equal(found, mask.dense(5, batch=2, heads=2))


def test_a_number_counted_with_another_score() -> None:
    # The last query looks at two keys of four to see half of what there is; every row takes two blocks.
    q, k = vectors([1, 1, 1, 1]), vectors([3, 3, 3, 3])
    text = "top(top_p(0.5, probe(rows=1, block=1)), given(est, block=1, q_block=2))"
    est = [[[[1, 2, 3, 4], [4, 3, 2, 1]]]]
    assert picks(text, q, k, est=est) == [[[2, 3], [0, 1]]]


# ---- clusters ----------------------------------------------------------------------------------------

AXES = np.asarray([[[3.0, 0], [0, 1]]])


def test_clusters_are_the_nearest_by_cosine() -> None:
    # (1, 2) is nearer to the second axis, though its product with the first centroid is larger.
    q, k = vectors([[1, 2], [5, 1]]), vectors([[0, 4], [1, 0], [1, 1], [0, 0]])
    of_q, of_k = clusters_of(Clusters("c", None), q, k, domain_of(q, k), {"c": AXES})
    assert of_q[0, 0].argmax(1).tolist() == [1, 0]
    assert of_k[0, 0].argmax(1).tolist() == [1, 0, 0, 0]  # ties to the lower one
    assert of_q.sum(3).tolist() == [[[1, 1]]]
    assert whole("clusters(c)", q, k, c=AXES).astype(int).tolist() == [[[[1, 0, 0, 0], [0, 1, 1, 1]]]]


def test_members_of_a_cluster_are_its_nearest() -> None:
    q, k = vectors([[1, 2], [5, 1], [1, 0]]), vectors([[0, 4], [9, 0], [2, 0]])
    of_q, of_k = clusters_of(Clusters("c", 1), q, k, domain_of(q, k), {"c": AXES})
    assert of_q[0, 0].T.astype(int).tolist() == [[0, 0, 1], [1, 0, 0]]
    assert of_k[0, 0].T.astype(int).tolist() == [[0, 1, 0], [1, 0, 0]]  # ties to the lower position
    found = whole("clusters(c, members=1)", q, k, c=AXES).astype(int).tolist()
    assert found == [[[[1, 0, 0], [0, 0, 0], [0, 1, 0]]]]
    # More members than there are positions: everything is in both.
    assert whole("clusters(c, members=9)", q, k, c=AXES).all()


def test_centroids_are_for_all_heads_for_those_of_keys_or_for_each() -> None:
    q, k = np.zeros((1, 4, 1, 2)), np.zeros((1, 2, 2, 2))
    q[..., 0], k[..., 0] = 1, [1, -1]
    one = np.asarray([[1.0, 0], [-1, 0]])
    for centroids in (one[None], np.stack([one, one[::-1]]), np.stack([one, one[::-1], one, one[::-1]])):
        found = whole("clusters(c)", q, k, c=centroids)
        np.testing.assert_array_equal(found, np.broadcast_to([True, False], (1, 4, 1, 2)))
    # The centroids of key head 1 put all in one cluster.
    alone = np.stack([one, np.asarray([[0, 1.0], [0, -1]])])
    assert whole("clusters(c)", q, k, c=alone).sum((0, 2, 3)).tolist() == [1, 1, 2, 2]


@pytest.mark.parametrize("shape", [(3, 2, 2), (1, 2, 3), (2, 2)])
def test_centroids_that_do_not_fit(shape: tuple[int, ...]) -> None:
    with pytest.raises(MaskError, match="'c' has the shape"):
        whole("clusters(c)", np.ones((1, 4, 1, 2)), np.ones((1, 2, 2, 2)), c=np.ones(shape))
