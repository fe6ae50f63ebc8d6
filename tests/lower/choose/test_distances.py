"""Single keys at a few distances are chosen without scores of all pairs: against the definition, and in time."""

from __future__ import annotations

import random
import time

import numpy as np
import pytest
import torch

import attnmask as am
from attnmask.lower.choose import evaluate, scores
from attnmask.lower.choose.distances import few_distances
from tests.lower.choose.random_choices import Drawn
from tests.lower.choose.test_definition import compare

AMONG = (
    "(q - k) % 16 == 3",
    "causal & (q - k) % 16 == 0",
    "abs(q - k) < 2",
    "q - k == 3 | k - q == 5",
    "causal & abs(q - k - 7) < 2",
    "none",
    "k - q == 300",
)


def draw(seed: int) -> Drawn:
    r, n = random.Random(seed), np.random.default_rng(seed)
    batch, kv_heads, group = r.choice([1, 2]), r.choice([1, 2]), r.choice([1, 3])
    heads, q_len, kv_len = kv_heads * group, r.choice([1, 9, 40]), r.choice([30, 41, 64])
    how = r.choice(["each", "each", "group_sum", "max", "concat"])
    score = f"blocks(1, pool=max, q_block=1, q_pool=first, heads={how}{{norm}})"
    among = r.choice(AMONG)
    selector = r.choice(
        [
            "top({n}, {plain}{among})",
            "top(n, {plain}{among})",
            "top_p(0.6, {soft}{among}{least})",
            "above(0, {plain}{among})",
            "above(0.4, {plain}, quantile=true{among})",
            "spans(top({n}, {plain}{among}), back=2, ahead=1)",
            "top({n}, {minus}{among})",
        ]
    )
    text = selector.format(
        n=r.choice([1, 2, 9]),
        plain=score.format(norm=""),
        soft=score.format(norm=", norm=softmax"),
        minus=score.format(norm=", norm=rowmax"),
        among=f", among={among}",
        least=r.choice(["", ", least=2", ", most=1"]),
    )
    text = r.choice(["{}", "causal & ({})", "~({})", "sink(1) | ({})"]).format(text)
    shapes = (batch, heads, q_len, 4), (batch, kv_heads, kv_len, 4)
    q, k = (
        n.standard_normal(shape) if "softmax" in text else n.integers(-2, 3, shape).astype(float)
        for shape in shapes
    )
    given = {"n": r.choice([1, 3])} if "top(n" in text else {}
    return Drawn(text, q, k, r.choice([0, 0, 3, 8]), given, {}, r.choice([(4, 4), (16, 16), (5, 7)]))


@pytest.mark.parametrize("part", range(4))
def test_keys_at_few_distances(part: int, monkeypatch: pytest.MonkeyPatch) -> None:
    taken = []

    def few(*args: object) -> list[int] | None:
        found = few_distances(*args)  # type: ignore[arg-type]  # as they came
        taken.append(found is not None)
        return found

    monkeypatch.setattr(evaluate, "few_distances", few)
    for seed in range(part * 50, part * 50 + 50):
        assert compare(draw(seed))
    assert sum(taken) > 0.9 * len(taken)


@pytest.mark.parametrize(
    "among", ["causal", "(q - k) % 4 == 0", "q - k == 3 & k > 2", "q - k == 3 & k != K - 4", "q - k == h"]
)
def test_others_are_scored_as_ever(among: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scores, "products_at", None)
    n = np.random.default_rng(0)
    q, k = (n.integers(-2, 3, (1, heads, 40, 4)).astype(float) for heads in (2, 1))
    assert compare(Drawn(f"top(2, blocks(1), among={among})", q, k, 0, {}, {}, (8, 8)))


def test_anchors_of_long_texts_take_little_time() -> None:
    """All pairs would be 1 billion scores for each head."""
    q, k = torch.randn(1, 2, 32768, 16), torch.randn(1, 1, 32768, 16)
    mask = am.zoo.superlinear(3, window=255)
    reach = torch.arange(1, 32769).sqrt().ceil()
    started = time.perf_counter()
    choices = mask.choose(q, k, back=reach, ahead=reach)
    assert time.perf_counter() - started < 20
    assert choices.nbytes == 3 * 2 * 32768 * 3 * 4
    (choice,) = choices.sets
    anchors = 181 - 15  # square distances up to the length, and those in the window
    assert choices.units(choice) == (32768, anchors)
