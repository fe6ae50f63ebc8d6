"""Decoding, vision, clusters and single keys, in calls that are worked out on paper: no other program is asked."""

from __future__ import annotations

import math
from math import log

from tests.zoo.on_paper.call import Call, ones, zeros


def test_quest_bounds_pages_by_their_corners() -> None:
    keys = [[[3.0, -1], [-1, 3], [2, 2], [2, 2], [0, 0], [0, 0]]]
    # Bounds 6 and 4, where means would say 2 and 4; then 1 and -2.
    call = Call("zoo.quest(1, 2)", [[[1.0, 1]], [[0.0, -1]]], keys)
    assert [call.row(5, h) for h in (0, 1)] == [[0, 1, 4, 5]] * 2
    # Bounds 3 and -9; 90 and 120; together 93 and 111.
    keys = [[[3.0, -1], [-1, 3], [4, -9], [4, -9], [0, 0], [0, 0]]]
    queries = [[[0.0, 1]], [[30.0, 0]]]
    each = Call("zoo.quest(1, 2)", queries, keys)
    assert [each.row(5, h) for h in (0, 1)] == [[0, 1, 4, 5], [2, 3, 4, 5]]
    shared = Call("zoo.quest(1, 2, heads=group_sum)", queries, keys)
    assert [shared.row(5, h) for h in (0, 1)] == [[2, 3, 4, 5]] * 2


def test_snapkv_smooths_over_places_that_exist() -> None:
    keys = [[0.0, 0, 0, 9, 0, 5, 0]]
    sharp, smooth = (Call(f"zoo.snapkv(2, 1, {width}, 0, 1)", [[1.0]], keys) for width in (1, 3))
    assert [call.row(6) for call in (sharp, smooth)] == [[3, 6], [4, 6]]
    assert Call("zoo.snapkv(1, 1, 3, 0, 0)", [[1.0]], [[9.0, 0, 0, 0]]).row(3) == [0]


def test_kinetics_gives_the_remainder_to_the_local_part() -> None:
    """Of 8 keys: 0; blocks 1-2 and 3-4; 5 is left over; 6 and 7. The group's mean query is -1."""
    text, queries = "zoo.kinetics(1, 2, 2, 1)", [[1.0], [-3.0]]
    keys = [0.0, 2, 2, -1, 0, 9, 9, 9]
    call = Call(text, queries, [keys])
    assert call.row(7, 0) == call.row(7, 1) == [0, 3, 4, 5, 6, 7]
    assert Call(text, queries, [keys[:3]]).row(2) == [0, 1, 2]


def test_delta_takes_the_largest_head_of_each_token() -> None:
    """Of 17: largest shares 6 + 6 in page 0, 4 + 4 in page 1; means would be 3.5 + 3.5 and 4 + 4."""
    queries = [[[math.sqrt(2), 0]], [[0, math.sqrt(2)]]]
    keys = [[[log(a), log(b)] for a, b in ((6, 1), (1, 6), (4, 4), (4, 4), (1, 1), (1, 1))]]
    two, three = (Call(f"zoo.delta_pages({n}, 1, 2)", queries, keys) for n in (2, 3))
    assert two.row(5, 0) == two.row(5, 1) == [0, 1, 4, 5]
    assert three.row(5) == [*range(6)]


def test_tidal_decode() -> None:
    call = Call("zoo.tidal_decode(2)", [[1.0, -1]], [[2.0, 7, 2, 0, 5]])
    assert [call.row(i) for i in (3, 4)] == [[0, 1], [0, 3]]


def test_longheads_pools_a_chunk_by_its_attention() -> None:
    """Chunk 1 holds 0 and 9, whose mean asks for the 9; a mean of keys would leave it behind chunk 2 of 5 and 5."""
    keys = [[0.0, 0, 0, 9, 5, 5, 0, 0, 0, 0]]
    assert Call("zoo.longheads(4, 2)", [[1.0]], keys).row(9) == [0, 1, 2, 3, 6, 7, 8, 9]
    assert Call("zoo.longheads(3, 2)", [[1.0]], keys).row(9) == [0, 1, 6, 7, 8, 9]


def test_sparsed_chooses_in_each_class_by_means() -> None:
    text = "zoo.sparsed(4, 1, 1, 2)"
    assert Call(text, [zeros(8)], [zeros(8)]).row(7) == [0, 1, 4, 5]
    assert Call(text, [ones(8)], [[0.0, 0, 1, 1, 9, 9, 8, 8]]).row(0) == [2, 3, 4, 5]
    ragged = [[*zeros(6), log(1.5)]]  # the last block is one key: more on average, less in sum
    assert Call("zoo.sparsed(2, 1, 1, 2)", [ones(7)], ragged).row(0) == [0, 1, 6]


