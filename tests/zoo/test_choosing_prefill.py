"""Systems that choose from q and k for a whole prompt, against plain loops over small random calls."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

import attnmask as am
from tests.zoo import choosing_prefill_loops as loops
from tests.zoo.test_choosing_decode import DIM, Shape, System, drawn, expected, floats, whole

SELF = (
    Shape(2, 4, 2, 23, 23),
    Shape(1, 3, 1, 5, 5),
    Shape(1, 2, 2, 40, 40),
    Shape(1, 6, 2, 32, 32),
    Shape(1, 1, 1, 1, 1),
)
LATER = (Shape(2, 4, 2, 1, 29, 28), Shape(1, 6, 2, 1, 40, 39), Shape(2, 2, 1, 6, 37, 31))


def gates(shape: Shape, n: np.random.Generator) -> dict[str, NDArray[np.float64]]:
    return {
        "q_gate": n.standard_normal((shape.heads, 3 * DIM, 5)),
        "k_gate": n.standard_normal((shape.kv_heads, 3 * DIM, 5)),
    }


def columns(i: int) -> int:
    """Cells of an image four tokens wide: two rows by two columns."""
    return i // 8 * 2 + i % 4 // 2


def boxes(i: int) -> int:
    """Cells of frames of 3 by 2 tokens: two frames by one row of a frame."""
    return i // 12 * 3 + i % 6 // 2


ROUND = (whole,)
REAL = (floats,)
SYSTEMS = (
    System("zoo.moba(1, 4)", lambda row: loops.moba(row, 1, 4)),
    System("zoo.moba(3, 4)", lambda row: loops.moba(row, 3, 4)),
    System("zoo.moba(9, 3)", lambda row: loops.moba(row, 9, 3)),
    System("zoo.vmoba(i // 4, 0.6)", lambda row: loops.vmoba(row, lambda i: i // 4, 0.6, "head"), REAL),
    System(
        "zoo.vmoba(i // 5, 0.8, over=row)", lambda row: loops.vmoba(row, lambda i: i // 5, 0.8, "row"), REAL
    ),
    System(
        "zoo.vmoba(i // 8 * 2 + i % 4 // 2, 0.7)", lambda row: loops.vmoba(row, columns, 0.7, "head"), REAL
    ),
    System(
        "zoo.vmoba(i // 12 * 3 + i % 6 // 2, 0.5, over=row)",
        lambda row: loops.vmoba(row, boxes, 0.5, "row"),
        REAL,
    ),
    System("zoo.nsa(3, 8, 4, 2, 1, 1)", lambda row: loops.nsa(row, 3, 8, 4, 2, 1, 1), REAL),
    System("zoo.nsa(5, 4, 4, 2, 1, 2)", lambda row: loops.nsa(row, 5, 4, 4, 2, 1, 2), REAL),
    System("zoo.nsa(2, 4, 4, 4, 0, 1)", lambda row: loops.nsa(row, 2, 4, 4, 4, 0, 1), REAL),
    System("zoo.seer_attention(0.2, 4)", lambda row: loops.seer_attention(row, 0.2, 4), REAL, gates),
    System("zoo.seer_attention(0.05, 3)", lambda row: loops.seer_attention(row, 0.05, 3), REAL, gates),
    System("zoo.xattention(0.7, 2, 4)", lambda row: loops.xattention(row, 0.7, 2, 4), REAL),
    System("zoo.xattention(0.95, 4, 4)", lambda row: loops.xattention(row, 0.95, 4, 4), REAL),
    System("zoo.xattention(1, 2, 8)", lambda row: loops.xattention(row, 1, 2, 8), REAL),
    System("zoo.pbs_attn(0.6, 4, 8)", lambda row: loops.pbs_attn(row, 0.6, 4, 8), REAL),
    System("zoo.pbs_attn(1, 2, 8)", lambda row: loops.pbs_attn(row, 1, 2, 8), REAL),
    System("zoo.flex_prefill(99, 0.55, 4)", lambda row: loops.flex_prefill_aware(row, 0.55, 4), REAL),
    System("zoo.flex_prefill(99, 0.9, 5)", lambda row: loops.flex_prefill_aware(row, 0.9, 5), REAL),
    System("zoo.minference(7, 9, 6, 3, 4)", lambda row: loops.minference(row, 7, 9, 6, 3, 4), REAL),
    System("zoo.minference(2, 3, 50, 1, 1)", lambda row: loops.minference(row, 2, 3, 50, 1, 1), REAL),
    System("zoo.sparsed(8, 1, 2, 4)", lambda row: loops.sparsed(row, 8, 1, 2, 4), REAL),
    System(
        "zoo.draft_attention(i // 4, 0.6)",
        lambda row: loops.draft_attention(row, lambda i: i // 4, 0.6),
        REAL,
    ),
    System(
        "zoo.draft_attention(i // 8 * 2 + i % 4 // 2, 0.75)",
        lambda row: loops.draft_attention(row, columns, 0.75),
        REAL,
    ),
)
DECODING = (
    System("zoo.seer_decode(2, GROUP, 4)", lambda row: loops.seer_decode(row, 2, 4)),
    System("zoo.seer_decode(9, GROUP, 3)", lambda row: loops.seer_decode(row, 9, 3)),
    System("zoo.moba(3, 4)", lambda row: loops.moba(row, 3, 4)),
)
CALLS = [(system, shape) for system in SYSTEMS for shape in SELF]
CALLS += [(system, shape) for system in DECODING for shape in LATER]


@pytest.mark.parametrize(("system", "shape"), CALLS, ids=str)
def test_entry_is_its_reference(system: System, shape: Shape) -> None:
    mask = am.compile(system.written(shape))
    for draw in system.draws:
        for seed in range(3):
            call = drawn(system, shape, draw, seed)
            choices = mask.choose(call.q, call.k, q_offset=shape.q_offset, check=True, **call.given)
            found = mask.freeze(choices).dense(
                shape.q_len, shape.kv_len, batch=shape.batch, heads=shape.heads, q_offset=shape.q_offset
            )
            np.testing.assert_array_equal(
                found, expected(system, shape, call), err_msg=f"{draw.__name__} {seed}"
            )
