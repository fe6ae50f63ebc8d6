"""The suite of mask functions: all of them run, and each family means what it says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from torch.nn.attention.flex_attention import create_block_mask, create_mask

import attnmask as am
from benchmarks.mask_functions import ENTRIES
from benchmarks.mask_functions.entry import MaskFunction
from tests.benchmarks import grid_references, sequence_references
from tests.benchmarks.sequence_references import N, held
from tests.lower.listed import listed

PLAIN = sequence_references.PLAIN | grid_references.PLAIN
OF_FUNCTION = sequence_references.REFERENCES
REFERENCES = [*PLAIN, *OF_FUNCTION]


def _dense(entry: MaskFunction, length: int) -> NDArray[np.bool_]:
    """bool [B, H, Q, K], by torch."""
    made: NDArray[np.bool_] = create_mask(*entry.arguments(length), device="cpu").numpy()
    return np.broadcast_to(made, (entry.batch or 1, entry.heads or 1, entry.q_len(length), length))


@pytest.mark.parametrize("name", REFERENCES)
def test_functions_mean_what_they_say(name: str) -> None:
    entry = ENTRIES[name]
    visible = PLAIN[name] if name in PLAIN else OF_FUNCTION[name](entry.make(N))
    expected = np.zeros((entry.batch or 1, entry.heads or 1, entry.q_len(N), N), bool)
    for row, head, query in np.ndindex(expected.shape[:3]):
        for key in visible(row, head, query):
            if 0 <= key < N:
                expected[row, head, query, key] = True
    np.testing.assert_array_equal(_dense(entry, N), expected)


def test_every_family_has_a_reference() -> None:
    assert {entry.family for entry in ENTRIES.values()} == {ENTRIES[name].family for name in REFERENCES}


@pytest.mark.parametrize("length", [67, 129, 301])
@pytest.mark.parametrize("entry", ENTRIES.values(), ids=ENTRIES)
def test_functions_run_under_torchs_builder(entry: MaskFunction, length: int) -> None:
    made = create_block_mask(*entry.arguments(length), device="cpu", BLOCK_SIZE=32)
    assert made.shape == (entry.batch or 1, entry.heads or 1, entry.q_len(length), length)
    dense = _dense(entry, length)
    assert dense.any(), "a mask without pairs tests nothing"
    assert not dense.all() or entry.name == "bidirectional", "nor does one of all pairs"
    # Functions are made anew for each use: what they hold may not change from one to the next.
    np.testing.assert_array_equal(dense, _dense(entry, length))


@pytest.mark.parametrize(("length", "block"), [(301, 64), (512, (32, 128)), (67, 7)])
@pytest.mark.parametrize("entry", ENTRIES.values(), ids=lambda entry: entry.name)
def test_attnmask_builds_what_torch_builds(
    entry: MaskFunction, length: int, block: int | tuple[int, int]
) -> None:
    """Without torch's help, but for the function that has no integer form."""
    arguments = entry.arguments(length)
    expected = create_block_mask(*arguments, device="cpu", BLOCK_SIZE=block)
    if not entry.has_integer_form:
        with pytest.raises(am.LiftError):
            am.create_block_mask(*arguments, device="cpu", BLOCK_SIZE=block, fallback=False)
        return
    found = am.create_block_mask(*arguments, device="cpu", BLOCK_SIZE=block, fallback=False, check=True)
    assert found.mask_mod is arguments[0]
    assert listed(found) == listed(expected)


@pytest.mark.parametrize(
    "entry", [entry for entry in ENTRIES.values() if entry.has_integer_form], ids=lambda entry: entry.name
)
def test_building_on_the_device_is_sound(entry: MaskFunction) -> None:
    """Full tiles there are full, tiles that are left out are empty; what is not decided is listed as partial."""
    options: Any = {"device": "cpu", "BLOCK_SIZE": 32, "fallback": False}
    arguments = entry.arguments(301)
    exact = listed(am.create_block_mask(*arguments, **options))
    found = listed(am.create_block_mask(*arguments, **options, exact=False))
    assert found["shape"] == exact["shape"]
    for kind in ("kv", "q"):
        for b, h in np.ndindex(len(exact[kind]), len(exact[kind][0])):
            for row, partial in enumerate(found[kind][b][h]):
                full = set(found[f"full_{kind}"][b][h][row])
                really_full = set(exact[f"full_{kind}"][b][h][row])
                assert full <= really_full
                assert really_full | set(exact[kind][b][h][row]) <= full | set(partial)


def test_the_tree_of_drafts_is_one() -> None:
    ancestor = held(ENTRIES["tree_after_prefix"].make(N), "ancestor").numpy()
    assert ancestor.diagonal().all() and not np.triu(ancestor, 1).any()
    assert ancestor[:, 0].all(), "every draft descends from the first"
    for node in range(1, 64):  # all but the node itself is what its parent has
        parent = int(np.flatnonzero(ancestor[node, :node])[-1])
        np.testing.assert_array_equal(ancestor[node, :node], ancestor[parent, :node])


def test_entries_say_what_they_are_for() -> None:
    assert all(entry.use.endswith((".", ":")) for entry in ENTRIES.values())
    assert len({entry.use for entry in ENTRIES.values()}) == len(ENTRIES) >= 30