def test_draft_attention_keeps_what_equals_the_last() -> None:
    """One of nine pairs; all are equal, or the loud queries of cell 0 take the keys of cell 1."""
    text = "zoo.draft_attention(i // 2, 0.88)"
    assert Call(text, [zeros(6)], [zeros(6)]).sees.all()
    loud = Call(text, [[9.0, 9, 0, 0, 0, 0]], [[0.0, 0, 1, 1, -1, -1]])
    assert [loud.row(i) for i in (0, 3, 5)] == [[2, 3], [], []]


def test_biformer_asks_all_heads_together() -> None:
    call = Call("zoo.biformer(i // 2, 1)", [ones(4), ones(4)], [[1.0, 1, 0, 0], [0, 0, 3, 3]])
    assert all(call.row(i, h) == [2, 3] for i in range(4) for h in (0, 1))


def test_mra_compares_rows_by_their_distance_to_the_best_of_each() -> None:
    """Logits 0, 1, 3 and 0, 2, 6: less the largest of the row -3, -2, 0 and -6, -4, 0, the third row all 0."""
    call = Call("zoo.mra(2, 1)", [[1.0, 2, 0]], [[0.0, 1, 3]])
    # Own blocks are three of six; then the zeros of (0, 2), (1, 2) and the lower one of (2, 0), (2, 1).
    assert [call.row(i) for i in range(3)] == [[0, 2], [1, 2], [0, 2]]


def test_pyramid_sparse_attention_looks_at_its_samples() -> None:
    """The first of every two keys, 0, 1, 2 and 0; the 9 and the 5 are not met."""
    text = "top(1, exact(2, q_block=2, stride=2, causal=false), among=all)"
    call = Call(text, [ones(8)], [[0.0, 9, 1, 0, 2, 0, 0, 5]])
    assert [call.row(i) for i in (0, 7)] == [[4, 5]] * 2


def test_routing_transformer() -> None:
    """Nearest by angle: the length of a centroid does not count."""
    given = {"centroids": [[[1.0, 0], [0, 9]]]}
    queries, keys = [[[5.0, 1], [1, 2], [3, 2]]], [[[0.0, 1], [1, 0], [2, 1]]]
    near = Call("clusters(centroids)", queries, keys, **given)
    assert [near.row(i) for i in range(3)] == [[1, 2], [0], [1, 2]]
    taken = Call("zoo.routing_transformer(1)", queries, keys, **given)
    assert [taken.row(i) for i in range(3)] == [[], [0], []]


def test_squeezed_attention_gives_the_share_of_one_key_of_a_cluster() -> None:
    """Shares 2 / (3 · 2 + 1 · 4) for each of three keys, 4 / 10 for the one; the last key is always there."""
    given = {"weights": [[[[0.2, 0.2, 0.2, 0.4, 0]]]]}
    calls = [
        Call(f"zoo.squeezed_attention({t}, 1)", [[1.0]], [zeros(5)], **given) for t in (0.19, 0.21, 0.41)
    ]
    assert [call.row(4) for call in calls] == [[0, 1, 2, 3, 4], [3, 4], [4]]


def test_top_theta_scales_by_the_channels() -> None:
    """Products 2, 4 and 0 over the root of 4 channels; a score that equals theta is out."""
    query = [2.0, 0, 0, 0]
    call = Call(
        "zoo.top_theta(1)",
        [[query] * 3] * 2,
        [[[1.0, 0, 0, 0], [2, 0, 0, 0], [0, 0, 0, 0]]],
        theta=[1.0, 0.9],
    )
    assert [call.row(i, h) for h in (0, 1) for i in range(3)] == [[0], [1], [1], [0], [0, 1], [0, 1]]


def test_keys_by_given_scores() -> None:
    given = [[[[5.0, 1, 4, 4]]]]
    dma = Call("zoo.dma(2, 1)", [zeros(4)], [zeros(4)], bias=given)
    assert [dma.row(i) for i in range(4)] == [[0], [0, 1], [0, 2], [0, 2]]
    sparsek = Call("zoo.sparsek(1, 1)", [zeros(4)], [zeros(4)], u=given)
    assert [sparsek.row(i) for i in range(4)] == [[0], [0, 1], [0, 2], [0, 3]]
