"""Entries that choose for a whole prompt, in calls that are worked out on paper: no other program is asked."""

from __future__ import annotations

from math import log

import pytest

from tests.zoo.on_paper.call import Call, ones, zeros


def test_moba() -> None:
    """Mean keys are 5, 2, 2 and 0."""
    keys = [[5.0, 5, 1, 3, 2, 2, 0, 0]]
    two = Call("zoo.moba(2, 2)", [ones(8), [-1.0] * 8], keys)
    assert [two.row(i) for i in (0, 3, 6)] == [[0], [0, 1, 2, 3], [0, 1, 6]]
    assert [two.row(i, 1) for i in (5, 6)] == [[2, 3, 4, 5], [2, 3, 6]]
    assert Call("zoo.moba(3, 2)", [ones(8)], keys).row(7) == [0, 1, 2, 3, 6, 7]


@pytest.mark.parametrize(
    ("tau", "rows"),
    [
        (0.25, ([0, 1, 4, 5], [2, 3, 4, 5], [4, 5])),
        (0.8, ([0, 1, 4, 5], [2, 3, 4, 5], [4, 5])),
        (0.9, ([0, 1, 2, 3, 4, 5], [2, 3, 4, 5], [2, 3, 4, 5])),
    ],
)
def test_vmoba_by_share(tau: float, rows: tuple[list[int], ...]) -> None:
    """Weights are 0, 1/4 and 1, of a sum of 5/4."""
    call = Call(f"zoo.vmoba(i // 2, {tau}, over=row)", [ones(6)], [[0.0, 0, 0, 2, 4, 4]])
    assert tuple(call.row(i) for i in (0, 2, 4)) == rows


def test_vmoba_by_number_gives_the_budget_of_a_head_to_the_loudest_query() -> None:
    """Besides own products: 15, 10, 5 of token 3; then 3 of tokens 1 and 2, where the earlier one wins."""
    text = "top(2, blocks(1), among=all, count=same(i), over=head)"
    call = Call(text, [[1.0, 1, 1, 5]], [[3.0, 2, 1, 0]])
    assert [call.row(i) for i in range(4)] == [[0], [0, 1], [2], [0, 1, 2, 3]]


def test_nsa_counts_windows_by_their_strides_in_a_block() -> None:
    """Attention is even: at the last key blocks have 7, 8 and 7 halves of windows; at key 15, 7 and 7."""
    free = Call("zoo.nsa(1, 8, 4, 2, 0, 0)", [zeros(24)], [zeros(24)])
    assert [free.row(i) for i in (15, 23)] == [[*range(8)], [*range(8, 16)]]
    forced = Call("zoo.nsa(2, 8, 4, 2, 1, 1)", [zeros(24)], [zeros(24)])
    assert forced.row(20) == [*range(8), *range(16, 21)]


def test_nsa_adds_up_the_group() -> None:
    """Alone the first head takes block 0; the second, three times as loud, takes block 1 for both."""
    text, keys = "zoo.nsa(2, 2, 2, 2, 0, 1)", [[1.0, 1, -1, -1, 0, 0]]
    both = Call(text, [ones(6), [-3.0] * 6], keys)
    assert both.row(4, 0) == both.row(4, 1) == [2, 3, 4]
    assert Call(text, [ones(6)], keys).row(4) == [0, 1, 4]


def test_nsa_compresses_the_own_block_once_it_is_complete() -> None:
    """The louder head chooses block 0, until its attention goes to the complete own block."""
    call = Call("zoo.nsa(2, 2, 2, 2, 0, 1)", [[1.5] * 6, [-1.0] * 6], [[1.0, 1, -1, -1, 5, 5]])
    assert [call.row(i) for i in (4, 5)] == [[0, 1, 4], [2, 3, 4, 5]]


def test_seer_attention() -> None:
    """The gate is the largest query times the least key: 0, 5, 0, 0, so that row 1 has 0.0067 and 0.9933."""
    gates = {"q_gate": [[[1.0], [0], [0]]], "k_gate": [[[0.0], [1], [0]]]}
    keys = [[0.0, 9, 5, 6, 0, 0, 0, 0]]
    low, high = (Call(f"zoo.seer_attention({t}, 2)", [ones(8)], keys, **gates) for t in (0.002, 0.01))
    assert [call.row(3) for call in (low, high)] == [[0, 1, 2, 3], [2, 3]]
    assert [high.row(i) for i in (4, 7)] == [[0, 1, 2, 3, 4], [*range(8)]]  # the last two blocks see all


