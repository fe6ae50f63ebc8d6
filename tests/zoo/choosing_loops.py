"""The systems of `choosing_prefill_loops` once more, in the steps that their authors publish.

There, sets are put together from what is always seen and the best of the rest. Here, gates are filled with plus and
minus infinity, whatever is largest is taken, and what lies ahead is dropped, so that neither form leans on the other.
Every function answers for one batch row, and takes its arguments in the order of the entry.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from tests.zoo.choosing_row import Row, Sets, Vector, dot, mean, softmax

INF = math.inf
Gate = Mapping[Any, float]


def descending(gate: Gate) -> list[Any]:
    """Largest first; of equal ones the lower first."""
    return sorted(sorted(gate), key=lambda place: gate[place], reverse=True)


def top(gate: Gate, n: int) -> set[Any]:
    return set(descending(gate)[:n])


def until(weights: Gate, need: float) -> list[Any]:
    """The shortest prefix, in descending order, with a running sum of at least `need`; all where none has it."""
    taken, held = [], 0.0
    for place in descending(weights):
        taken.append(place)
        held += weights[place]
        if held >= need:
            break
    return taken


def cut(length: int, size: int) -> list[range]:
    """Blocks of a sequence, the last of which may be shorter."""
    return [range(start, min(start + size, length)) for start in range(0, length, size)]


def parted(row: Row, size: int) -> dict[int, list[int]]:
    """The queries of each block that has any."""
    blocks = {r: [p for p in at if p in row.positions] for r, at in enumerate(cut(row.positions.stop, size))}
    return {r: at for r, at in blocks.items() if at}


def mean_keys(row: Row, h: int, units: Iterable[Iterable[int]]) -> list[list[float]]:
    return [mean(row.key(h, j) for j in unit) for unit in units]


def pooled_softmax(row: Row, h: int, queries: Iterable[int], units: Sequence[Iterable[int]]) -> list[float]:
    """One mean query against mean keys."""
    query = mean(row.query(h, p) for p in queries)
    return softmax([dot(query, key) / math.sqrt(len(query)) for key in mean_keys(row, h, units)])


def moba(row: Row, n: int, block: int) -> Sets:
    """A gate for each block: infinite for the own one, minus infinity before a block has ended."""
    chosen = {}
    for h in range(row.heads):
        keys = mean_keys(row, h, cut(row.n_keys, block))
        for p in row.positions:
            gate = {
                J: dot(row.query(h, p), key) if p >= (J + 1) * block else -INF for J, key in enumerate(keys)
            }
            gate[p // block] = INF
            chosen[h, p] = top(gate, n)
    return row.sets(lambda h, p, j: j // block in chosen[h, p] and j <= p)


def vmoba(row: Row, cell: Callable[[int], int], tau: float, over: str) -> Sets:
    """What is left of the share once own cells are counted is filled from the others.

    Where nothing is left, the authors' search for the first sum of at least zero still takes one cell more; here, as
    in the entry, none. Where all gates are equal they divide zero by zero; here own cells alone.
    """
    cells = sorted({cell(j) for j in range(row.n_keys)})
    gates: dict[tuple[int, ...], dict[tuple[int, int, int], float]] = {}
    for h in range(row.heads):
        keys = mean_keys(row, h, ([j for j in range(row.n_keys) if cell(j) == c] for c in cells))
        for p in row.positions:
            scope = {"row": (h, p), "head": (h,), "all": ()}[over]
            for c, key in zip(cells, keys, strict=True):
                gates.setdefault(scope, {})[h, p, c] = dot(row.query(h, p), key)
    chosen: set[tuple[int, int, int]] = set()
    for gate in gates.values():
        own = {place for place in gate if place[2] == cell(place[1])}
        low, high = min(gate.values()), max(gate.values())
        weight = {place: (g - low) / (high - low) if high > low else 0.0 for place, g in gate.items()}
        total = sum(weight.values())
        others = {place: w for place, w in weight.items() if place not in own}
        need = tau * total - sum(weight[place] for place in own)
        chosen |= own
        if tau >= 1:
            chosen |= set(others)
        elif need > 0:
            chosen |= set(until(others, need))
    return row.sets(lambda h, p, j: (h, p, cell(j)) in chosen)


def nsa(row: Row, n: int, block: int, kernel: int, stride: int, init: int, local: int) -> Sets:
    """Scores of blocks are windows times the number of strides that a window and a block have in common."""
    windows = [range(start, start + kernel) for start in range(0, row.n_keys - kernel + 1, stride)]
    blocks = cut(row.n_keys, block)
    chosen = {}
    for heads in row.groups():
        for p in row.positions:
            scores = dict.fromkeys(range(len(blocks)), 0.0)
            for h in heads:
                seen = [window for window in windows if window[-1] <= p]
                query = row.query(h, p)
                logits = [dot(query, key) / math.sqrt(len(query)) for key in mean_keys(row, h, seen)]
                for window, weight in zip(seen, softmax(logits) if seen else [], strict=True):
                    for J in scores:
                        common = [j for j in window if j // block == J]
                        scores[J] += len(common) // stride * weight
            for J in scores:
                if init > J or p // block - local < J <= p // block:
                    scores[J] = INF
            for h in heads:
                chosen[h, p] = top(scores, n)
    return row.sets(lambda h, p, j: j // block in chosen[h, p] and j <= p)


def gate_vector(vectors: list[Vector], matrix: Sequence[Vector]) -> list[float]:
    """Maximum, minimum and mean of each channel, times a matrix [3 D, channels]."""
    dims = range(len(vectors[0]))
    pooled = [max(v[d] for v in vectors) for d in dims] + [min(v[d] for v in vectors) for d in dims]
    pooled += mean(vectors)
    return [dot(pooled, [line[out] for line in matrix]) for out in range(len(matrix[0]))]


def seer_attention(row: Row, t: float, block: int) -> Sets:
    """Gates of pairs of blocks, cut to the triangle before the softmax and after the threshold."""
    blocks = cut(row.n_keys, block)
    kept = {}
    for h in range(row.heads):
        k_gate, q_gate = row.given["k_gate"][h // row.group], row.given["q_gate"][h]
        keys = [gate_vector([row.key(h, j) for j in at], k_gate) for at in blocks]
        for r, at in parted(row, block).items():
            query = gate_vector([row.query(h, p) for p in at], q_gate)
            logits = [
                dot(query, key) / math.sqrt(len(query)) if r >= J else -INF for J, key in enumerate(keys)
            ]
            for J, weight in enumerate(softmax(logits)):
                kept[h, r, J] = weight > t or r + 2 >= len(blocks)
    return row.sets(lambda h, p, j: kept[h, p // block, j // block] and j <= p)


def seer_decode(row: Row, n: int, block: int) -> Sets:
    """One query for the group of a key head; the last block is forced on top of the budget."""
    blocks = cut(row.n_keys, block)
    chosen = {}
    for h in range(row.heads):
        first = h // row.group * row.group
        keys = mean_keys(row, h, blocks)
        for p in row.positions:
            query = mean(row.query(other, p) for other in range(first, first + row.group))
            gate = {J: dot(query, key) for J, key in enumerate(keys) if (J + 1) * block <= p}
            chosen[h, p] = top(gate, n) | {p // block}
    return row.sets(lambda h, p, j: j // block in chosen[h, p] and j <= p)


def xattention(row: Row, share: float, stride: int, block: int) -> Sets:
    """Strided rows side by side, zeros past the end; forced blocks lead the order, and are in the running sum."""
    per_block = block // stride
    chosen = {}
    for h in range(row.heads):
        zero = [0.0] * len(row.key(h, 0))
        before = [zero] * row.first
        queries = [*before, *(row.query(h, p) for p in row.positions), *[zero] * stride]
        keys = [*(row.key(h, j) for j in range(row.n_keys)), *[zero] * stride]
        wide = {
            R: [x for r in range(stride) for x in queries[R * stride + stride - 1 - r]]
            for R in range(row.first // stride, math.ceil(row.positions.stop / stride))
        }
        deep = [
            [x for r in range(stride) for x in keys[C * stride + r]]
            for C in range(math.ceil(row.n_keys / stride))
        ]
        mass: dict[int, dict[int, float]] = {}
        for R, query in wide.items():
            logits = [dot(query, key) / math.sqrt(len(zero)) / stride for key in deep[: R + 1]]
            of_row = mass.setdefault(R // per_block, {})
            for C, weight in enumerate(softmax(logits)):
                of_row[C // per_block] = of_row.get(C // per_block, 0.0) + weight
        for r, of_row in mass.items():
            order = descending({J: INF if J in (0, r) else weight for J, weight in of_row.items()})
            need = share * sum(of_row.values())
            chosen[h, r] = {
                J
                for at, J in enumerate(order)
                if J in (0, r) or share >= 1 or sum(of_row[earlier] for earlier in order[:at]) < need
            }
    return row.sets(lambda h, p, j: j // block in chosen[h, p // block] and j <= p)


def pbs_attn(row: Row, share: float, block: int, segment: int) -> Sets:
    """A softmax over blocks of earlier segments, and its shortest prefix with the share.

    With a share of 1 the authors' running sum may stay below it, and they choose nothing; here all.
    """
    blocks = cut(row.n_keys, block)
    kept: dict[tuple[int, int], set[int]] = {}
    for h in range(row.heads):
        for r, at in parted(row, block).items():
            earlier = blocks[: r * block // segment * (segment // block)]
            weights = pooled_softmax(row, h, at, earlier) if earlier else []
            found = until(dict(enumerate(weights)), share if share < 1 else INF)
            own = [J for J in range(len(blocks)) if J * block // segment == r * block // segment]
            kept[h, r] = {*found, *own, 0}
    return row.sets(lambda h, p, j: j // block in kept[h, p // block] and j <= p)


def flex_prefill_aware(row: Row, gamma: float, block: int) -> Sets:
    """Rows of weights of blocks, laid end to end, cut where their sum would pass the share of the number of rows."""
    blocks = cut(row.n_keys, block)
    chosen: set[tuple[int, int, int]] = set()
    for h in range(row.heads):
        parts = parted(row, block)
        flat = {
            (h, r, J): weight
            for r, at in parts.items()
            for J, weight in enumerate(pooled_softmax(row, h, at, blocks[: r + 1]))
        }
        if gamma >= 1:
            chosen |= set(flat)
            continue
        order = descending(flat)
        sums = [sum(flat[place] for place in order[: n + 1]) for n in range(len(order))]
        chosen |= set(order[: max(1, sum(held <= gamma * len(parts) for held in sums))])
    return row.sets(lambda h, p, j: (h, p // block, j // block) in chosen and j <= p)


def draft_attention(row: Row, cell: Callable[[int], int], sparsity: float) -> Sets:
    """Everything at or above the weight at the quantile of a head's flattened map."""
    cells = sorted({cell(j) for j in range(row.n_keys)})
    columns = [[j for j in range(row.n_keys) if cell(j) == c] for c in cells]
    rows = {c: [p for p in row.positions if cell(p) == c] for c in {cell(p) for p in row.positions}}
    kept = {}
    for h in range(row.heads):
        flat = {
            (r, c): weight
            for r, at in rows.items()
            for c, weight in zip(cells, pooled_softmax(row, h, at, columns), strict=True)
        }
        # The last bits of 1 - sparsity are not the reader's: 1 - 0.9 of 10 pairs is one pair.
        number = max(1, math.floor((1 - sparsity) * len(flat) + 1e-9))
        threshold = sorted(flat.values())[-number]
        kept[h] = {place for place, weight in flat.items() if weight >= threshold}
    return row.sets(lambda h, p, j: (cell(p), cell(j)) in kept[h])
