"""Losses against their equations, written as loops."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dgl_rbm.objectives import (
    commitment_loss,
    load_balance_loss,
    perturbed_by_gradient,
    representational_similarity_loss,
    self_similarity_loss,
)

sizes = st.integers(1, 6)
seeds = st.integers(0, 2**31 - 1)


def normal(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def cosine(a: Tensor, b: Tensor) -> float:
    dot = sum(float(x) * float(y) for x, y in zip(a, b, strict=True))
    return dot / math.sqrt(sum(float(x) ** 2 for x in a) * sum(float(y) ** 2 for y in b))


@given(sizes, sizes, seeds)
def test_commitment_loss_is_the_negative_mean_gated_cosine(rows: int, experts: int, seed: int) -> None:
    cosines, gates = normal(seed, rows, experts).tanh(), torch.softmax(normal(seed + 1, rows, experts), dim=1)
    expected = -sum(float(gates[i, j] * cosines[i, j]) for i in range(rows) for j in range(experts)) / rows
    assert commitment_loss(cosines, gates).item() == pytest.approx(expected, abs=1e-12)


def test_commitment_loss_of_no_rows_is_zero() -> None:
    assert commitment_loss(torch.empty(0, 3), torch.empty(0, 3)).item() == 0


@given(sizes, st.integers(1, 5), seeds)
def test_self_similarity_loss_is_the_mean_cosine_of_all_pairs(experts: int, dim: int, seed: int) -> None:
    memory = normal(seed, experts, dim) + 0.1
    pairs = [cosine(memory[i], memory[j]) for i in range(experts) for j in range(experts)]
    assert self_similarity_loss(memory).item() == pytest.approx(sum(pairs) / experts**2, abs=1e-9)


def test_self_similarity_loss_stops_the_gradient_of_one_side() -> None:
    memory = normal(3, 4, 5).requires_grad_()
    self_similarity_loss(memory).backward()
    one_side = memory.grad
    memory.grad = None
    directions = memory / memory.norm(dim=1, keepdim=True)
    (directions @ directions.t()).mean().backward()
    # The cosine is symmetric, so each side carries half of the full gradient.
    torch.testing.assert_close(one_side, memory.grad / 2)
    assert one_side.abs().sum() > 0


@given(sizes, sizes, seeds)
def test_load_balance_loss_is_variance_over_squared_mean(rows: int, experts: int, seed: int) -> None:
    gates = torch.softmax(3 * normal(seed, rows, experts), dim=1)
    load = [sum(float(gates[i, e]) for i in range(rows)) for e in range(experts)]
    mean = sum(load) / experts
    variance = sum((value - mean) ** 2 for value in load) / experts
    assert load_balance_loss(gates).item() == pytest.approx(variance / mean**2, abs=1e-12)


def test_load_balance_loss_ranges_from_equal_load_to_one_loaded_expert() -> None:
    assert load_balance_loss(torch.full((6, 4), 0.25)).item() == 0
    assert load_balance_loss(torch.eye(4)[[2, 2, 2]]).item() == pytest.approx(3)
    assert load_balance_loss(torch.zeros(0, 4)).item() == 0


@given(seeds, sizes, st.booleans())
def test_similarity_compares_every_pair_of_rows(seed: int, rows: int, normalize: bool) -> None:
    student, teacher = normal(seed, rows, 4), normal(seed + 1, rows, 3)
    expected = 0.0
    for u in range(rows):
        for v in range(rows):
            if normalize:
                difference = cosine(student[u], student[v]) - cosine(teacher[u], teacher[v])
            else:
                difference = float(student[u] @ student[v]) - float(teacher[u] @ teacher[v])
            expected += difference**2 / rows**2
    found = representational_similarity_loss(student, teacher, normalize=normalize)
    assert float(found) == pytest.approx(expected, abs=1e-9)


@given(seeds)
def test_similarity_is_invariant_to_rotation_and_has_no_gradient_for_the_teacher(seed: int) -> None:
    student = normal(seed, 5, 4).requires_grad_(True)
    teacher = normal(seed + 1, 5, 4).requires_grad_(True)
    turn, _ = torch.linalg.qr(normal(seed + 2, 4, 4))
    loss = representational_similarity_loss(student, teacher)
    torch.testing.assert_close(representational_similarity_loss(student @ turn, teacher), loss)
    loss.backward()
    assert teacher.grad is None
    assert student.grad is not None
    assert float(representational_similarity_loss((teacher @ turn).detach(), teacher)) == pytest.approx(0, abs=1e-9)
    assert float(representational_similarity_loss(student[:0], teacher[:0]).detach()) == 0


@given(seeds, st.integers(1, 6))
def test_perturbed_rows_follow_the_sign_of_the_gradient_within_the_box(seed: int, steps: int) -> None:
    rows, direction = normal(seed, 4, 3), normal(seed + 1, 3)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        start = (2 * torch.rand(4, 3) - 1).double() * 0.2
        torch.manual_seed(seed)
        moved = perturbed_by_gradient(lambda x: (x @ direction).sum(), rows, radius=0.2, steps=steps, step_size=0.05)
    # A linear loss has a constant gradient, so every entry moves in a straight line until the box clips it.
    expected = start.clone()
    for i in range(4):
        for j in range(3):
            for _ in range(steps):
                walked = float(expected[i, j]) + 0.05 * math.copysign(1, float(direction[j]))
                expected[i, j] = min(0.2, max(-0.2, walked))
    torch.testing.assert_close(moved, rows + expected, atol=1e-6, rtol=0)
    assert not moved.requires_grad
