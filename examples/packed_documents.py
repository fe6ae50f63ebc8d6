"""Pack real files into one sequence, and run attention under a mask that keeps them apart.

The documents are modules of Python's own standard library, cut into words. Each query sees the last 512 tokens
of its document and the document's first four (attention sinks, Xiao et al. 2023, arXiv 2309.17453).
"""

from __future__ import annotations

import re
import sys
import sysconfig
import time
import zlib
from pathlib import Path

import numpy as np
import torch
from torch.nn.functional import scaled_dot_product_attention

import attnmask as am

LEAST_TOKENS = 16_384
HEADS, HEAD_DIM = 4, 64
SLICE = 4096
MASK = "causal & same(doc) & (window(512) | position[k] < 4)"


def documents() -> list[tuple[str, list[str]]]:
    """Names and words of standard library modules, enough for the least number of tokens."""
    found: list[tuple[str, list[str]]] = []
    total = 0
    for path in sorted(Path(sysconfig.get_path("stdlib")).glob("*.py")):
        words = re.findall(r"\w+|[^\w\s]", path.read_text(encoding="utf-8", errors="ignore"))
        if words and total < LEAST_TOKENS:
            found.append((path.name, words))
            total += len(words)
    return found


def packed(texts: list[tuple[str, list[str]]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Token ids, the document of each token, and its position in its document; int64 [tokens] each."""
    lengths = [len(words) for _, words in texts]
    ids = np.array([zlib.crc32(word.encode()) % 32_768 for _, words in texts for word in words])
    doc = np.repeat(np.arange(len(texts)), lengths)
    position = np.concatenate([np.arange(length) for length in lengths])
    return ids, doc, position


def projected(ids: np.ndarray) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Queries, keys and values [1, HEADS, tokens, HEAD_DIM] as a first layer with random weights makes them."""
    torch.manual_seed(0)
    embedding = torch.nn.Embedding(32_768, 256)
    to_qkv = torch.nn.Linear(256, 3 * HEADS * HEAD_DIM, bias=False)
    hidden = to_qkv(embedding(torch.from_numpy(ids)))
    q, k, v = hidden.view(len(ids), 3, HEADS, HEAD_DIM).permute(1, 2, 0, 3).unsqueeze(1).contiguous()
    return 4 * q, 4 * k, v


def say(text: str) -> None:
    print(f"\n== {text}", flush=True)


@torch.no_grad()
def main() -> None:
    texts = documents()
    ids, doc, position = packed(texts)
    n = len(ids)
    say(f"{n} tokens of {len(texts)} files: {', '.join(name for name, _ in texts[:8])}, …")
    mask = am.compile(MASK, doc=doc, position=position)

    say(f"the mask: {MASK}")
    mask.show(n)

    say("what it costs")
    print(mask.report(n, heads=HEADS, head_dim=HEAD_DIM))

    say("attention on the whole sequence (the first call compiles FlexAttention where a compiler is found)")
    q, k, v = projected(ids)
    for call in ("first call", "second call"):
        start = time.perf_counter()
        out = am.attention(q, k, v, mask)
        print(f"{call}: {time.perf_counter() - start:.2f} s", flush=True)

    say(f"against scaled_dot_product_attention with the dense mask, on the first {SLICE} tokens")
    dense = torch.from_numpy(mask.dense(SLICE))
    expected = scaled_dot_product_attention(
        q[:, :, :SLICE], k[:, :, :SLICE], v[:, :, :SLICE], attn_mask=dense
    )
    difference = (out[:, :, :SLICE] - expected).abs().max().item()
    print(f"largest difference: {difference:.2e} (values up to {expected.abs().max().item():.2f})")
    if difference > 1e-4:
        sys.exit("the results differ")


if __name__ == "__main__":
    main()
