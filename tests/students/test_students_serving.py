"""Shortcuts of serving mode against the computations of training."""

from __future__ import annotations

import copy
import pickle

import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from dgl_rbm.rows.sparse import Rows, SparseRows, linear
from dgl_rbm.rows.stacked import StackedRows
from dgl_rbm.students.layers.cache import DerivedCache
from dgl_rbm.students.layers.experts import PackedExperts
from dgl_rbm.students.layers.routing import single_row_gates, top_k_gates
from dgl_rbm.students.moe import MoE
from dgl_rbm.students.rbm import RbM
from dgl_rbm.training.optimizer import _FUSED_ON_CPU, OptimizerConfig, make_optimizer


def rows_of(form: str, count: int) -> Rows:
    dense = torch.randn(count, 9).relu()
    if form == "dense":
        return dense
    sparse = SparseRows.from_scipy(sp.csr_matrix(dense.numpy()))
    return (
        sparse if form == "sparse" else StackedRows([SparseRows.from_scipy(sp.csr_matrix(dense[:, :5])), dense[:, 5:]])
    )


def trained(kind: type[RbM | MoE]) -> RbM | MoE:
    torch.manual_seed(0)
    student = kind(9, 3, hidden_dim=16, num_layers=3, num_experts=5)
    student.finish_pretraining(torch.randn(40, 9))
    with torch.no_grad():
        for parameter in student.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return student.serve()


@pytest.mark.parametrize("kind", [RbM, MoE])
@pytest.mark.parametrize("form", ["dense", "sparse", "stacked"])
@pytest.mark.parametrize("count", [1, 2, 40])
def test_predictions_are_the_same_with_and_without_gradients(kind: type[RbM | MoE], form: str, count: int) -> None:
    student = trained(kind)
    x = rows_of(form, count)
    with torch.no_grad():
        served = student(x)
    torch.testing.assert_close(served, student(x).detach(), rtol=1e-4, atol=1e-5)
    with torch.no_grad():
        torch.testing.assert_close(student.train().eval()(x), served, rtol=1e-4, atol=1e-5)


@given(st.lists(st.sampled_from([-1.0, -0.25, 0.0, 0.5, 0.75]), min_size=1, max_size=8), st.integers(1, 8))
def test_single_row_gates_equal_top_k_gates(scores: list[float], k: int) -> None:
    gates = top_k_gates(torch.tensor([scores]), k)[0]
    chosen = dict(single_row_gates(scores, k))
    assert sorted(chosen) == gates.nonzero().squeeze(1).tolist()
    for expert, gate in chosen.items():
        assert gate == pytest.approx(float(gates[expert]), rel=1e-5)


def test_a_single_sparse_row_gives_the_outputs_of_a_dense_one() -> None:
    x = rows_of("sparse", 1)
    weight, bias = torch.randn(4, 9), torch.randn(4)
    with torch.no_grad():
        torch.testing.assert_close(linear(x, weight, bias), linear(x.to_dense(), weight, bias))
    empty = SparseRows.from_scipy(sp.csr_matrix((1, 9)))
    with torch.no_grad():
        torch.testing.assert_close(linear(empty, weight, bias), bias[None])


def step(student: nn.Module) -> None:
    optimizer = make_optimizer(student.parameters(), OptimizerConfig(lr=0.1, weight_decay=0.0))
    student(torch.randn(20, 9)).square().sum().backward()
    with torch.no_grad():
        student(torch.randn(20, 9))
    optimizer.step()


def step_by_another_fused_optimizer(student: nn.Module) -> None:
    optimizer = torch.optim.Adam(student.parameters(), lr=0.1, fused=_FUSED_ON_CPU)
    # Few rows, so that the rows are scaled in place of the weights.
    student(torch.randn(3, 9)).square().sum().backward()
    optimizer.step()


def assign(student: nn.Module) -> None:
    other = trained(RbM)
    step(other)
    student.load_state_dict(other.state_dict())


def replace(student: nn.Module) -> None:
    experts: PackedExperts = student.layers[0].experts  # type: ignore[assignment, union-attr, index]
    experts.weights = nn.Parameter(experts.weights.detach() * 2)


def write(student: nn.Module) -> None:
    with torch.no_grad():
        student.layers[0].experts.attention.add_(1.0)  # type: ignore[union-attr, index]


def write_uncounted(student: RbM) -> None:
    student.layers[0].experts.attention.data.add_(1.0)  # type: ignore[union-attr, operator]
    student.serve()


@pytest.mark.parametrize("change", [step, step_by_another_fused_optimizer, assign, replace, write, write_uncounted])
def test_cached_weights_follow_every_change_of_the_parameters(change: object) -> None:
    student, x = trained(RbM), torch.randn(30, 9)

    def served() -> Tensor:
        with torch.no_grad():
            return student(x)

    before = served()
    change(student)  # type: ignore[operator]
    after = served()
    assert not torch.allclose(before, after)
    torch.testing.assert_close(after, student(x).detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(copy.deepcopy(student)(x).detach(), after, rtol=1e-4, atol=1e-5)


def test_nothing_is_cached_outside_serving_mode() -> None:
    student, x = trained(RbM).train().eval(), torch.randn(30, 9)
    with torch.no_grad():
        before = student(x)
        for parameter in student.parameters():
            parameter.data.mul_(0.5)
        assert not torch.allclose(student(x), before)
        for count in (1, 30):
            torch.testing.assert_close(student(x[:count]), student.serve()(x[:count]), rtol=1e-4, atol=1e-5)
            student.train().eval()


def test_copies_and_pickles_leave_out_cached_values() -> None:
    student, x = trained(RbM), torch.randn(1, 9)
    size = len(pickle.dumps(student))
    with torch.no_grad():
        expected = student(x)
        assert len(pickle.dumps(student)) == size
        for again in (copy.deepcopy(student), pickle.loads(pickle.dumps(student))):
            torch.testing.assert_close(again(x), expected)


def test_values_are_cached_without_gradients_and_recomputed_with_them() -> None:
    calls: list[int] = []
    source, cache = torch.ones(2), DerivedCache()
    cache.enable(True)

    def compute() -> int:
        calls.append(1)
        return len(calls)

    with torch.no_grad():
        assert cache.get([source], compute) == cache.get([source], compute) == 1
        source.add_(1)
        assert cache.get([source], compute) == 2
    assert [cache.get([source], compute) for _ in range(2)] == [3, 4]
    with torch.inference_mode():
        uncounted = torch.ones(2)
        assert [cache.get([uncounted], compute) for _ in range(2)] == [5, 6]
