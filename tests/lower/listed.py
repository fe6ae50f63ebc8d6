"""What a BlockMask says, without what its memory holds past the counts."""

from __future__ import annotations

from typing import Any

from torch.nn.attention.flex_attention import BlockMask

KINDS = ("kv", "full_kv", "q", "full_q")


def listed(mask: BlockMask) -> dict[str, Any]:
    """Shape, lengths, tile size, and for each kind the blocks of each row [B][H][row], ascending."""
    found: dict[str, Any] = {
        "shape": mask.shape,
        "seq_lengths": mask.seq_lengths,
        "block": mask.BLOCK_SIZE,
    }
    for kind in KINDS:
        counts, entries = getattr(mask, f"{kind}_num_blocks"), getattr(mask, f"{kind}_indices")
        if counts is None or entries is None:
            assert counts is entries is None
            found[kind] = None
            continue
        assert str(counts.dtype) == str(entries.dtype) == "torch.int32"
        found[kind] = [
            [
                [sorted(entries[b, h, row, : int(count)].tolist()) for row, count in enumerate(counts[b, h])]
                for h in range(counts.shape[1])
            ]
            for b in range(counts.shape[0])
        ]
        found[f"{kind} shape"] = tuple(entries.shape)
    return found
