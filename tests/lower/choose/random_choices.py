"""Random choices, written in the language, and random calls for them."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

POOLS = ("mean", "max", "min", "first", "scaled_sum", "attention")
OVERS = ("row", "head", "all", "row_heads", "column")


@dataclass(frozen=True, slots=True)
class Drawn:
    """A mask, a call, and what the mask needs in it."""

    text: str
    q: NDArray[np.float64]
    k: NDArray[np.float64]
    q_offset: int
    given: dict[str, Any]
    tables: dict[str, Any]
    block: tuple[int, int]


def draw(seed: int) -> Drawn:
    """Scores are whole numbers, with ties, where a rule adds and compares only, and else have no ties."""
    r, n = random.Random(seed), np.random.default_rng(seed)
    batch, kv_heads, group = r.choice([1, 2]), r.choice([1, 2]), r.choice([1, 2, 3])
    heads = kv_heads * group
    q_len, kv_len = r.choice([1, 5, 12, 17, 24, 33]), r.choice([1, 7, 12, 20, 31, 40])
    q_offset = r.choice([0, 0, 0, 3, 8])
    given: dict[str, Any] = {}
    tables: dict[str, Any] = {}
    scored, exact = _scores(r, n, heads, kv_heads, given)
    size = r.choice([1, 2, 3])
    shapes = (batch, heads, q_len, 4), (batch, kv_heads, kv_len, 4)
    q, k = (n.integers(-2, 3, shape).astype(float) if exact else n.standard_normal(shape) for shape in shapes)
    selector = _selector(r, n, scored, heads, given)
    text = f"{selector})"
    if r.random() < 0.3:
        text = f"sink({size}) | {text}"
    if r.random() < 0.5:
        text = f"causal & ({text})"
    if r.random() < 0.2:
        text = f"~({text})"
    if "label" in text:
        tables["label"] = n.integers(0, 5, 60)
    if "g" in given:
        q_block, k_block = given["g"]
        units = -(-(q_offset + q_len) // q_block) - q_offset // q_block, -(-kv_len // k_block)
        sets = r.choice([1, kv_heads, heads])
        given["g"] = n.integers(
            -3, 6, (r.choice([1, batch]), sets, r.choice([1, units[0]]), units[1])
        ).astype(float)
    block = r.choice([(4, 4), (8, 4), (16, 16), (5, 7), (128, 128)])
    return Drawn(text, q, k, q_offset, given, tables, block)


def _scores(
    r: random.Random, n: np.random.Generator, heads: int, kv_heads: int, given: dict[str, Any]
) -> tuple[str, bool]:
    """A score map, and whether its scores are exact for whole numbers."""
    block, q_block = (
        r.choice(["1", "2", "4", "8", "5", "i % 3", "(i * 7) % 4", "label"]),
        r.choice(["1", "4", "8", "3", "all", "label", "2 * i + 1", "0 * i + 3"]),
    )
    reduce = r.choice(
        ["each", "each", "group_sum", "group_mean", "group_max", "sum", "max", "mean", "concat"]
    )
    match r.choice(["blocks", "blocks", "blocks", "exact", "probe", "antidiag", "compressed", "given"]):
        case "blocks":
            pool = r.choice([*POOLS, "bounds", "concat(max, min)", "linear(w, mean)"])
            q_pool = r.choice(["mean", "max", "first"])
            if pool.startswith("concat"):
                q_pool = "concat(mean, first)"
            if "linear" in pool:
                given["w"] = n.standard_normal((r.choice([1, kv_heads]), 4, 4))
            norm = r.choice(["none", "none", "softmax", "minmax", "rowmax"])
            how = r.choice([reduce, "concat"])
            proxy = heads if r.random() < 0.15 else 1
            if proxy > 1 and how.startswith("group"):
                how = "each"
            scale = r.choice(["none", "sqrt", "2"])
            exact = (
                norm == "none" and pool in ("max", "min", "first", "bounds") and q_pool in ("max", "first")
            )
            exact = exact and how in ("each", "max", "concat", "sum") and proxy == 1 and scale != "sqrt"
            units = f"{block}, pool={pool}, q_block={q_block}, q_pool={q_pool}"
            return f"blocks({units}, scale={scale}, norm={norm}, heads={how}, proxy={proxy})", exact
        case "exact":
            norm, stride = r.choice(["none", "softmax"]), r.choice([1, 1, 2])
            causal = r.choice(["true", "false"])
            how = r.choice(["sum", "mean", "max"])
            units = f"{block}, reduce={how}, q_block={q_block}, norm={norm}"
            return f"exact({units}, heads={reduce}, causal={causal}, stride={stride})", False
        case "probe":
            along, causal = r.choice(["keys", "diagonals"]), r.choice(["true", "false"])
            unit = r.choice(["1", "2", "4"]) if along == "diagonals" else block
            width = r.choice([1, 1, 3]) if along == "keys" else 1
            rows = f"{r.choice([1, 3, 50])}, along={along}, block={unit}"
            return f"probe({rows}, heads={reduce}, causal={causal}, width={width})", False
        case "antidiag":
            mode, causal = r.choice(["anti", "diag"]), r.choice(["true", "false"])
            return f"antidiag({r.choice([1, 2, 4])}, {r.choice([4, 8])}, mode={mode}, causal={causal})", False
        case "compressed":
            windows = f"{r.choice([4, 8])}, kernel={r.choice([2, 4])}, stride=2"
            return f"compressed({windows}, heads={reduce}, q_block={r.choice(['1', '4'])})", False
        case _:
            sizes = r.choice([1, 4]), r.choice([1, 2, 4])
            given["g"] = sizes
            return f"given(g, {sizes[1]}, q_block={sizes[0]})", True


def _selector(
    r: random.Random, n: np.random.Generator, scored: str, heads: int, given: dict[str, Any]
) -> str:
    """A selector's call without its last bracket."""
    over = r.choice([*OVERS, "row", "row", "row"])
    among = r.choice(
        ["", "", ", among=all", ", among=causal", ", among=k // 4 < q // 4", ", among=same(i % 2)"]
    )
    count = r.choice(
        [
            "",
            "",
            "",
            ", count=sink(1)",
            ", count=same(i // 4)",
            ", count=k // 4 <= q // 4 & q // 4 - k // 4 < 2",
        ]
    )
    tail = f", over={over}{among}{count}"
    each = (
        over in ("row", "head", "column")
        and "heads=each" in scored
        and "proxy=1" in scored
        and r.random() < 0.2
    )
    adds_up = (
        "norm=softmax" in scored
        or "minmax" in scored
        or scored.startswith(("probe", "antidiag", "compressed"))
    )
    match r.choice(["top", "top", "ratio", "top_p", "top_p", "above", "quantile"]):
        case "top":
            if each:
                given["t"] = n.integers(1, 5, heads)
                return f"top(t, {scored}{tail}"
            return f"top({r.choice([1, 2, 3, 30])}, {scored}{tail}"
        case "ratio":
            of, share = r.choice(["ratio", "ratio_causal"]), r.choice(["0.3", "0.77", "1", "0"])
            return f"top({of}={share}, score={scored}{tail}"
        case "top_p" if adds_up:
            limits = r.choice(["", "", ", crossing=drop", ", least=3", ", most=2"])
            if each:
                given["t"] = n.random(heads)
                return f"top_p(t, {scored}{tail}{limits}"
            return f"top_p({r.choice(['0', '0.31', '0.9', '1'])}, {scored}{tail}{limits}"
        case "quantile":
            return f"above({r.choice(['0', '0.4', '0.83'])}, {scored}, quantile=true{tail}"
        case _:
            return f"above({r.choice(['0', '0.1', '1'])}, {scored}{tail}"
