"""Systems that choose from q and k for a whole prompt, or for both directions: what each attends, in plain loops.

Every function answers for one batch row: a truth value for each head, query and key.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from tests.zoo.choosing_row import Row, Sets, Vector, best, dot, mean, softmax, units


def moba(row: Row, n: int, block: int) -> Sets:
    """The own block, in the budget, and blocks that have ended, by the mean of their keys."""
    blocks = units(range(row.n_keys), block)
    chosen = {}
    for h in range(row.heads):
        for p in row.positions:
            ended = {
                number: dot(row.query(h, p), mean(row.key(h, j) for j in keys))
                for number, keys in blocks.items()
                if number < p // block
            }
            chosen[h, p] = best(ended, n - 1) | {p // block}
    return row.sets(lambda h, p, j: j <= p and j // block in chosen[h, p])


def vmoba(row: Row, cell: Callable[[int], int], tau: float, over: str) -> Sets:
    """Cells by weights from 0 to 1 between the least and the largest of what competes; own cells count first."""
    cells: dict[int, list[int]] = {}
    for j in range(row.n_keys):
        cells.setdefault(cell(j), []).append(j)
    product = {
        (h, p, c): dot(row.query(h, p), mean(row.key(h, j) for j in keys))
        for h in range(row.heads)
        for p in row.positions
        for c, keys in cells.items()
    }
    chosen: set[tuple[int, int, int]] = set()
    for contest in _contests(product, over):
        low, high = min(product[place] for place in contest), max(product[place] for place in contest)
        weight = {place: (product[place] - low) / (high - low) if high > low else 0.0 for place in contest}
        own = [place for place in contest if place[2] == cell(place[1])]
        chosen |= set(own)
        held = sum(weight[place] for place in own)
        others = sorted(
            (place for place in contest if place not in own), key=lambda place: (-weight[place], place)
        )
        for place in others:
            if held >= tau * sum(weight.values()):
                break
            chosen.add(place)
            held += weight[place]
    return row.sets(lambda h, p, j: (h, p, cell(j)) in chosen)


def _contests(places: dict[tuple[int, int, int], float], over: str) -> list[list[tuple[int, int, int]]]:
    """The places that compete: those of a row, or of a head."""
    found: dict[tuple[int, ...], list[tuple[int, int, int]]] = {}
    for place in places:
        found.setdefault(place[:2] if over == "row" else place[:1], []).append(place)
    return list(found.values())


def nsa(row: Row, n: int, block: int, kernel: int, stride: int, init: int, local: int) -> Sets:
    """Blocks by the compressed windows that overlap them, added up over the heads of a group."""
    starts = list(range(0, row.n_keys - kernel + 1, stride))
    chosen = {}
    for heads in row.groups():
        for p in row.positions:
            score = dict.fromkeys(range(p // block + 1), 0.0)
            for h in heads:
                seen = [start for start in starts if start + kernel - 1 <= p]
                if not seen:
                    continue
                logits = [
                    dot(row.query(h, p), mean(row.key(h, j) for j in range(start, start + kernel)))
                    / math.sqrt(len(row.query(h, p)))
                    for start in seen
                ]
                for start, weight in zip(seen, softmax(logits), strict=True):
                    for piece in range(start, start + kernel, stride):
                        if piece // block in score:
                            score[piece // block] += weight
            always = {number for number in score if number < init or p // block - number < local}
            others = {number: s for number, s in score.items() if number not in always}
            for h in heads:
                chosen[h, p] = always | best(others, n - len(always))
    return row.sets(lambda h, p, j: j <= p and j // block in chosen[h, p])


def _gated(row: Row, name: str, h: int, vectors: Sequence[Vector], head: int) -> list[float]:
    """Maximum, minimum and mean of the vectors, times the head's matrix."""
    channels = list(zip(*vectors, strict=True))
    pooled = [*map(max, channels), *map(min, channels), *mean(vectors)]
    matrix = row.given[name][head]
    return [
        sum(x * weights[out] for x, weights in zip(pooled, matrix, strict=True))
        for out in range(len(matrix[0]))
    ]


