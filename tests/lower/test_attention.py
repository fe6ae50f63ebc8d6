"""The tiled path of attention against a softmax in double precision under the dense mask."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from torch.nn.attention.flex_attention import flex_attention

import attnmask as am
from attnmask.lower.attention import attention
from attnmask.lower.prepare import prepared_call
from attnmask.mask import Mask
from tests.lower.reference import dense_attention, tensors
from tests.strategies import Case, cases

Tensor = torch.Tensor

DOC = np.array([np.arange(70) // 9, np.arange(70) // 23])
HEADS = np.array([[0] * 70, [0, 1] * 35, [0, 1] * 35])
MASKS: dict[str, dict[str, Any]] = {
    "all": {},
    "none": {},
    "causal": {},
    "causal & (window(7) | sink(2))": {},
    "q % 3 != 0 & k > q": {},  # rows without keys inside tiles that have some
    "q in 20:50 & causal": {},  # whole rows of tiles without keys
    "heads(1:) & causal | heads(:1) & window(5)": {},
    "same(doc)": {"doc": DOC},
    "t[h, q] == t[h, k] & same(doc)": {"doc": DOC, "t": HEADS},
    "b == 0 & causal": {},
}


def close(found: Tensor, expected: Tensor, tolerance: float = 2e-5) -> None:
    torch.testing.assert_close(found.double(), expected.double(), rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("text", MASKS)
@pytest.mark.parametrize("block", [(16, 16), (13, 5), (128, 128)])
def test_output_and_lse(text: str, block: tuple[int, int]) -> None:
    mask = am.compile(text, **MASKS[text])
    q, k, v = tensors((2, 3, 70, 16))
    expected, expected_lse = dense_attention(q, k, v, mask)
    out = attention(q, k, v, mask, block=block, backend="tiled")
    assert isinstance(out, Tensor) and out.dtype == q.dtype
    close(out, expected)
    out, lse = attention(q, k, v, mask, block=block, return_lse=True)
    close(out, expected)
    close(lse, expected_lse)


@pytest.mark.parametrize("text", MASKS)
def test_gradients(text: str) -> None:
    mask = am.compile(text, **MASKS[text])
    q, k, v = tensors((2, 3, 70, 16), gradients=True)
    weights = torch.linspace(-1, 1, q.numel()).reshape(q.shape)
    expected = torch.autograd.grad((dense_attention(q, k, v, mask)[0] * weights).sum(), (q, k, v))
    out = attention(q, k, v, mask, block=(16, 8))
    assert isinstance(out, Tensor)
    found = torch.autograd.grad((out * weights).sum(), (q, k, v))
    for a, b in zip(found, expected, strict=True):
        close(a, b)


@settings(max_examples=40)
@given(cases(most=30))
def test_any_mask(case: Case) -> None:
    domain = case.call.domain
    q, k, v = tensors((domain.batch, domain.heads, domain.q_len, 4), domain.kv_len)
    expected, expected_lse = dense_attention(q, k, v, case.mask, q_offset=domain.q_offset)
    found = attention(
        q, k, v, case.mask, block=case.call.block, q_offset=domain.q_offset, return_lse=True, backend="tiled"
    )
    close(found[0], expected)
    close(found[1], expected_lse)


@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 2), (6, 1), (3, 3)])
def test_groups_of_query_heads_share_keys(heads: int, kv_heads: int) -> None:
    mask = am.compile("heads(1:) & causal | h == 0 & window(4)")
    q, k, v = tensors((2, heads, 33, 8), kv_heads=kv_heads, gradients=True)
    out = attention(q, k, v, mask, block=8, enable_gqa=True)
    assert isinstance(out, Tensor)
    expected = dense_attention(q, k, v, mask)[0]
    close(out, expected)
    for a, b in zip(
        torch.autograd.grad(out.square().sum(), (q, k, v)),
        torch.autograd.grad(expected.square().sum(), (q, k, v)),
        strict=True,
    ):
        close(a, b, 1e-4)


def test_queries_after_a_cache() -> None:
    """Decoding: the rows of one call at an offset are the last rows of the whole."""
    mask = am.compile("causal & (window(9) | sink(2))")
    q, k, v = tensors((1, 2, 40, 8))
    whole = attention(q, k, v, mask, block=8)
    for first in (0, 17, 39):
        rows = attention(q[:, :, first:], k, v, mask, block=8, q_offset=first)
        assert isinstance(rows, Tensor) and isinstance(whole, Tensor)
        close(rows, whole[:, :, first:])


@pytest.mark.parametrize("scale", [None, 1.0, 0.01, -0.5])
def test_scale(scale: float | None) -> None:
    mask = am.compile("causal")
    q, k, v = tensors((1, 2, 20, 8))
    close(attention(q, k, v, mask, scale=scale), dense_attention(q, k, v, mask, scale=scale)[0])


SCORES: dict[str, dict[str, Any]] = {
    "causal with softcap(2)": {},
    "causal with s - (q - k) * 0.25": {},
    "causal with s + bias[h, k]": {"bias": np.sin(np.arange(80)).reshape(2, 40)},
    "window(5) with s * 2, softcap(3), s + slope[h] * abs(q - k)": {"slope": np.array([-0.5, -0.125])},
    "k > q with where(q - k < -4, s - 1, s * 0.5)": {},
    "causal with s + t[q] * t[k]": {"t": np.arange(40)},
    "causal with s + q * q * 0.001 - flag[k]": {"flag": np.arange(40) % 3 == 0},
    "causal with s + exp(0 - abs(q - k)) - log(q + 1) + tanh(h)": {},
}


@pytest.mark.parametrize("text", SCORES)
def test_scores(text: str) -> None:
    mask = am.compile(text, **SCORES[text])
    q, k, v = tensors((2, 2, 40, 8))
    expected, expected_lse = dense_attention(q, k, v, mask)
    out, lse = attention(q, k, v, mask, block=(16, 8), return_lse=True)
    close(out, expected, 1e-4)
    close(lse, expected_lse, 1e-4)


def test_gradients_through_scores() -> None:
    mask = am.compile("k < q with softcap(2), s - (q - k) * 0.25")
    q, k, v = tensors((1, 2, 40, 8), gradients=True)
    at = torch.arange(40, dtype=torch.float64)

    def scores(s: Tensor) -> Tensor:
        return 2 * torch.tanh(s / 2) - (at[:, None] - at) * 0.25

    expected = dense_attention(q, k, v, mask, scores=scores)[0]
    out = attention(q, k, v, mask, block=8)
    assert isinstance(out, Tensor)
    close(out, expected)
    for a, b in zip(
        torch.autograd.grad(out.sum(), (q, k, v)), torch.autograd.grad(expected.sum(), (q, k, v)), strict=True
    ):
        close(a, b)


def test_a_score_of_minus_infinity_is_no_key() -> None:
    """log(0) leaves query 0 without a key: it gives 0, and its gradient is 0 and not NaN."""
    mask = am.compile("causal with s + log(q)")
    q, k, v = tensors((1, 1, 20, 8), gradients=True)
    out, lse = attention(q, k, v, mask, block=8, return_lse=True)
    lse = lse.detach()
    assert lse[0, 0, 0].item() == -np.inf and out[0, 0, 0].abs().max().item() == 0
    for gradient in torch.autograd.grad(out.sum(), (q, k, v)):
        assert gradient.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_other_types(dtype: torch.dtype) -> None:
    mask = am.compile("causal & window(9)")
    q, k, v = (x.to(dtype) for x in tensors((1, 2, 30, 16)))
    out = attention(q, k, v, mask, block=8)
    assert isinstance(out, Tensor) and out.dtype == dtype
    close(out, dense_attention(q, k, v, mask)[0], {torch.float64: 1e-9}.get(dtype, 2e-2))


def test_values_may_be_narrower_than_keys() -> None:
    mask = am.compile("q % 4 != 1 & causal")
    q, k, v = tensors((1, 2, 30, 16))
    out = attention(q, k, v[..., :5], mask, block=8)
    assert isinstance(out, Tensor)
    close(out, dense_attention(q, k, v[..., :5], mask)[0])


def test_no_tile_is_touched_that_is_not_live() -> None:
    """Keys that no query sees may hold anything."""
    mask = am.compile("causal & window(8)")
    q, k, v = tensors((1, 1, 64, 8))
    k[:, :, 50:] = torch.nan
    v[:, :, 50:] = torch.nan
    out = attention(q[:, :, :40], k, v, mask, block=8)
    assert isinstance(out, Tensor) and out.isfinite().all()


BAD: list[tuple[str, tuple[int, ...], tuple[int, ...], tuple[int, ...]]] = [
    ("4 dimensions", (2, 8, 4), (1, 2, 8, 4), (1, 2, 8, 4)),
    ("length", (1, 2, 8, 4), (1, 2, 8, 4), (1, 2, 9, 4)),
    ("head dimension", (1, 2, 8, 4), (1, 2, 8, 5), (1, 2, 8, 5)),
    ("enable_gqa", (1, 4, 8, 4), (1, 2, 8, 4), (1, 2, 8, 4)),
    ("batch", (2, 2, 8, 4), (1, 2, 8, 4), (1, 2, 8, 4)),
    ("at least 1", (1, 2, 0, 4), (1, 2, 8, 4), (1, 2, 8, 4)),
]


@pytest.mark.parametrize(("message", "q", "k", "v"), BAD)
def test_shapes_that_do_not_go_together(
    message: str, q: tuple[int, ...], k: tuple[int, ...], v: tuple[int, ...]
) -> None:
    with pytest.raises(am.MaskError, match=message):
        attention(torch.zeros(q), torch.zeros(k), torch.zeros(v), am.compile("causal"))


def test_other_refusals() -> None:
    q, k, v = tensors((1, 3, 8, 16))
    causal = am.compile("causal")
    with pytest.raises(am.MaskError, match="multiple"):
        attention(q, k[:, :2], v[:, :2], causal, enable_gqa=True)
    with pytest.raises(am.MaskError, match="dtype"):
        attention(q, k.double(), v, causal)
    with pytest.raises(am.MaskError, match="floating"):
        attention(q.long(), k.long(), v.long(), causal)
    with pytest.raises(am.MaskError, match="backend"):
        attention(q, k, v, causal, backend="tild")  # type: ignore[call-overload]  # that is the point
    with pytest.raises(am.MaskError, match="return_lse"):
        attention(q, k, v, causal, backend="flex", return_lse=True)
    with pytest.raises(am.MaskError, match="gradients"):
        attention(q.requires_grad_(), k, v, causal, backend="flex")
    with pytest.raises(am.MaskError, match="entry 7"):
        attention(q, k, v, am.compile("same(doc)", doc=[0] * 7))
    with pytest.raises(am.MaskError, match="entry 7"):
        attention(q, k, v, am.compile("causal with s + bias[k]", bias=[0.0] * 7))
    with pytest.raises(am.MaskError, match="zero"):
        attention(q, k, v, am.compile("causal with s + q // k"))


def test_a_table_of_large_integers_in_a_score() -> None:
    mask: Mask = am.compile("causal with s * 0 + t[k] * 0.000000001", t=np.arange(8) * 10**9 * 2)
    q, k, v = tensors((1, 1, 8, 16))
    close(attention(q, k, v, mask), dense_attention(q, k, v, mask)[0], 1e-4)


def test_double_precision_stays_so() -> None:
    q, k, v = torch.randn(3, 1, 2, 40, 16, dtype=torch.float64).unbind()
    mask = am.compile("causal with softcap(5)")
    out, lse = am.attention(q, k, v, mask, return_lse=True)
    scores = 5 * torch.tanh(q @ k.mT / 4 / 5)
    scores = scores.masked_fill(~torch.from_numpy(mask.dense(40)), -torch.inf)
    torch.testing.assert_close(out, scores.softmax(-1) @ v, atol=1e-12, rtol=1e-12)
    torch.testing.assert_close(lse, scores.logsumexp(-1), atol=1e-12, rtol=1e-12)


def test_a_table_that_learns_is_refused() -> None:
    with pytest.raises(am.MaskError, match="requires gradients"):
        am.compile("causal with s + bias[k]", bias=torch.zeros(4, requires_grad=True))


def test_autocast_keeps_the_dtype_of_the_inputs() -> None:
    q = torch.randn(1, 2, 40, 16)
    mask = am.compile("causal & window(9)")
    expected = am.attention(q, q, q, mask)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(am.attention(q, q, q, mask), expected)


def test_a_compiled_caller_breaks_its_graph_and_goes_on() -> None:
    q = torch.randn(1, 2, 40, 16)
    mask = am.compile("causal & window(11)")
    compiled = torch.compile(lambda x: 2 * am.attention(x, x, x, mask), backend="eager")
    torch.testing.assert_close(compiled(q), 2 * am.attention(q, q, q, mask))


@pytest.mark.gpu
@pytest.mark.parametrize(
    "text",
    [
        "causal & (window(200) | sink(4))",
        "heads(:1) & causal | heads(1:) & window(70)",
        "causal",  # both promises to the kernels hold
        "causal & window(128)",  # lists are runs, and rows are not safe
    ],
)
def test_cuda_forward_backward_and_decode(text: str) -> None:
    """Triton's kernels read the narrow lists: forward, backward (the transpose) and decoding."""
    mask = am.compile(text)
    for q_len, offset in ((640, 0), (1, 639)):
        q = torch.randn(1, 2, q_len, 64, device="cuda", requires_grad=True)
        k, v = torch.randn(2, 1, 2, 640, 64, device="cuda").unbind()
        dense = torch.from_numpy(mask.dense(q_len, 640, heads=2, q_offset=offset)).cuda()
        expected = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=dense)
        found = am.attention(q, k, v, mask, q_offset=offset)
        torch.testing.assert_close(found, expected, atol=2e-3, rtol=2e-3)
        if q_len > 1:
            ours, theirs = (torch.autograd.grad(out.square().sum(), q)[0] for out in (found, expected))
            torch.testing.assert_close(ours, theirs, atol=1e-2, rtol=1e-2)


