"""Dispatch of rows to experts: outputs and gradients against a loop over rows and experts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dgl_rbm.rows.sparse import Rows, SparseRows
from dgl_rbm.rows.stacked import StackedRows
from dgl_rbm.students.layers import dispatch
from dgl_rbm.students.layers.dispatch import mix


def mix_one_by_one(x: Tensor, gates: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
    rows = []
    for i in range(len(x)):
        total = torch.zeros(weights.shape[2])
        for e in range(len(weights)):
            if gates[i, e] != 0:
                total = total + gates[i, e] * (x[i] @ weights[e] + bias[e])
        rows.append(total)
    return torch.stack(rows) if rows else torch.zeros(0, weights.shape[2])


def as_sparse(x: Tensor) -> Rows:
    return SparseRows.from_scipy(sp.csr_matrix(x.numpy()))


def as_stacked(x: Tensor) -> Rows:
    return StackedRows([SparseRows.from_scipy(sp.csr_matrix(x[:, :2].numpy())), x[:, 2:]])


def problem(rows: int, experts: int, active: int, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, 5, generator=generator).round()
    scores = torch.rand(rows, experts, generator=generator)
    gates = scores * (scores >= scores.topk(min(active, experts), dim=1).values[:, -1:]) if active else 0 * scores
    weights = torch.randn(experts, 5, 3, generator=generator)
    return x, gates, weights, torch.randn(experts, 3, generator=generator)


def all_at_once(yes: bool) -> Any:
    """Return a context in which one product computes all experts, as on a GPU, or not."""
    return patch.object(dispatch, "_stacks_experts", lambda device, rows, shape: yes)


def assert_same(
    form: Callable[[Tensor], Rows], rows: int, experts: int, active: int, seed: int, at_once: bool = False
) -> None:
    values = problem(rows, experts, active, seed)
    results = []
    for fast in (False, True):
        x, gates, weights, bias = (value.clone().requires_grad_() for value in values)
        # Sparse and stacked rows are constant.
        inputs = form(x.detach()) if fast and form is not torch.clone else x
        with all_at_once(at_once):
            output = (mix if fast else mix_one_by_one)(inputs, gates, weights, bias)  # type: ignore[operator]
        output.square().sum().backward()
        results.append([output, gates.grad, weights.grad, bias.grad] + ([x.grad] if form is torch.clone else []))
    for slow, ours in zip(*results, strict=True):
        torch.testing.assert_close(ours, slow, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize("form", [torch.clone, as_sparse, as_stacked])
@given(rows=st.integers(1, 9), experts=st.integers(1, 4), active=st.integers(1, 4), seed=st.integers(0, 1000))
def test_outputs_and_gradients_equal_a_loop_over_rows(
    form: Callable[[Tensor], Rows], at_once: bool, rows: int, experts: int, active: int, seed: int
) -> None:
    assert_same(form, rows, experts, active, seed, at_once)


@pytest.mark.parametrize("rows", [1, 3, 4, 5, 11])
def test_results_do_not_depend_on_the_block_size(rows: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dispatch, "_FEWEST_ROWS", 4)
    monkeypatch.setattr(dispatch, "_BLOCK_VALUES", 1)
    assert_same(torch.clone, rows, 4, 2, seed=rows)
    # Chunks of two rows.
    monkeypatch.setattr(dispatch, "_STACKED_VALUES", 2 * 4 * 5)
    assert_same(torch.clone, rows, 4, 2, seed=rows, at_once=True)


def test_rows_without_gates_give_zeros_and_experts_without_rows_are_not_computed() -> None:
    x, gates, weights, bias = problem(6, 4, 2, seed=0)
    gates[2] = 0
    gates[:, 1] = 0
    weights[1] = torch.nan
    for form in (torch.clone, as_sparse):
        mixed = mix(form(x), gates, weights, torch.where(weights[:, 0].isnan(), torch.zeros(()), bias))
        assert mixed.isfinite().all()
        assert torch.equal(mixed[2], torch.zeros(3))
    # The stacked product computes unused experts too, so they must be finite.
    with all_at_once(True):
        assert torch.equal(mix(x, gates, weights.nan_to_num(), bias.clone())[2], torch.zeros(3))


@pytest.mark.parametrize("at_once", [False, True])
def test_empty_inputs_give_empty_outputs(at_once: bool) -> None:
    _, _, weights, bias = problem(1, 3, 2, seed=0)
    weights.requires_grad_()
    with all_at_once(at_once):
        mixed = mix(torch.zeros(0, 5), torch.zeros(0, 3), weights, bias)
    assert mixed.shape == (0, 3)
    (gradient,) = torch.autograd.grad(mixed.sum(), weights)
    assert not gradient.any()


def test_a_gpu_stacks_few_experts() -> None:
    def taken(device: str, rows: int, *shape: int) -> bool:
        return dispatch._stacks_experts(torch.device(device), rows, torch.Size(shape))

    assert taken("cuda", 4096, 16, 256, 256)
    assert not taken("cuda", 4096, 17, 256, 256)
    assert not taken("cuda", 40_960, 5, 1024, 1024)
    assert not taken("cpu", 1, 2, 4, 4)


@pytest.mark.parametrize("at_once", [False, True])
def test_gradients_equal_finite_differences(at_once: bool) -> None:
    x, gates, weights, bias = (value.double().requires_grad_() for value in problem(7, 4, 2, seed=1))
    active = gates.detach() != 0
    with all_at_once(at_once):
        assert torch.autograd.gradcheck(lambda x, g, w, b: mix(x, g * active, w, b), (x, gates, weights, bias))
