"""Merging against one softmax over the union, and gated sums against a loop."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import attnmask as am
from attnmask.lower.programs.combine import gated_sum, merge
from tests.lower.programs.by_hand import close, random, softmax_attention

Tensor = torch.Tensor


def split(n_keys: int, n_parts: int, q_len: int, seed: int) -> list[Tensor]:
    """Disjoint sets [Q, K] in which some rows have no key, and some have none in any set."""
    owner = torch.randint(0, n_parts + 1, (q_len, n_keys), generator=torch.Generator().manual_seed(seed))
    owner[seed % q_len] = n_parts
    return [owner == part for part in range(n_parts)]


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 4), st.integers(1, 9), st.integers(1, 5), st.integers(0, 1000))
def test_merge_is_one_softmax_over_the_union(n_parts: int, n_keys: int, q_len: int, seed: int) -> None:
    q, k, v = (
        random(2, 4, q_len, 3, seed=seed),
        random(2, 2, n_keys, 3, seed=1),
        random(2, 2, n_keys, 5, seed=2),
    )
    sets = split(n_keys, n_parts, q_len, seed)
    out, lse = merge([softmax_attention(q, k, v, seen) for seen in sets])
    union = torch.stack(sets).any(dim=0)
    expected, expected_lse = softmax_attention(q, k, v, union)
    close(out, expected)
    close(lse, expected_lse)
    empty = ~union.any(dim=-1)
    assert empty.any() and (out[:, :, empty] == 0).all() and (lse[:, :, empty] == -torch.inf).all()


def test_merge_of_large_scores_neither_overflows_nor_loses_the_small_part() -> None:
    q, k, v = random(1, 1, 3, 2) * 900, random(1, 1, 6, 2, seed=1), random(1, 1, 6, 2, seed=2)
    first = torch.arange(6) < 2
    scores = q @ k.transpose(-1, -2)
    assert scores.abs().max() > 710  # past what exp takes in double precision
    parts = []
    for seen in (first, ~first):
        kept = scores.masked_fill(~seen, -torch.inf)
        parts.append((torch.softmax(kept, -1) @ v, kept.logsumexp(-1)))
    out, lse = merge(parts)
    close(out, torch.softmax(scores, -1) @ v)
    close(lse, scores.logsumexp(-1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_merge_keeps_the_dtype_and_computes_in_float32(dtype: torch.dtype) -> None:
    outs = [random(1, 2, 5, 4, seed=seed, dtype=dtype) for seed in (1, 2)]
    sizes = [random(1, 2, 5, seed=seed, dtype=torch.float32) for seed in (3, 4)]
    out, lse = merge(list(zip(outs, sizes, strict=True)))
    assert out.dtype == dtype and lse.dtype == torch.float32
    weights = torch.softmax(torch.stack(sizes).double(), dim=0)[..., None]
    close(out, (weights * torch.stack(outs).double()).sum(dim=0), 1e-6 if dtype == torch.float32 else 1e-2)


def test_merge_does_not_look_at_outputs_without_keys() -> None:
    """Other libraries leave NaN there."""
    out, size = random(1, 1, 2, 3), random(1, 1, 2, seed=1)
    broken = torch.full_like(out, torch.nan).requires_grad_()
    nothing = torch.full_like(size, -torch.inf)
    merged, lse = merge([(broken, nothing), (out, size)])
    close(merged, out)
    close(lse, size)
    (gradient,) = torch.autograd.grad(merged.sum() + lse.sum(), broken)
    assert (gradient == 0).all()


def masked_merge(hidden: tuple[Tensor, Tensor], *tensors: Tensor) -> tuple[Tensor, Tensor]:
    """merge of two parts, with lse -inf where `hidden` says; what is -inf itself has no finite difference."""
    first, first_lse, second, second_lse = tensors
    sizes = [lse.masked_fill(h, -torch.inf) for lse, h in zip((first_lse, second_lse), hidden, strict=True)]
    out, lse = merge([(first, sizes[0]), (second, sizes[1])])
    return out, torch.where(lse == -torch.inf, 0.0, lse)


def test_gradients_of_merge_with_rows_that_see_nothing() -> None:
    hidden = (torch.tensor([[[False, True, False, True]]]), torch.tensor([[[False, False, True, True]]]))
    shapes = ((1, 1, 4, 2), (1, 1, 4), (1, 1, 4, 2), (1, 1, 4))
    tensors = tuple(random(*shape, seed=seed, grad=True) for seed, shape in enumerate(shapes))
    assert torch.autograd.gradcheck(lambda *given: masked_merge(hidden, *given), tensors)
    assert torch.autograd.gradgradcheck(lambda *given: masked_merge(hidden, *given), tensors)


def test_gradients_at_minus_infinity_are_zero_and_not_nan() -> None:
    tensors = [random(1, 1, 3, 2, seed=seed, grad=True) for seed in (0, 1)]
    sizes = [
        torch.tensor([[row]], requires_grad=True)
        for row in ([0.5, -torch.inf, -torch.inf], [1.0, 2.0, -torch.inf])
    ]
    out, _ = merge(list(zip(tensors, sizes, strict=True)))
    for gradient in torch.autograd.grad(out.square().sum(), [*tensors, *sizes]):
        assert gradient.isfinite().all()
        assert (gradient[:, :, 2] == 0).all()


@pytest.mark.parametrize(
    ("parts", "says"),
    [
        ([], "nothing to combine"),
        ([((1, 1, 3, 2), (1, 1, 3)), ((1, 1, 4, 2), (1, 1, 4))], "part 1 has shape (1, 1, 4, 2)"),
        ([((1, 1, 3, 2), (1, 1, 3, 1))], "lse 0 has shape (1, 1, 3, 1)"),
    ],
)
def test_parts_that_do_not_merge(parts: list[tuple[tuple[int, ...], tuple[int, ...]]], says: str) -> None:
    with pytest.raises(am.MaskError) as error:
        merge([(torch.zeros(out), torch.zeros(lse)) for out, lse in parts])
    assert says in error.value.message


def test_gated_sum() -> None:
    outs = [random(2, 3, 5, 4, seed=seed) for seed in range(3)]
    per_query, per_head = random(2, 3, 5, seed=7), random(3, 1, seed=8)
    found = gated_sum(outs, [per_query, per_head, 0.5])
    for b in range(2):
        for h in range(3):
            for i in range(5):
                expected = per_query[b, h, i] * outs[0][b, h, i] + per_head[h, 0] * outs[1][b, h, i]
                close(found[b, h, i], expected + 0.5 * outs[2][b, h, i])


def test_gradients_of_gated_sum() -> None:
    outs = [random(1, 2, 3, 2, seed=seed, grad=True) for seed in range(2)]
    gates = [random(1, 2, 3, seed=5, grad=True), random(2, 1, seed=6, grad=True)]
    assert torch.autograd.gradcheck(lambda *given: gated_sum(given[:2], given[2:]), (*outs, *gates))


@pytest.mark.parametrize(
    ("outs", "gates", "says"),
    [
        ([], [], "nothing to combine"),
        ([(1, 2, 3, 4)], [], "1 branches and 0 gates"),
        ([(1, 2, 3, 4)], [(1, 2, 4)], "gate 0 has shape (1, 2, 4)"),
        ([(1, 2, 3, 4)], [(1, 2, 3, 1)], "gate 0 has shape (1, 2, 3, 1)"),
        ([(1, 2, 3, 4)], [(5, 1, 2, 3)], "gate 0 has shape (5, 1, 2, 3)"),
        ([(1, 2, 3, 4), (1, 2, 5, 4)], [(3,), (5,)], "part 1 has shape"),
    ],
)
def test_gates_that_do_not_fit(outs: list[tuple[int, ...]], gates: list[tuple[int, ...]], says: str) -> None:
    with pytest.raises(am.MaskError) as error:
        gated_sum([torch.zeros(shape) for shape in outs], [torch.zeros(shape) for shape in gates])
    assert says in error.value.message
