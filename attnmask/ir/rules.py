"""Rules by which sets are chosen at run time: how pairs of units are scored, and how many of them are taken.

A rule is data. What it means stands in `ir.chosen` (numpy, the definition) and in `lower.choose` (torch).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, assert_never

# A number, or the name of one (or of one for each head) that is given when the choice is made.
Amount = float | str

PoolName = Literal["mean", "max", "min", "first", "scaled_sum", "attention", "bounds"]
Heads = Literal["each", "concat", "group_sum", "group_mean", "group_max", "sum", "mean", "max"]
Norm = Literal["none", "softmax", "minmax", "rowmax"]
Over = Literal["row", "head", "all", "row_heads", "column"]
Reduce = Literal["sum", "mean", "max"]
Along = Literal["keys", "diagonals"]


# ---- how the vectors of a unit become one ------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Pool:
    """`scaled_sum` is the sum over the root of the number; `attention` weighs keys by their own softmax with the
    mean; `bounds` (keys alone) scores by the largest product that the unit's box allows (Quest, arXiv:2406.10774).
    """

    name: PoolName


@dataclass(frozen=True, slots=True)
class Concat:
    pools: tuple[Pooling, ...]


@dataclass(frozen=True, slots=True)
class Linear:
    """The pooled vectors times a matrix [heads or 1, in, out] (or [in, out]) that is given by this name."""

    weights: str
    pool: Pooling


Pooling = Pool | Concat | Linear


def has_bounds(pool: Pooling) -> bool:
    """Whether the pool, or a part of it, is `bounds`."""
    match pool:
        case Pool(name):
            return name == "bounds"
        case Concat(pools):
            return any(map(has_bounds, pools))
        case Linear(_, inner):
            return has_bounds(inner)
        case _:
            assert_never(pool)


# ---- how pairs of units are scored -------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Blocks:
    """The product of pooled queries and pooled keys, times `scale` (None: 1 / sqrt of their dimension).

    `proxy`: queries and keys are first averaged over so many query heads in a row (and the key heads that these
    use), which then share the score (ProxyAttn); 1 for none. `heads="concat"` sums over all heads before `norm`,
    which is one product of the heads' channels side by side; the other reductions come after it. `norm` is taken
    over candidates: softmax and rowmax (minus the row's maximum) over those of a row, minmax, (s - min) / (max -
    min), over those that compete.
    """

    pool: Pooling
    q_pool: Pooling
    scale: float | None
    heads: Heads
    norm: Norm
    proxy: int = 1


@dataclass(frozen=True, slots=True)
class Compressed:
    """Softmax over overlapping windows of mean keys, summed into units (NSA, arXiv:2502.11089).

    Windows of `kernel` keys begin at every multiple of `stride`, as long as they fit; a query sees those that end
    before it or at it. A unit gets a window's weight once for every `stride` keys that it has of it. `heads` are
    reduced last; the scores of the queries of one unit are added.
    """

    kernel: int
    stride: int
    heads: Heads


@dataclass(frozen=True, slots=True)
class Exact:
    """Scores of pairs of tokens, 1 / sqrt(D) times the product, reduced over the pairs of each pair of units.

    `causal`: only keys up to the query are seen. With softmax, pairs that are not seen have weight 0, and the mean
    is over all pairs of the units; without, sum, mean and max are over the pairs that are seen. `heads` are
    reduced first, token by token. `stride`: only every so many positions of queries and of keys, the first of
    each window, take part. `proxy` as in `Blocks`.
    """

    reduce: Reduce
    norm: Literal["none", "softmax"]
    heads: Heads
    causal: bool
    stride: int = 1
    proxy: int = 1


@dataclass(frozen=True, slots=True)
class Antidiagonal:
    """Products along the antidiagonals (or diagonals) of strided cells, softmax, then sums (XAttention,
    arXiv:2503.16428).

    Cell (R, C) holds the sum over r of q[R S + S - 1 - r] · k[C S + r] (diag: q[R S + r]), S the stride; what is
    past the end counts as zero. It is multiplied by scale / (S sqrt(D)); softmax runs over the cells of a row,
    those with C <= R where `causal`; the weights of all cells in a pair of units are added.
    """

    stride: int
    mode: Literal["anti", "diag"]
    scale: float
    causal: bool


@dataclass(frozen=True, slots=True)
class Probe:
    """The attention of the last `rows` queries of the call, added up by keys, or by diagonals (q - k).

    `causal` as in `Exact`; along diagonals only k <= q counts. `heads` are reduced first, token by token. `width`:
    the weights of keys are averaged over so many neighbours (as many on either side, where they exist). The
    weights of a unit are added. All queries share the one row of scores, and a unit is a candidate where any of
    its pairs is.
    """

    rows: int
    along: Along
    heads: Heads
    causal: bool
    width: int = 1


@dataclass(frozen=True, slots=True)
class Given:
    """Scores [batch or 1, heads or 1, query units or 1, key units] that are given by this name."""

    name: str


ScoreMap = Blocks | Compressed | Exact | Antidiagonal | Probe | Given


def along_diagonals(score: ScoreMap) -> bool:
    """Whether its units of keys are units of distances q - k."""
    return isinstance(score, Probe) and score.along == "diagonals"


# ---- how many are taken ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Top:
    """The best ones; ties go to the lower unit. `over` tells which compete: those of a row, of all rows of a head,
    of all heads too, of all heads in one row; or, in `column`, the rows for a unit of keys.

    `amount` is the number for each row (in `column`: for each unit of keys), and is added up over the rows that
    compete. `ratio` r takes floor(r n) of n units that compete, `ratio_causal` floor((1 - sqrt(1 - r)) n), which
    leaves 1 - r of a causal triangle; both at least 1, and up to 1e-9 more, which floats lose.
    """

    amount: Amount | Counted
    of: Literal["number", "ratio", "ratio_causal"]
    over: Over


@dataclass(frozen=True, slots=True)
class TopP:
    """The best ones until they hold the share `p` of the sum of candidates and counted units.

    Counted units come first, then the others in descending order (ties: the lower unit); one is taken while those
    before it hold less than the share, or with crossing="drop" while those up to it hold no more, both up to what
    floats lose (1e-6 of the sum; 1e-9 in float64). p = 1 takes all candidates. At least `least` and at most `most`
    are taken, counted ones included.
    """

    p: Amount
    over: Over
    crossing: Literal["keep", "drop"]
    least: int
    most: int | None


@dataclass(frozen=True, slots=True)
class Above:
    """Scores above a threshold. `quantile`: instead the best max(1, floor((1 - t) n)) of n candidates that compete,
    and those that equal the last of them.
    """

    threshold: Amount
    quantile: bool
    over: Over


Selector = Top | TopP | Above


@dataclass(frozen=True, slots=True)
class Counted:
    """As many as this rule would take in each row, in the same units, with all of them as candidates."""

    rule: Selected


@dataclass(frozen=True, slots=True)
class Selected:
    selector: Selector
    score: ScoreMap


@dataclass(frozen=True, slots=True)
class Clusters:
    """Query and key belong to one cluster: to the nearest of `centroids` [heads, key heads or 1, clusters, D] by
    cosine.

    `members`: instead, every cluster takes its so many nearest queries and keys (Routing Transformer,
    arXiv:2003.05997).
    """

    centroids: str
    members: int | None


@dataclass(frozen=True, slots=True)
class Spans:
    """The keys around every unit that is chosen: from `back` positions before its first to `ahead` past its last.

    `chosen` takes a number that is known beforehand in each row. `back` and `ahead` are numbers from 0, or names of
    arrays that are given and broadcast to [batch, heads, queries]. What is a candidate says where spans may begin,
    and not how far they reach (superlinear attention: spans around anchors).
    """

    chosen: Selected
    back: Amount
    ahead: Amount


Rule = Selected | Clusters | Spans
