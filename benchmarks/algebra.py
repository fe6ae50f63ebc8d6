"""Proofs, simplification and compilation: how long they take, and what they reach.

    python -m benchmarks.algebra            # a minute; writes results/algebra.json and README.md
    python -m benchmarks.algebra --dry      # the same, and writes nothing

Questions are asked once each, as a user asks them: nothing is warm but the process. Every definition of the
library and every published mask is asked for claims, every pair of published masks for equality and containment.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import permutations
from statistics import median
from typing import Any, Literal

import attnmask as am
from attnmask.algebra.cost import operations
from attnmask.algebra.verdict import Verdict
from benchmarks import table
from benchmarks.environment import RESULTS, ROOT, environment
from benchmarks.targets import algebra_targets
from tests.algebra.pairs import pairs

Result = dict[str, Any]
LIBRARY = (
    "all",
    "none",
    "causal",
    "diagonal",
    "window(512)",
    "recent(512)",
    "band(-64, 512)",
    "sink(4)",
    "tail(64)",
    "prefix(256)",
    "rows(i < 64)",
    "cols(i % 64 == 0)",
    "global(i < 8)",
    "same(doc)",
    "before(doc)",
    "chunk(64)",
    "dilated(128, 4)",
    "strided(128)",
    "heads(:8)",
)
PUBLISHED = (
    "zoo.bigbird()",
    "zoo.blockrank(128)",
    "zoo.clear(64, 8)",
    "zoo.gemma2(layer=0)",
    "zoo.gemma3(layer=0)",
    "zoo.halonet(64)",
    "zoo.infini_attention()",
    "zoo.landmark()",
    "zoo.llama4(layer=0)",
    "zoo.longformer()",
    "zoo.longlive()",
    "zoo.longlora_flash()",
    "zoo.maxvit_block(56)",
    "zoo.mistral()",
    "zoo.natten(7)",
    "zoo.packed_documents(doc)",
    "zoo.prefix_lm(256)",
    "zoo.sparse_transformer_fixed()",
    "zoo.streaming_llm()",
    "zoo.swin(56, 56)",
)
CLAIMS: tuple[Literal["causal", "no_empty_rows"], ...] = ("causal", "no_empty_rows")


def measured() -> Result:
    result: Result = {
        "environment": environment(),
        "proofs": list(_proofs()),
        "simplified": list(_simplified()),
        "compiled": list(_compiled()),
        "first_compile": _first_compile(),
    }
    return {**result, "targets": algebra_targets(result)}


def _proofs() -> Iterator[Result]:
    masks = {text: am.compile(text) for text in (*LIBRARY, *PUBLISHED)}
    masks["causal"].prove("causal")  # loads the integer set library
    for text, mask in masks.items():
        for claim in CLAIMS:
            for square in (False, True):
                yield _asked(partial(mask.prove, claim, square=square), claim, text, square=square)
    for one, other in permutations(PUBLISHED, 2):
        first, second = masks[one], masks[other]
        yield _asked(partial(first.compare, "contained", second), "contained", one, other)
        if one < other:
            yield _asked(partial(first.compare, "equal", second), "equal", one, other)


def _asked(ask: Callable[[], Verdict], claim: str, *masks: str, square: bool = False) -> Result:
    start = time.perf_counter()
    verdict = ask()
    spent = (time.perf_counter() - start) * 1e3
    status = "proved" if verdict else verdict.status
    return {"claim": claim, "masks": list(masks), "square": square, "status": status, "ms": round(spent, 3)}


def _simplified() -> Iterator[Result]:
    for text in fixtures():
        mask = am.compile(text)
        start = time.perf_counter()
        simple = mask.simplify()
        spent = (time.perf_counter() - start) * 1e3
        counts = (operations(mask.predicate), operations(simple.predicate))
        yield {"mask": text, "before": counts[0], "after": counts[1], "ms": round(spent, 3)}


def fixtures() -> list[str]:
    """Thirty masks as people write them, with more conditions than they need."""
    return [pair.given for pair in pairs("redundant.txt")]


def _compiled() -> Iterator[Result]:
    for text in (*LIBRARY, *PUBLISHED, *fixtures()):
        start = time.perf_counter()
        am.compile(text)
        yield {"mask": text, "ms": round((time.perf_counter() - start) * 1e3, 3)}


_FIRST = (
    "import time, attnmask\n"
    "start = time.perf_counter()\n"
    "attnmask.compile({text!r})\n"
    "print((time.perf_counter() - start) * 1e3)\n"
)


def _first_compile() -> list[Result]:
    """The first mask that a process compiles after `import attnmask`; the median of five processes."""
    return [
        {"mask": text, "ms": round(median(_in_new_process(text) for _ in range(5)), 3)}
        for text in ("causal & (window(512) | sink(4))", *PUBLISHED)
    ]


def _in_new_process(text: str) -> float:
    command = [sys.executable, "-c", _FIRST.format(text=text)]
    return float(subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout)


def summary(proofs: Iterable[Result]) -> str:
    counts = Counter(entry["status"] for entry in proofs)
    return ", ".join(f"{count} {status}" for status, count in counts.most_common())


def main(arguments: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.algebra")
    parser.add_argument("--dry", action="store_true", help="write nothing")
    asked = parser.parse_args(None if arguments is None else list(arguments))
    result = measured()
    print(summary(result["proofs"]))
    print(table.goals(result))
    if not asked.dry:
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / "algebra.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        table.main([])


if __name__ == "__main__":
    main()