def test_seer_decode_averages_the_group() -> None:
    """Heads of 3 and -1 ask 1: the mean key 5.5 is the best."""
    call = Call("zoo.seer_decode(1, 2, 2)", [[3.0], [-1.0]], [[0.0, 9, 5, 6, 0, 0]])
    assert call.row(5, 0) == call.row(5, 1) == [2, 3, 4, 5]


def test_xattention() -> None:
    """The even query of a cell asks the odd key; odd queries are 0."""
    text, queries = "zoo.xattention(0.5, 2, 2)", [[1.0, 0] * 4]
    assert Call(text, queries, [[0.0, 0, 0, 9, 9, 0, 0, 0]]).row(7) == [0, 1, 2, 3, 6, 7]
    assert Call(text, queries, [[0.0, 9, 0, 5, 0, 0, 0, 0]]).row(7) == [0, 1, 6, 7]
    even = Call("zoo.xattention(0.6, 2, 2)", queries, [zeros(8)])  # what is forced holds half
    assert even.row(7) == [0, 1, 2, 3, 6, 7]


def test_pbs_attn() -> None:
    """Blocks of earlier segments hold .1, .6, .2 and .1; the own segment has no share, however loud."""
    keys = [[0, 0, log(6), log(6), log(2), log(2), 0, 0, *[log(50)] * 4]]
    half, more = (Call(f"zoo.pbs_attn({p}, 2, 4)", [ones(12)], keys) for p in (0.5, 0.7))
    assert half.row(11) == [0, 1, 2, 3, 8, 9, 10, 11]
    assert more.row(11) == [0, 1, 2, 3, 4, 5, 8, 9, 10, 11]
    assert [half.row(i) for i in (1, 3, 5)] == [[0, 1], [0, 1, 2, 3], [0, 1, 2, 3, 4, 5]]


def test_proxy_attn() -> None:
    """The proxy asks 1 and ranks blocks as they come; the head of 4 needs one, the head of -2 two."""
    call = Call("zoo.proxy_attn(2, 0.9, 1, 2)", [[4.0] * 6, [-2.0] * 6], [[1.0, 1, 0, 0, -1, -1]])
    assert [call.row(i, h) for i in (3, 5) for h in (0, 1)] == [[0, 1], [0, 1, 2, 3]] * 2
    peak = Call("zoo.proxy_attn(1, 0.1, 1, 2)", [ones(6)], [[3.0, -9, 2.5, 2.5, -9, -9]])
    assert peak.row(5) == [0, 1]  # the largest weight, not the sum
    # Of every two tokens the first takes part: the 9 is not met.
    skipped = Call("zoo.proxy_attn(1, 0.1, 2, 2)", [ones(6)], [[0.0, 9, 1, 0, 0, 0]])
    assert skipped.row(5) == [2, 3]


def test_minference() -> None:
    """The last two queries meet key 2, at distances 2 and 3; the shorter row has the larger share."""
    queries, keys = [ones(6)], [[0.0, 0, 3, 0, 0, 0]]
    free = Call("zoo.minference(1, 1, 2, 0, 0)", queries, keys)
    assert [free.row(i) for i in (1, 3, 5)] == [[], [1, 2], [2, 3]]
    assert Call("zoo.minference(2, 2, 2, 1, 1)", queries, keys).row(5) == [0, 2, 3, 5]


@pytest.mark.parametrize(
    ("gamma", "rows"),
    [(0.5, [[0], [0], []]), (0.8, [[0], [0, 1], [0]]), (0.9, [[0], [0, 1], [0, 1]])],
)
def test_flex_prefill_drops_the_pair_that_crosses(gamma: float, rows: list[list[int]]) -> None:
    """Weights 1; 1/2, 1/2; 1/3, 1/3, 1/3: their sums are 1, 1 1/2, 2, 2 1/3, 2 2/3 and 3, and gamma is of 3."""
    call = Call(f"zoo.flex_prefill(1, {gamma}, 1)", [zeros(3)], [zeros(3)])
    assert [call.row(i) for i in range(3)] == rows


def test_flex_prefill_lines() -> None:
    """The last two queries ask keys 4 and 5, at distances 3, 4, 4 and 5: 3/4 are in the block of 4 and 5."""
    call = Call("zoo.flex_prefill(0, 0.7, 2)", [ones(10)], [[0.0, 0, 0, 0, 30, 30, 0, 0, 0, 0]])
    assert [call.row(i) for i in (3, 5, 7, 9)] == [
        [0, 1, 2, 3],
        [0, 1, 4, 5],
        [*range(8)],
        [0, 1, 4, 5, 8, 9],
    ]
