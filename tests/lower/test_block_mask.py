"""BlockMask against torch's own builder, and its storage against what kernels rely on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, create_mask, noop_mask

import attnmask as am
from attnmask.ir.domain import Domain
from tests.strategies import Call, Case, cases

Rows = list[list[int]]
KINDS = ("kv", "full_kv", "q", "full_q")


def case(text: str, q_len: int, kv_len: int, block: tuple[int, int], offset: int = 0, heads: int = 1) -> Case:
    return Case(am.compile(text), Call(Domain(q_len, kv_len, offset, 1, heads), block))


def built(case: Case) -> BlockMask:
    domain = case.call.domain
    return case.mask.block_mask(
        *case.call.lengths,
        block=case.call.block,
        batch=domain.batch,
        heads=domain.heads,
        q_offset=domain.q_offset,
    )


def lists(mask: BlockMask, kind: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Counts [B, H, rows] and entries [B, H, rows, width]; torch leaves full lists out where it separates none."""
    counts, entries = getattr(mask, f"{kind}_num_blocks"), getattr(mask, f"{kind}_indices")
    assert isinstance(counts, torch.Tensor) and isinstance(entries, torch.Tensor)
    return counts, entries


def rows(mask: BlockMask, kind: str, b: int, h: int) -> Rows:
    """The blocks of each row, ascending."""
    counts, entries = lists(mask, kind)
    b, h = min(b, counts.shape[0] - 1), min(h, counts.shape[1] - 1)
    return [
        sorted(row[:count].tolist()) for row, count in zip(entries[b, h], counts[b, h].tolist(), strict=True)
    ]


@settings(max_examples=60)
@given(cases(most=24))
@example(case("causal", 1, 1, (128, 128)))
@example(case("none", 9, 5, (2, 2)))
@example(case("all", 9, 5, (2, 3)))
@example(case("q % (k + 1) == 0 ^ k <= q - 3 * h", 33, 20, (4, 3), offset=5, heads=3))
def test_lists_are_those_of_torch(case: Case) -> None:
    """Sets per row, partial and full apart, in both directions; and mask_mod says the same as the lists."""
    found, domain = built(case), case.call.domain
    lengths, block = case.call.lengths, case.call.block
    expected = create_block_mask(
        found.mask_mod, domain.batch, domain.heads, *lengths, device="cpu", BLOCK_SIZE=block
    )
    for b, h in np.ndindex(domain.batch, domain.heads):
        for kind in KINDS:
            assert rows(found, kind, b, h) == rows(expected, kind, b, h), (kind, b, h)
    dense = case.mask.dense(*lengths, **case.call.options)
    modified = create_mask(found.mask_mod, domain.batch, domain.heads, *lengths, device="cpu")
    np.testing.assert_array_equal(modified.numpy(), dense)


@settings(max_examples=60)
@given(cases())
def test_storage_is_what_kernels_rely_on(case: Case) -> None:
    found, domain = built(case), case.call.domain
    q_len, kv_len = case.call.lengths
    n_rows, n_cols = -(-q_len // case.call.block[0]), -(-kv_len // case.call.block[1])
    assert found.seq_lengths == (q_len, kv_len) and case.call.block == found.BLOCK_SIZE
    for kind in KINDS:
        counts, entries = lists(found, kind)
        high, wide = (n_rows, n_cols) if kind.endswith("kv") else (n_cols, n_rows)
        assert counts.dtype == entries.dtype == torch.int32
        assert counts.shape[0] in (1, domain.batch) and counts.shape[1] in (1, domain.heads)
        assert tuple(counts.shape[2:]) == (high,) and entries.shape == (*counts.shape, wide)
        # Kernels find a row at (b * H + h) * stride(1) + row * stride(2), and entries one after the other.
        assert entries.stride(3) == 1 and entries.stride(0) == counts.shape[1] * entries.stride(1)
        assert entries.stride(1) == high * entries.stride(2) > 0
        for b, h, row in np.ndindex(*counts.shape):
            live = entries[b, h, row, : int(counts[b, h, row])]
            assert (live.diff() > 0).all()
        # The view stays inside its storage for whoever reads whole rows.
        reach = entries.storage_offset() + sum(
            (n - 1) * s for n, s in zip(entries.shape, entries.stride(), strict=True)
        )
        assert reach < entries.untyped_storage().nbytes() // 4
        assert int(entries.min()) >= 0 and int(entries.max()) < max(wide, 1)


def test_short_queries_give_both_lists_one_pitch() -> None:
    """The decoding kernel, for fewer than 128 queries, reads the full list with the strides of the partial one."""
    found = am.compile("k < 3000 | (q + k) % 9 == 0").block_mask(1, 4096, q_offset=4095)
    assert found.kv_indices.stride() == lists(found, "full_kv")[1].stride()


def test_rows_are_only_as_long_as_they_need_to_be() -> None:
    found = am.compile("causal & (window(512) | sink(4))").block_mask(1 << 17)
    for kind in KINDS:
        _, entries = lists(found, kind)
        assert entries.shape[-1] == 1024
        assert entries.untyped_storage().nbytes() < 4 * (1024 * 8 + 1024) or kind == "q"


def test_what_torch_offers_on_a_block_mask_works() -> None:
    found = am.compile("causal & window(300)").block_mask(1000, block=128)
    expected = create_block_mask(found.mask_mod, None, None, 1000, 1000, device="cpu")
    assert torch.equal(found.to_dense(), expected.to_dense())
    assert found.sparsity() == pytest.approx(expected.sparsity())
    assert str(found) == str(expected)
    assert found[:, :, :3].kv_num_blocks.tolist() == expected[:, :, :3].kv_num_blocks.tolist()
    assert torch.equal(found.to("cpu").to_dense(), expected.to_dense())


def test_planes_have_storage_of_their_own() -> None:
    """Equal planes are one in the tile map; kernels index every (b, h), so here each has its rows."""
    limits = np.array([3, 9, 3])
    found = am.compile(
        "k < n[h] & same(doc)", n=limits, doc=np.array([np.arange(12) // 4, np.arange(12) // 6])
    ).block_mask(12, block=4)
    counts, entries = lists(found, "kv")
    assert counts.shape == (2, 3, 3) and counts.is_contiguous()
    for b in range(2):
        assert (
            torch.equal(counts[b, 0], counts[b, 2]) and entries[b, 0].data_ptr() != entries[b, 2].data_ptr()
        )


def test_an_attribute_set_by_the_caller_stays_with_the_caller() -> None:
    mask = am.compile("causal & window(13)")
    first = mask.block_mask(64)
    first.mask_mod = noop_mask
    second = mask.block_mask(64)
    assert second.mask_mod is not noop_mask
    assert second.kv_indices is first.kv_indices  # nothing is built twice
