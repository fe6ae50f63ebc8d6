"""What choosing takes: the multiplications and additions of a rule's score map."""

from __future__ import annotations

from typing import assert_never

from attnmask.ir.rules import (
    Antidiagonal,
    Blocks,
    Clusters,
    Compressed,
    Concat,
    Counted,
    Exact,
    Given,
    Linear,
    Pool,
    Pooling,
    Probe,
    Rule,
    ScoreMap,
    Selected,
    Spans,
    Top,
)


def estimator_flops(
    rule: Rule, *, batch: int, heads: int, q_len: int, kv_len: int, head_dim: int, units: tuple[int, int]
) -> int:
    """FLOPs of the products that a rule scores by; `units`: how many there are of queries and of keys.

    Pooling, softmax and selection are left out: they read what is there a few times.
    """
    planes = batch * heads
    if isinstance(rule, Clusters):
        return 2 * planes * (q_len + kv_len) * head_dim * units[1]
    if isinstance(rule, Spans):
        rule = rule.chosen
    total = _score_flops(rule.score, planes, q_len, kv_len, head_dim, units)
    match rule:
        case Selected(Top(Counted(inner)), _):
            total += _score_flops(inner.score, planes, q_len, kv_len, head_dim, units)
    return total


def _score_flops(
    score: ScoreMap, planes: int, q_len: int, kv_len: int, head_dim: int, units: tuple[int, int]
) -> int:
    match score:
        case Blocks(pool, _, _, _, _, proxy):
            return 2 * (planes // proxy) * units[0] * units[1] * head_dim * _channels(pool)
        case Compressed(kernel, stride, _):
            return 2 * planes * q_len * max((kv_len - kernel) // stride + 1, 0) * head_dim
        case Exact(_, _, _, _, stride, proxy):
            return 2 * (planes // proxy) * -(-q_len // stride) * -(-kv_len // stride) * head_dim
        case Antidiagonal(stride, _, _, _):
            return 2 * planes * -(-q_len // stride) * -(-kv_len // stride) * head_dim * stride
        case Probe(rows, _, _, _, _):
            return 2 * planes * min(rows, q_len) * kv_len * head_dim
        case Given():
            return 0
        case _:
            assert_never(score)


def _channels(pool: Pooling) -> int:
    """How many times as many channels as the vectors have; learned ones are taken for one."""
    match pool:
        case Pool(name):
            return 2 if name == "bounds" else 1
        case Concat(pools):
            return sum(map(_channels, pools))
        case Linear():
            return 1
        case _:
            assert_never(pool)