def sdpa(q: Tensor, k: Tensor, v: Tensor, mask: Mask) -> Tensor:
    dense = torch.from_numpy(mask.dense(q.shape[2], k.shape[2]))
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=dense)


@pytest.mark.parametrize("backend", ["tiled", "flex"])
@pytest.mark.parametrize(
    ("text", "shorter"), [("causal & same(i // 64)", "k <= q"), ("causal | tail(64)", "k <= q")]
)
def test_full_tiles_beside_partial_ones(text: str, shorter: str, backend: Literal["tiled", "flex"]) -> None:
    """The mask of partial tiles says something else on full ones: only what goes by the lists may run it."""
    mask = am.compile(text)
    q, k, v = (torch.randn(1, 2, 256, 16) for _ in range(3))
    prepared = prepared_call(mask, 256, 256, batch=1, heads=2, block=64, device="cpu", q_offset=0)
    assert f"return {shorter}\n" in prepared.in_kernel().mask_text
    out = am.attention(q, k, v, mask, block=64, backend=backend)
    torch.testing.assert_close(out, sdpa(q, k, v, mask))


@pytest.mark.parametrize(
    "text", ["causal | tail(128)", "causal | k >= 300", "same(i // 5) | prefix(3) | tail(4)"]
)
def test_the_default_path_on_full_and_partial_tiles(text: str) -> None:
    mask = am.compile(text)
    q, k, v = (torch.randn(1, 1, 512, 16) for _ in range(3))
    torch.testing.assert_close(am.attention(q, k, v, mask), sdpa(q, k, v, mask))


def test_block_masks_for_the_caller_have_the_whole_mask() -> None:
    """Eager FlexAttention ignores the lists, so its function must say all."""
    mask = am.compile("causal | tail(64)")
    q, k, v = (torch.randn(1, 2, 256, 16) for _ in range(3))
    am.attention(q, k, v, mask, block=64)
    found = flex_attention(q, k, v, block_mask=mask.block_mask(256, block=64))
    torch.testing.assert_close(found, sdpa(q, k, v, mask))
