"""Every published mask against its reference in plain loops, at many lengths."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import attnmask as am
from attnmask import zoo
from attnmask.ir.walk import variables
from attnmask.zoo.catalog import entry
from tests.zoo import blocks, grids, sequences
from tests.zoo.cases import Case

CASES = (*sequences.CASES, *blocks.CASES, *grids.CASES)
# Those that choose from q and k are in test_choosing.
NAMES = tuple(entry.name for entry in zoo.entries() if not entry.needs)


def test_every_entry_has_a_reference() -> None:
    assert {case.name for case in CASES} == set(NAMES)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_entry_is_its_reference(case: Case) -> None:
    for lengths in case.lengths:
        np.testing.assert_array_equal(case.dense(lengths), case.expected(lengths), err_msg=str(lengths))


@pytest.mark.parametrize("name", NAMES)
def test_causal_is_declared_as_it_is(name: str) -> None:
    """yes: no query ever sees a later key; no: some do; depends: causal for some arguments and not for others."""
    found = set()
    for case in CASES:
        if case.name == name:
            future = (np.triu(case.dense(at), at.q_offset + 1).any() for at in case.lengths)
            found.add(not any(future))
    match entry(name).causal:
        case "yes":
            assert found == {True}
        case "no":
            assert False in found
        case "depends":
            assert found == {True, False}


@pytest.mark.parametrize("case", [case for case in CASES if not case.tables], ids=str)
def test_text_and_python_say_the_same(case: Case) -> None:
    arguments, tables = [], {}
    for name, value in case.given.items():
        if isinstance(value, list):
            tables[f"given_{name}"] = value
        shown = f"given_{name}" if isinstance(value, list) else str(value)
        arguments.append(f"{name}={shown.lower() if isinstance(value, bool) else shown}")
    written = am.compile(f"zoo.{case.name}({', '.join(arguments)})", **tables)
    first = case.lengths[-1]
    options = {"batch": case.batch, "heads": case.heads, "q_offset": first.q_offset}
    np.testing.assert_array_equal(
        written.dense(first.q_len, first.kv_len, **options), case.dense(first), strict=True
    )


@pytest.mark.parametrize(
    "name", ["bigbird()", "natten(7)", "longlora_roll()", "longlora_flash()", "mistral(9)"]
)
def test_emitted_files_mean_the_entry(name: str) -> None:
    flex = pytest.importorskip("torch.nn.attention.flex_attention")
    mask = am.compile(f"zoo.{name}")
    heads = 4 if "h" in variables(mask.predicate) else None
    namespace: dict[str, Any] = {}
    exec(mask.emit(), namespace)
    block_mask = namespace["block_mask"](64, 64, **({} if heads is None else {"heads": heads}))
    found = flex.create_mask(block_mask.mask_mod, 1, heads or 1, 64, 64, "cpu").numpy()
    np.testing.assert_array_equal(found, mask.dense(64, heads=heads or 1, batch=1))
