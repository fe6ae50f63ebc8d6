"""Systems that choose from q and k, in their authors' steps, over lengths, shares, chunks of a prompt, and ties."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray

import attnmask as am
from tests.zoo import choosing_loops as loops
from tests.zoo import choosing_token_loops as token_loops
from tests.zoo.choosing_row import Row, Sets
from tests.zoo.test_choosing_decode import Draw, Shape, System, drawn, expected, floats
from tests.zoo.test_choosing_prefill import boxes, columns, gates

PROMPTS = tuple(
    Shape(batch, heads, kv_heads, n, n)
    for batch, heads, kv_heads, n in (
        (1, 2, 1, 5),
        (2, 2, 2, 6),
        (1, 4, 2, 8),
        (1, 2, 1, 11),
        (1, 3, 3, 16),
        (1, 6, 2, 19),
        (2, 2, 1, 24),
        (1, 4, 1, 31),
        (1, 2, 1, 33),
        (1, 4, 2, 39),
    )
)
CHUNKS = (
    Shape(1, 4, 2, 8, 24, 16),  # the end of a prompt, in whole blocks
    Shape(1, 2, 1, 13, 29, 16),  # a ragged end
    Shape(2, 2, 1, 8, 31, 8),  # keys after the last query
    Shape(1, 2, 1, 11, 37, 8),  # the same, where the last query is inside a block
)
ENDS = tuple(Shape(1, 4, 2, q, k, k - q) for q, k in ((1, 5), (1, 8), (1, 33), (3, 17), (5, 40), (9, 22)))


def zeros(n: np.random.Generator, shape: tuple[int, ...]) -> NDArray[np.float64]:
    """All products are equal."""
    return np.zeros(shape)


def moba(n: int, block: int) -> System:
    return System(f"zoo.moba({n}, {block})", lambda row: loops.moba(row, n, block))


def nsa(n: int, block: int, kernel: int, stride: int, init: int, local: int) -> System:
    sizes = (n, block, kernel, stride, init, local)
    return System(f"zoo.nsa{sizes}", lambda row: loops.nsa(row, *sizes), (floats,))


def vmoba(text: str, cell: Callable[[int], int], tau: float, over: str) -> System:
    return System(
        f"zoo.vmoba({text}, {tau}, over={over})", lambda row: loops.vmoba(row, cell, tau, over), (floats,)
    )


def seer_attention(t: float, block: int) -> System:
    return System(
        f"zoo.seer_attention({t}, {block})", lambda row: loops.seer_attention(row, t, block), (floats,), gates
    )


def seer_decode(n: int, block: int) -> System:
    return System(f"zoo.seer_decode({n}, GROUP, {block})", lambda row: loops.seer_decode(row, n, block))


def xattention(share: float, stride: int, block: int, draw: Draw = floats) -> System:
    return System(
        f"zoo.xattention({share}, {stride}, {block})",
        lambda row: loops.xattention(row, share, stride, block),
        (draw,),
    )


def pbs_attn(share: float, block: int, segment: int, draw: Draw = floats) -> System:
    return System(
        f"zoo.pbs_attn({share}, {block}, {segment})",
        lambda row: loops.pbs_attn(row, share, block, segment),
        (draw,),
    )


def flex_aware(gamma: float, block: int, draw: Draw = floats) -> System:
    return System(
        f"zoo.flex_prefill(99, {gamma}, {block})",
        lambda row: loops.flex_prefill_aware(row, gamma, block),
        (draw,),
    )


def flex_lines(gamma: float, block: int) -> System:
    return System(
        f"zoo.flex_prefill(0, {gamma}, {block})",
        lambda row: token_loops.flex_prefill_lines(row, gamma, block),
        (floats,),
    )


def minference(verticals: int, slashes: int, rows: int, sinks: int, local: int) -> System:
    sizes = (verticals, slashes, rows, sinks, local)
    return System(f"zoo.minference{sizes}", lambda row: token_loops.minference(row, *sizes), (floats,))


def sparsed(prompt: int, n_prompt: int, n_generated: int, block: int, draw: Draw = floats) -> System:
    sizes = (prompt, n_prompt, n_generated, block)
    return System(f"zoo.sparsed{sizes}", lambda row: token_loops.sparsed(row, *sizes), (draw,))


def draft(text: str, cell: Callable[[int], int], sparsity: float, draw: Draw = floats) -> System:
    return System(
        f"zoo.draft_attention({text}, {sparsity})",
        lambda row: loops.draft_attention(row, cell, sparsity),
        (draw,),
    )


SHARES = (0.3, 0.9, 1)
CELLS = (
    ("i // 4", lambda i: i // 4),
    ("i // 8 * 2 + i % 4 // 2", columns),
    ("i // 12 * 3 + i % 6 // 2", boxes),
)
SYSTEMS = (
    *(moba(n, block) for n in (1, 2, 3, 20) for block in (2, 4, 8)),
    *(vmoba(text, cell, tau, over) for text, cell in CELLS for tau in SHARES for over in ("row", "head")),
    vmoba("i // 4", CELLS[0][1], 0.6, "all"),
    nsa(3, 4, 4, 2, 1, 1),
    nsa(4, 8, 4, 2, 1, 2),
    nsa(4, 4, 8, 2, 2, 1),
    nsa(2, 4, 2, 2, 0, 1),
    nsa(30, 4, 4, 4, 1, 2),
    *(seer_attention(t, block) for t in (0.05, 0.3) for block in (4, 8)),
    *(xattention(share, stride, block) for share in SHARES for stride, block in ((2, 4), (4, 8), (1, 4))),
    *(pbs_attn(share, block, segment) for share in SHARES for block, segment in ((2, 4), (4, 4), (4, 8))),
    *(flex_aware(gamma, 4) for gamma in SHARES),
    *(flex_lines(gamma, 4) for gamma in SHARES),
    minference(4, 5, 4, 2, 2),
    minference(3, 3, 1, 0, 1),
    minference(60, 2, 100, 1, 2),
    *(sparsed(8, n, 2, 4) for n in (1, 9)),
    *(draft(text, cell, sparsity) for text, cell in CELLS for sparsity in (0.3, 0.9)),
)
ROUND = (
    # Shares that no number of equal weights holds exactly.
    *(xattention(share, 2, 4, zeros) for share in (0.37, 0.83)),
    *(pbs_attn(share, 2, 4, zeros) for share in (0.37, 0.83)),
    *(flex_aware(gamma, 4, zeros) for gamma in (0.37, 0.83)),
    draft("i // 4", CELLS[0][1], 0.9, zeros),
    sparsed(8, 1, 1, 4, zeros),
)


def numbers(shape: Shape, n: np.random.Generator) -> dict[str, NDArray[np.float64]]:
    return {"n": n.integers(1, 5, shape.heads).astype(np.float64)}


def shares(shape: Shape, n: np.random.Generator) -> dict[str, NDArray[np.float64]]:
    """One for each head, all among them."""
    return {"p": n.choice([0.3, 0.6, 0.9, 1.0], shape.heads)}


def by_head(row: Row, name: str, system: Callable[[Row, float], Sets]) -> Sets:
    return [system(row, row.given[name][h])[h] for h in range(row.heads)]


OF_HEADS = (
    System(
        "zoo.moba(n, 4)",
        lambda row: by_head(row, "n", lambda row, n: loops.moba(row, int(n), 4)),
        given=numbers,
    ),
    System(
        "zoo.xattention(p, 2, 4)",
        lambda row: by_head(row, "p", lambda row, p: loops.xattention(row, p, 2, 4)),
        (floats,),
        shares,
    ),
    System(
        "zoo.pbs_attn(p, 2, 4)",
        lambda row: by_head(row, "p", lambda row, p: loops.pbs_attn(row, p, 2, 4)),
        (floats,),
        shares,
    ),
)
CALLS = [(system, shape) for system in (*SYSTEMS, *OF_HEADS) for shape in (*PROMPTS, *CHUNKS)]
CALLS += [(seer_decode(n, block), shape) for n in (1, 2, 20) for block in (2, 4, 8) for shape in ENDS]
CALLS += [(system, shape) for system in ROUND for shape in PROMPTS]


@pytest.mark.parametrize(("system", "shape"), CALLS, ids=str)
def test_entry_is_what_the_authors_do(system: System, shape: Shape) -> None:
    mask = am.compile(system.written(shape))
    for draw in system.draws:
        call = drawn(system, shape, draw, seed=shape.kv_len)
        choices = mask.choose(call.q, call.k, q_offset=shape.q_offset, **call.given)
        found = mask.freeze(choices).dense(
            shape.q_len, shape.kv_len, batch=shape.batch, heads=shape.heads, q_offset=shape.q_offset
        )
        np.testing.assert_array_equal(found, expected(system, shape, call), err_msg=draw.__name__)
