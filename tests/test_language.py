"""Names, definitions, tables, settings, the standard library and scores, each against plain loops."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

import attnmask as am
from attnmask.errors import MaskError
from attnmask.ir.domain import Domain
from attnmask.ir.evaluate import evaluate
from attnmask.ir.prelude import prelude
from tests.syntax.loops import BATCH, HEADS, Element, Pair, means, means_each

DOC = [0, 0, 0, 1, 1, 2, 2, 2, 2, 3, 3, 0]
IS_WORD = [True, False, True, True, False, False, True, False, True, True, False, True]
NODE = [0, 2, 1, 1, 0, 2, 2, 0, 1, 0, 2, 1]
ADJ = [[1, 0, 1], [0, 0, 1], [1, 1, 0]]
ROWS = [DOC, NODE]  # [B, N]
HEADWISE = [DOC, NODE, [i // 5 for i in range(12)]]  # [H, N]

# ---- the standard library --------------------------------------------------------------------------------

LIBRARY: dict[str, dict[str, Pair]] = {
    "all": {"all": lambda q, k: True},
    "none": {"none": lambda q, k: False},
    "causal": {"causal": lambda q, k: k <= q},
    "diagonal": {"diagonal": lambda q, k: k == q},
    "window": {
        "window(3)": lambda q, k: -3 < q - k < 3,
        "window(n=1)": lambda q, k: q == k,
        "window(0)": lambda q, k: False,
        "window(2, of=i // 2)": lambda q, k: abs(q // 2 - k // 2) < 2,
        "window(2, i % 4)": lambda q, k: abs(q % 4 - k % 4) < 2,
        "window(of=-i, n=2)": lambda q, k: abs(q - k) < 2,
    },
    "recent": {
        "recent(3)": lambda q, k: 0 <= q - k < 3,
        "recent(2, of=i // 3)": lambda q, k: 0 <= q // 3 - k // 3 < 2,
    },
    "band": {"band(-1, 2)": lambda q, k: -1 <= q - k <= 2, "band(hi=2, lo=2)": lambda q, k: q - k == 2},
    "sink": {"sink(2)": lambda q, k: k < 2, "sink(0)": lambda q, k: False},
    "prefix": {"prefix(3)": lambda q, k: k <= q or k < 3},
    "rows": {
        "rows(i in 2:5)": lambda q, k: 2 <= q < 5,
        "rows(i % 3 == 0 & i > 2)": lambda q, k: q in (3, 6, 9),
        "rows(not i < 4)": lambda q, k: q >= 4,
    },
    "cols": {"cols(i in 2:5)": lambda q, k: 2 <= k < 5, "cols(i == 1 | i == 3)": lambda q, k: k in (1, 3)},
    "global": {"global(i < 2)": lambda q, k: q < 2 or k < 2},
    "same": {
        "same(i)": lambda q, k: q == k,
        "same(i // 4)": lambda q, k: q // 4 == k // 4,
        "same(abs(i - 4))": lambda q, k: abs(q - 4) == abs(k - 4),
        "same(where(i < 4, 0, i))": lambda q, k: (0 if q < 4 else q) == (0 if k < 4 else k),
    },
    "before": {
        "before(i // 2)": lambda q, k: k // 2 <= q // 2,
        "before(i // 2, strict=false)": lambda q, k: k // 2 <= q // 2,
        "before(i // 2, strict=true)": lambda q, k: k // 2 < q // 2,
        "before(i // 2, true)": lambda q, k: k // 2 < q // 2,
    },
    "chunk": {"chunk(4)": lambda q, k: q // 4 == k // 4, "chunk(1)": lambda q, k: q == k},
    "dilated": {
        "dilated(2, 3)": lambda q, k: abs(q - k) < 6 and (q - k) % 3 == 0,
        "dilated(3, 1)": lambda q, k: abs(q - k) < 3,
    },
    "strided": {"strided(3)": lambda q, k: (q - k) % 3 == 0},
    "clip": {
        "clip(q - k, -1, 2) == 2": lambda q, k: q - k >= 2,
        "clip(q - k, -1, 2) == 0": lambda q, k: q == k,
        "clip(q - k, -1, 2) == -1": lambda q, k: q < k,
    },
}
# Depend on K, on the head, on the score: below; on q and k: tests/lower/choose.
CHOOSING = {"topk_blocks", "topp_blocks", "threshold_blocks", "gate", "topk_tokens", "vertical_slash"}
ELSEWHERE = {"tail", "heads", "softcap"} | CHOOSING


@pytest.mark.parametrize("text", [text for texts in LIBRARY.values() for text in texts])
def test_library(text: str) -> None:
    means(text, next(texts[text] for texts in LIBRARY.values() if text in texts))


def test_the_whole_library_is_tested() -> None:
    assert LIBRARY.keys() | ELSEWHERE == prelude().keys()


# What the lengths of the call mean: (q, k, Q, K).
LENGTHS: dict[str, Element] = {
    "tail(2)": lambda q, k, q_len, kv_len: k >= kv_len - 2,
    "k == K - 1": lambda q, k, q_len, kv_len: k == kv_len - 1,
    "q < Q": lambda q, k, q_len, kv_len: q < q_len,
    "K - k <= Q - q": lambda q, k, q_len, kv_len: kv_len - k <= q_len - q,
    "q in Q // 2:": lambda q, k, q_len, kv_len: q >= q_len // 2,
}


@pytest.mark.parametrize(("q_len", "kv_len", "offset"), [(1, 1, 0), (5, 9, 0), (9, 5, 3)])
@pytest.mark.parametrize("text", LENGTHS)
def test_lengths(text: str, q_len: int, kv_len: int, offset: int) -> None:
    found = am.compile(text).dense(q_len, kv_len, q_offset=offset)
    rows = range(offset, offset + q_len)
    assert found.tolist() == [[LENGTHS[text](q, k, q_len, kv_len) for k in range(kv_len)] for q in rows]


EACH: dict[str, Element] = {
    "heads(:2)": lambda b, h, q, k: h < 2,
    "heads(1:)": lambda b, h, q, k: h >= 1,
    "heads(1:2)": lambda b, h, q, k: h == 1,
    "heads(:)": lambda b, h, q, k: True,
    "heads(2)": lambda b, h, q, k: h == 2,
    "heads(:1) & causal | heads(1:) & window(2)": lambda b, h, q, k: k <= q if h < 1 else abs(q - k) < 2,
    "h % 2 == 0 & b == 1": lambda b, h, q, k: h % 2 == 0 and b == 1,
    "q - k < h + 1 & k <= q": lambda b, h, q, k: 0 <= q - k < h + 1,
    "h < H - 1 ^ b == B - 1": lambda b, h, q, k: (h < HEADS - 1) != (b == BATCH - 1),
    "same(i // (h + 1))": lambda b, h, q, k: q // (h + 1) == k // (h + 1),
}


@pytest.mark.parametrize("text", EACH)
def test_heads_and_batch_rows(text: str) -> None:
    means_each(text, EACH[text])


# ---- let, def, defaults, named arguments, token functions --------------------------------------------------

DEFINED: dict[str, Pair] = {
    "let n = 3; let near = window(n)\nnear & causal": lambda q, k: 0 <= q - k < 3,
    "let n = 3; let n = n + 1; sink(n)": lambda q, k: k < 4,
    "let causal = k < q\ncausal": lambda q, k: k < q,
    "let causal = none\nprefix(2)": lambda q, k: k <= q or k < 2,
    "def near(n) = window(n) & causal\nnear(2) | near(n=3) & sink(1)": lambda q, k: (
        0 <= q - k < (3 if k < 1 else 2)
    ),
    "def near(n=2, m=1) = recent(n) | sink(m)\nnear()": lambda q, k: 0 <= q - k < 2 or k < 1,
    "def near(n=2, m=1) = recent(n) | sink(m)\nnear(3)": lambda q, k: 0 <= q - k < 3 or k < 1,
    "def near(n=2, m=1) = recent(n) | sink(m)\nnear(m=3)": lambda q, k: 0 <= q - k < 2 or k < 3,
    "def near(n=2, m=1) = recent(n) | sink(m)\nnear(m=3, n=1)": lambda q, k: q == k or k < 3,
    "def past() = k < q\npast & past()": lambda q, k: k < q,
    "def both(a, b2) = a & ~b2\nboth(causal, sink(2))": lambda q, k: k <= q and k >= 2,
    "def inner(n) = sink(n)\ndef outer(n) = inner(n + 1) - inner(n)\nouter(2)": lambda q, k: k == 2,
    "let n = 2\ndef f(m) = sink(n + m)\nlet n = 5\nf(1)": lambda q, k: k < 3,
    "def f(r) = k in r\nf(:2) | f(4:6) | f(8:)": lambda q, k: k < 2 or 4 <= k < 6 or k >= 8,
    "def f(x) = x(3)\nf(window)": lambda q, k: abs(q - k) < 3,
    # token functions
    "let half = i // 2\nsame(half)": lambda q, k: q // 2 == k // 2,
    "let half = i // 2\nhalf(q) == half(k) + 1": lambda q, k: q // 2 == k // 2 + 1,
    "let half = i // 2\nhalf(q + k) == 3": lambda q, k: (q + k) // 2 == 3,
    "let half = i // 2\nlet quarter = half // 2\nsame(quarter + half)": lambda q, k: q // 2 == k // 2,
    "let half = i // 2\nwindow(2, of=half + 1)": lambda q, k: abs(q // 2 - k // 2) < 2,
    "let small = i < 4\nsmall(q) & ~small(k)": lambda q, k: q < 4 <= k,
    "let small = i < 4\nrows(small & i % 2 == 0)": lambda q, k: q in (0, 2),
    "def half(x) = x // 2\nsame(half)": lambda q, k: q // 2 == k // 2,
    "def part(x, n=3) = x // n\nsame(part)": lambda q, k: q // 3 == k // 3,
    "def part(n, of=i) = of // n\nsame(part(2))": lambda q, k: q // 2 == k // 2,
    "def part(n, of=i) = of // n\nsame(part(2, of=i + 1))": lambda q, k: (q + 1) // 2 == (k + 1) // 2,
    "def part() = i // 2\nsame(part)": lambda q, k: q // 2 == k // 2,
    "def part() = i // 2\nsame(part() + 1)": lambda q, k: q // 2 == k // 2,
    "def group(f, n) = same(f // n)\ngroup(i, 4)": lambda q, k: q // 4 == k // 4,
    "def group(f) = window(2, of=f)\ngroup(i // 2)": lambda q, k: abs(q // 2 - k // 2) < 2,
    "def outer(f) = same(f) & before(f)\nouter(i % 3)": lambda q, k: q % 3 == k % 3,
    "def twice(f) = f(f(q)) == f(f(k))\ntwice(i // 2)": lambda q, k: q // 4 == k // 4,
    "def at(f, n) = f(q - n)\nat(i // 2, 1) == 1": lambda q, k: (q - 1) // 2 == 1,
    "def step(x) = where(x < 4, 0, 1)\nsame(step(i))": lambda q, k: (q < 4) == (k < 4),
    "rows(i in 2:5) & cols(i in :3)": lambda q, k: 2 <= q < 5 and k < 3,
    "rows(i + where(same(i // 4), 1, 0) > 4)": lambda q, k: q + (q // 4 == k // 4) > 4,
    "same(i // 2 + k)": lambda q, k: q // 2 == k // 2,
}


@pytest.mark.parametrize("text", DEFINED)
def test_definitions(text: str) -> None:
    means(text, DEFINED[text])


# ---- tables and settings -----------------------------------------------------------------------------------

TABLED: dict[str, Pair] = {
    "same(doc)": lambda q, k: DOC[q] == DOC[k],
    "doc[q] == doc[k]": lambda q, k: DOC[q] == DOC[k],
    "causal & same(doc)": lambda q, k: k <= q and DOC[q] == DOC[k],
    "same(doc[i])": lambda q, k: DOC[q] == DOC[k],
    "same(doc[i] // 2)": lambda q, k: DOC[q] // 2 == DOC[k] // 2,
    "same(doc[i // 2])": lambda q, k: DOC[q // 2] == DOC[k // 2],
    "before(doc)": lambda q, k: DOC[k] <= DOC[q],
    "before(doc, strict=true)": lambda q, k: DOC[k] < DOC[q],
    "recent(2, of=doc)": lambda q, k: 0 <= DOC[q] - DOC[k] < 2,
    "let mine = doc\nsame(mine)": lambda q, k: DOC[q] == DOC[k],
    "def own(f) = same(f)\nown(doc)": lambda q, k: DOC[q] == DOC[k],
    "def own(f) = f(q) == f(k)\nown(doc)": lambda q, k: DOC[q] == DOC[k],
    "rows(doc[i] == 2)": lambda q, k: DOC[q] == 2,
    "doc[doc[q]] == 0": lambda q, k: DOC[DOC[q]] == 0,
    "doc[2] == doc[k]": lambda q, k: DOC[2] == DOC[k],
    "doc[min(q + 1, 11)] == doc[k]": lambda q, k: DOC[min(q + 1, 11)] == DOC[k],
    "word[q] & word[k]": lambda q, k: IS_WORD[q] and IS_WORD[k],
    "rows(word) | ~cols(word)": lambda q, k: IS_WORD[q] or not IS_WORD[k],
    "global(word) ^ causal": lambda q, k: (IS_WORD[q] or IS_WORD[k]) != (k <= q),
    "same(word)": lambda q, k: IS_WORD[q] == IS_WORD[k],
    "word[q] + word[k] == 2": lambda q, k: IS_WORD[q] + IS_WORD[k] == 2,
    "where(word[q], q, k) == 4": lambda q, k: (q if IS_WORD[q] else k) == 4,
    "adj[node[q], node[k]] == 1": lambda q, k: ADJ[NODE[q]][NODE[k]] == 1,
    "causal & adj[node[q], node[k]] != 0": lambda q, k: k <= q and ADJ[NODE[q]][NODE[k]] != 0,
    "link[node[q], node[k]]": lambda q, k: bool(ADJ[NODE[q]][NODE[k]]),
    "q - k < n & causal": lambda q, k: k <= q and q - k < 3,
    "window(n) - sink(n - 2)": lambda q, k: abs(q - k) < 3 and k >= 1,
    "same(i // n)": lambda q, k: q // 3 == k // 3,
    "k in n:n + 2": lambda q, k: 3 <= k < 5,
    "layer % 2 == 0 & causal | layer % 2 == 1 & window(2)": lambda q, k: abs(q - k) < 2,
}
VALUES: dict[str, object] = {
    "doc": DOC,
    "word": IS_WORD,
    "node": NODE,
    "adj": ADJ,
    "link": np.array(ADJ, dtype=bool),
    "n": 3,
    "layer": 7,
}


@pytest.mark.parametrize("text", TABLED)
def test_tables_and_settings(text: str) -> None:
    needed = {name: VALUES[name] for name in am.compile(text).unbound}
    assert needed
    means(text, TABLED[text], **needed)


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"])
def test_integer_tables_of_every_width(dtype: str) -> None:
    means("doc[q] - doc[k] < 0", lambda q, k: DOC[q] < DOC[k], doc=np.array(DOC, dtype=dtype))
    means("100 * doc[q] > 250", lambda q, k: DOC[q] > 2, doc=np.array(DOC, dtype=dtype))


BATCHED: dict[str, Element] = {
    "same(t)": lambda b, h, q, k: ROWS[b][q] == ROWS[b][k],
    "t[q] == t[k]": lambda b, h, q, k: ROWS[b][q] == ROWS[b][k],
    "t[b, q] == t[b, k]": lambda b, h, q, k: ROWS[b][q] == ROWS[b][k],
    "t[B - 1, q] == t[0, k]": lambda b, h, q, k: ROWS[1][q] == ROWS[0][k],
    "rows(t[i] == 1) & causal": lambda b, h, q, k: ROWS[b][q] == 1 and k <= q,
}
HEADED: dict[str, Element] = {
    "same(t[h, i])": lambda b, h, q, k: HEADWISE[h][q] == HEADWISE[h][k],
    "t[h, q] == t[h, k]": lambda b, h, q, k: HEADWISE[h][q] == HEADWISE[h][k],
    "t[H - 1 - h, q] == 1": lambda b, h, q, k: HEADWISE[2 - h][q] == 1,
}


@pytest.mark.parametrize("text", BATCHED)
def test_tables_of_each_batch_row(text: str) -> None:
    means_each(text, BATCHED[text], t=ROWS)


@pytest.mark.parametrize("text", HEADED)
def test_tables_of_each_head(text: str) -> None:
    means_each(text, HEADED[text], t=HEADWISE)


def test_a_number_for_each_head() -> None:
    means_each("causal & q - k < n[h]", lambda b, h, q, k: 0 <= q - k < (1, 3, 5)[h], n=[1, 3, 5])


def test_a_table_of_pairs_for_each_batch_row() -> None:
    pairs = np.arange(2 * 12 * 12).reshape(2, 12, 12) % 5
    means_each("t[q, k] > 2", lambda b, h, q, k: pairs[b, q, k] > 2, t=pairs)
    means_each("t[q, k]", lambda b, h, q, k: pairs[b, q, k] > 2, t=pairs > 2)


# ---- scores ------------------------------------------------------------------------------------------------

BIAS = [0.5 * i - 2 for i in range(12)]
SLOPE = [0.5, 0.25, 0.125]
SCORES: dict[str, Callable[[float, int, int, int], float]] = {
    "softcap(30)": lambda s, h, q, k: 30 * math.tanh(s / 30),
    "softcap(c=2)": lambda s, h, q, k: 2 * math.tanh(s / 2),
    "softcap(1.5)": lambda s, h, q, k: 1.5 * math.tanh(s / 1.5),
    "s": lambda s, h, q, k: s,
    "2 + 0 * s": lambda s, h, q, k: 2,
    "s * 2 + 1": lambda s, h, q, k: s * 2 + 1,
    "1 - s / 4": lambda s, h, q, k: 1 - s / 4,
    "1 - s - 2": lambda s, h, q, k: 1 - s - 2,
    "8 / s / 2": lambda s, h, q, k: 8 / s / 2,
    "-s * -2": lambda s, h, q, k: s * 2,
    "s * 1/2": lambda s, h, q, k: s / 2,
    "s * 1.0 / 3": lambda s, h, q, k: s / 3,
    "s - 0.5 * abs(q - k)": lambda s, h, q, k: s - 0.5 * abs(q - k),
    "s + (q - k) // 2": lambda s, h, q, k: s + (q - k) // 2,
    "s + q - 2 * k": lambda s, h, q, k: s + q - 2 * k,
    "s * 2, s + 1": lambda s, h, q, k: s * 2 + 1,
    "s + 1, s * 2": lambda s, h, q, k: (s + 1) * 2,
    "softcap(4), s * s, -s": lambda s, h, q, k: -((4 * math.tanh(s / 4)) ** 2),
    "exp(s)": lambda s, h, q, k: math.exp(s),
    "log(exp(s) + 1)": lambda s, h, q, k: math.log(math.exp(s) + 1),
    "tanh(q - k) + 0 * s": lambda s, h, q, k: math.tanh(q - k),
    "where(k < q, s, 0.5)": lambda s, h, q, k: s if k < q else 0.5,
    "where(k < q, s, q - k)": lambda s, h, q, k: s if k < q else q - k,
    "where(causal & sink(2), 2 * s, -s)": lambda s, h, q, k: 2 * s if k <= q and k < 2 else -s,
    "where(q < 3, 1, 2) * s": lambda s, h, q, k: (1 if q < 3 else 2) * s,
    "s + bias[k]": lambda s, h, q, k: s + BIAS[k],
    "s - 2 * bias[q]": lambda s, h, q, k: s - 2 * BIAS[q],
    "s + bias[k] - bias[q]": lambda s, h, q, k: s + BIAS[k] - BIAS[q],
    "bias[k] * bias[q] + s": lambda s, h, q, k: BIAS[k] * BIAS[q] + s,
    "where(k < q, bias[k], s)": lambda s, h, q, k: BIAS[k] if k < q else s,
    "s - slope[h] * (q - k)": lambda s, h, q, k: s - SLOPE[h] * (q - k),
    "s * scale": lambda s, h, q, k: s * 0.75,
    "s + doc[q]": lambda s, h, q, k: s + DOC[q],
    "s + where(same(doc), 1, 0)": lambda s, h, q, k: s + (DOC[q] == DOC[k]),
}
SCORE_VALUES: dict[str, object] = {"bias": BIAS, "slope": SLOPE, "scale": 0.75, "doc": DOC}


@pytest.mark.parametrize("entries", SCORES)
def test_scores(entries: str) -> None:
    mask = am.compile(f"causal with {entries}")
    mask = mask.bind(**{name: SCORE_VALUES[name] for name in mask.unbound})
    assert mask.score is not None
    q_len, kv_len = 5, 7
    given = np.random.default_rng(3).normal(size=(1, HEADS, q_len, kv_len)) * 3
    tables = {name: data.array for name, data in mask.tables}
    found = evaluate(mask.score, Domain(q_len, kv_len, heads=HEADS).arrays(), tables, given)
    expected = [
        [[SCORES[entries](float(given[0, h, q, k]), h, q, k) for k in range(kv_len)] for q in range(q_len)]
        for h in range(HEADS)
    ]
    np.testing.assert_allclose(np.broadcast_to(found, given.shape)[0], expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "text",
    [
        "let m = causal with s * 2\nm with s + 1",
        "def m(c) = causal with s * c\nm(2) with s + 1",
        "def plus(m, c) = m with s * 2, s + c\nplus(causal, 1)",
        "def twice(x) = x * 2\ncausal with twice(s), s + 1",
        "let twice = s * 2\ncausal with twice, s + 1",
    ],
)
def test_scores_in_definitions(text: str) -> None:
    assert am.compile(text) == am.compile("causal with s * 2, s + 1")


def test_scores_leave_the_mask_alone() -> None:
    means("causal with softcap(30), s + bias[q]", lambda q, k: k <= q, bias=BIAS)


def test_a_float_table_has_no_meaning_in_a_mask() -> None:
    for text in ("bias[q] < 3", "same(bias)", "causal with s + bias[q] // 2"):
        with pytest.raises(MaskError, match="'bias' holds floats"):
            am.compile(text, bias=BIAS)
