"""Re-ttention's two kinds of step against a dense softmax."""

from __future__ import annotations

import pytest
import torch

import attnmask as am
from attnmask.lower.programs.rescale import Rescaled, rescale
from tests.lower.programs.by_hand import close, pairs, random, softmax_attention

N = 21
MASK = "abs(q - k) < 3 & q != 7"
NEAR = pairs(N, N, lambda i, j: abs(i - j) < 3 and i != 7)


def inputs(step: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return (
        random(2, 4, N, 6, seed=step),
        random(2, 2, N, 6, seed=step + 50),
        random(2, 2, N, 5, seed=step + 90),
    )


def test_a_full_step_and_the_sparse_ones_after_it() -> None:
    mask = am.compile(MASK)
    q, k, v = inputs(0)
    out, state = rescale(q, k, v, mask)
    full, full_lse = softmax_attention(q, k, v, torch.ones(N, N, dtype=torch.bool))
    masked, lse = softmax_attention(q, k, v, NEAR)
    rho = (lse - full_lse).exp()
    residual = full - rho[..., None] * masked
    close(out, full)
    close(state.rho, rho)
    close(state.residual, residual)
    assert (state.rho[:, :, 7] == 0).all()  # a query without keys of the mask
    for step in (1, 2, 3):
        q, k, v = inputs(step)
        out, state = rescale(q, k, v, mask, state, increment=0.125)
        masked, _ = softmax_attention(q, k, v, NEAR)
        close(out, (rho + 0.125 * (step - 1))[..., None] * masked + residual)
        close(state.residual, residual)


def test_a_sparse_step_on_the_same_input_gives_full_attention_back() -> None:
    q, k, v = inputs(4)
    mask = am.compile(MASK)
    out, state = rescale(q, k, v, mask)
    again, later = rescale(q, k, v, mask, state)
    close(again, out)
    close(later.rho, state.rho + 0.04)


def test_a_full_mask_of_ones_own_and_rows_without_any_key() -> None:
    q, k, v = (x.clone().requires_grad_() for x in inputs(5))
    out, state = rescale(q, k, v, am.compile("0 <= q - k < 3 & q > 2"), full=am.compile("causal & q > 1"))
    full, full_lse = softmax_attention(q, k, v, pairs(N, N, lambda i, j: j <= i and i > 1))
    near, lse = softmax_attention(q, k, v, pairs(N, N, lambda i, j: 0 <= i - j < 3 and i > 2))
    close(out, full)
    close(state.rho[:, :, 3:], (lse - full_lse).exp()[:, :, 3:])
    assert (state.rho[:, :, :3] == 0).all() and (state.residual[:, :, :2] == 0).all()
    close(state.residual, full - state.rho[..., None] * near)
    for gradient in torch.autograd.grad(state.rho.sum() + state.residual.square().sum(), (q, k, v)):
        assert gradient.isfinite().all()


def test_scores_of_the_mask_hold_in_the_full_step_too() -> None:
    q, k, v = inputs(6)
    out, _ = rescale(q, k, v, am.compile(f"{MASK} with s * 2"), scale=0.2)
    close(out, softmax_attention(q, k, v, torch.ones(N, N, dtype=torch.bool), scale=0.4)[0])


def test_dtypes() -> None:
    q, k, v = (x.bfloat16() for x in inputs(7))
    mask = am.compile(MASK)
    out, state = rescale(q, k, v, mask)
    assert state.rho.dtype == torch.float32 and out.dtype == state.residual.dtype == torch.bfloat16
    assert rescale(q, k, v, mask, state)[0].dtype == torch.bfloat16


def test_the_state_of_other_shapes_is_refused() -> None:
    q, k, v = inputs(8)
    state = Rescaled(torch.zeros(2, 4, N - 1), torch.zeros(2, 4, N - 1, 5))
    with pytest.raises(am.MaskError, match="the state is for outputs"):
        rescale(q, k, v, am.compile(MASK), state)


def test_kept_choices() -> None:
    """Choices made once serve the full step and the sparse ones."""
    mask = am.compile("diagonal | top(1, blocks(4, q_block=4))")
    q, k, v = inputs(9)
    kept = mask.choose(*inputs(10)[:2])
    masked = am.attention(q, k, v, mask, choices=kept, enable_gqa=True)
    full, _ = softmax_attention(q, k, v, torch.ones(N, N, dtype=torch.bool))
    out, state = rescale(q, k, v, mask, choices=kept)
    close(out, full)
    close(state.residual, full - state.rho[..., None] * masked)
    close(rescale(q, k, v, mask, state, choices=kept)[0], full)