def seer_attention(row: Row, t: float, block: int) -> Sets:
    """Blocks with a gate above t, and all blocks for the last two blocks of queries."""
    rows, columns = units(row.positions, block), units(range(row.n_keys), block)
    last = max(columns)
    chosen = {}
    for h in range(row.heads):
        keys = {
            c: _gated(row, "k_gate", h, [row.key(h, j) for j in at], h // row.group)
            for c, at in columns.items()
        }
        for r, at in rows.items():
            query = _gated(row, "q_gate", h, [row.query(h, p) for p in at], h)
            logits = [dot(query, keys[c]) / math.sqrt(len(query)) for c in range(r + 1)]
            chosen[h, r] = {c for c, weight in enumerate(softmax(logits)) if weight > t} | (
                set(range(last + 1)) if r >= last - 1 else set()
            )
    return row.sets(lambda h, p, j: j <= p and j // block in chosen[h, p // block])


def seer_decode(row: Row, n: int, block: int) -> Sets:
    """The query's block, and the best earlier ones by the mean query of the group."""
    chosen = {}
    for heads in row.groups():
        for p in row.positions:
            query = mean(row.query(h, p) for h in heads)
            earlier = {
                number: dot(query, mean(row.key(heads[0], j) for j in keys))
                for number, keys in units(range(row.n_keys), block).items()
                if number < p // block
            }
            for h in heads:
                chosen[h, p] = best(earlier, n) | {p // block}
    return row.sets(lambda h, p, j: j <= p and j // block in chosen[h, p])


def xattention(row: Row, share: float, stride: int, block: int) -> Sets:
    """Blocks by the softmax of strided cells, whose products run along antidiagonals."""
    n, dim = row.n_keys, len(row.k[0][0])
    cells = -(-n // stride)
    chosen = {}
    for h in range(row.heads):
        mass: dict[tuple[int, int], float] = {}
        for r in range(cells):
            logits = []
            for c in range(r + 1):
                total = 0.0
                for at in range(stride):
                    i, j = r * stride + stride - 1 - at, c * stride + at
                    if i < n and j < n:
                        total += dot(row.query(h, i), row.key(h, j))
                logits.append(total / (stride * math.sqrt(dim)))
            for c, weight in enumerate(softmax(logits)):
                place = r * stride // block, c * stride // block
                mass[place] = mass.get(place, 0.0) + weight
        for r in range(-(-n // block)):
            of_row = {c: mass.get((r, c), 0.0) for c in range(r + 1)}
            taken = {0, r}
            held = sum(of_row[c] for c in taken)
            for c in sorted(set(of_row) - taken, key=lambda c: (-of_row[c], c)):
                if share < 1 and held >= share * sum(of_row.values()):
                    break
                taken.add(c)
                held += of_row[c]
            chosen[h, r] = taken
    return row.sets(lambda h, p, j: j <= p and j // block in chosen[h, p // block])


def _pooled_weights(row: Row, h: int, rows: list[int], columns: dict[int, list[int]]) -> dict[int, float]:
    """The softmax of one pooled query over the pooled keys of some blocks."""
    if not columns:
        return {}
    query = mean(row.query(h, p) for p in rows)
    scale = math.sqrt(len(query))
    logits = [dot(query, mean(row.key(h, j) for j in at)) / scale for at in columns.values()]
    return dict(zip(columns, softmax(logits), strict=True))


def _prefix(weights: dict[int, float], share: float) -> set[int]:
    taken: set[int] = set()
    held = 0.0
    for c in sorted(weights, key=lambda c: (-weights[c], c)):
        if share < 1 and held >= share * sum(weights.values()):
            break
        taken.add(c)
        held += weights[c]
    return taken


def pbs_attn(row: Row, share: float, block: int, segment: int) -> Sets:
    """Blocks of earlier segments by a softmax over these alone, the own segment, and the first block."""
    columns = units(range(row.n_keys), block)
    chosen = {}
    for h in range(row.heads):
        for r, at in units(row.positions, block).items():
            earlier = {c: keys for c, keys in columns.items() if keys[-1] // segment < at[0] // segment}
            chosen[h, r] = _prefix(_pooled_weights(row, h, at, earlier), share)
    return row.sets(
        lambda h, p, j: (
            j <= p and (j // segment == p // segment or j < block or j // block in chosen[h, p // block])
        )
    )


def flex_prefill_aware(row: Row, gamma: float, block: int) -> Sets:
    """Pairs of blocks of a head, best first, as long as they hold no more than the share of all rows' mass."""
    columns = units(range(row.n_keys), block)
    chosen: set[tuple[int, int, int]] = set()
    for h in range(row.heads):
        weights: dict[tuple[int, int], float] = {}
        for r, at in units(row.positions, block).items():
            past = {c: keys for c, keys in columns.items() if c <= r}
            weights |= {(r, c): w for c, w in _pooled_weights(row, h, at, past).items()}
        held = 0.0
        for number, place in enumerate(sorted(weights, key=lambda place: (-weights[place], place))):
            held += weights[place]
            # The one that crosses is dropped, though never the very first.
            if number and gamma < 1 and held > gamma * sum(weights.values()):
                break
            chosen.add((h, *place))
    return row.sets(lambda h, p, j: j <= p and (h, p // block, j // block) in chosen)


def minference(row: Row, verticals: int, slashes: int, rows: int, sinks: int, local: int) -> Sets:
    """Keys and distances by the attention of the last queries; the first keys and the nearest distances first."""
    last = list(row.positions)[-rows:]
    of_keys, of_distances = {}, {}
    for h in range(row.heads):
        weights = {p: row.weights(h, p) for p in last}
        by_key = {j: sum(weights[p][j] for p in last) for j in range(row.n_keys) if j <= last[-1]}
        furthest = last[-1] + 1
        by_distance = {
            d: sum(weights[p][p - d] for p in last if 0 <= p - d < row.n_keys) for d in range(furthest)
        }
        first, near = set(range(min(sinks, row.n_keys))), set(range(min(local, furthest)))
        rest = {j: x for j, x in by_key.items() if j not in first}
        others = {d: x for d, x in by_distance.items() if d not in near}
        of_keys[h] = first | best(rest, verticals - len(first))
        of_distances[h] = near | best(others, slashes - len(near))
    return row.sets(lambda h, p, j: j <= p and (j in of_keys[h] or p - j in of_distances[h]))


def sparsed(row: Row, prompt: int, n_prompt: int, n_generated: int, block: int) -> Sets:
    """Blocks by the mean of exact attention in both directions, those of the prompt and the others apart."""
    chosen = {}
    columns = units(range(row.n_keys), block)
    for h in range(row.heads):
        weights = {p: softmax([row.logit(h, p, j) for j in range(row.n_keys)]) for p in row.positions}
        for r, at in units(row.positions, block).items():
            score = {
                c: sum(weights[p][j] for p in at for j in keys) / (len(at) * len(keys))
                for c, keys in columns.items()
            }
            early = {c: s for c, s in score.items() if columns[c][-1] < prompt}
            late = {c: s for c, s in score.items() if columns[c][0] >= prompt}
            chosen[h, r] = best(early, n_prompt) | best(late, n_generated)
    return row.sets(lambda h, p, j: j // block in chosen[h, p // block])


def draft_attention(row: Row, cell: Callable[[int], int], sparsity: float) -> Sets:
    """Pairs of cells by the softmax of their means, the best of a head together with those that equal the last."""
    chosen: set[tuple[int, int, int]] = set()
    at: dict[int, list[int]] = {}
    for j in range(row.n_keys):
        at.setdefault(cell(j), []).append(j)
    for h in range(row.heads):
        weights = {(r, c): w for r, rows in at.items() for c, w in _pooled_weights(row, h, rows, at).items()}
        number = max(1, math.floor((1 - sparsity) * len(weights) + 1e-9))
        last = sorted(weights.values(), reverse=True)[number - 1]
        chosen |= {(h, *place) for place, weight in weights.items() if weight >= last}
    return row.sets(lambda h, p, j: (h, cell(p), cell(j)) in chosen)
