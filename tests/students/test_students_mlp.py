"""Perceptron and ensemble against torch's own modules."""

from __future__ import annotations

import copy

import pytest
import scipy.sparse as sp
import torch
from torch import Tensor, nn

from dgl_rbm.rows.sparse import SparseRows
from dgl_rbm.students.ensemble import Ensemble, EnsembleConfig
from dgl_rbm.students.mlp import MLP, MlpConfig

F, H, C = 6, 5, 3


def rows(count: int = 20) -> Tensor:
    return torch.randn(count, F, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
@pytest.mark.parametrize("num_layers", [1, 3])
def test_mlp_equals_a_stack_of_torch_layers(norm: str, num_layers: int) -> None:
    student = MLP(F, C, hidden_dim=H, num_layers=num_layers, norm=norm)
    parts: list[nn.Module] = []
    for depth, layer in enumerate(student.layers):
        parts.append(copy.deepcopy(layer))
        if depth < num_layers - 1:
            parts.extend([{"none": nn.Identity, "batch": nn.BatchNorm1d, "layer": nn.LayerNorm}[norm](H), nn.ReLU()])
            parts.append(nn.Dropout(0.3))
    reference = nn.Sequential(*parts)
    for training in (True, False):
        student.train(training)
        reference.train(training)
        torch.manual_seed(1)
        expected = reference(rows())
        torch.manual_seed(1)
        assert torch.equal(student(rows()), expected)


def test_mlp_of_one_layer_does_not_drop_its_input() -> None:
    student = MLP(F, C, num_layers=1, dropout=0.9).train()
    assert torch.equal(student(rows()), student(rows()))


def test_mlp_accepts_sparse_rows() -> None:
    student = MLP(F, C, hidden_dim=H).eval()
    x = rows() * (rows() > 0)
    gradients = []
    for values in (x, SparseRows.from_scipy(sp.csr_matrix(x.numpy()))):
        student.zero_grad()
        student(values).square().sum().backward()
        gradients.append([p.grad.clone() for p in student.parameters()])
    for dense, sparse in zip(*gradients, strict=True):
        torch.testing.assert_close(sparse, dense, rtol=1e-4, atol=1e-5)


def test_batch_norm_accepts_a_single_row() -> None:
    student = MLP(F, C, hidden_dim=H, norm="batch").train()
    before = copy.deepcopy(student.state_dict())
    student(rows(1)).sum().backward()
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())


def test_ensemble_predicts_the_mean_of_its_members() -> None:
    torch.manual_seed(0)
    student = EnsembleConfig(num_members=4).build(F, C, hidden_dim=H).eval()
    x = rows()
    expected = sum(member(x).softmax(dim=1) for member in student.members) / 4
    torch.testing.assert_close(student.predict_proba(x), expected.detach())
    torch.testing.assert_close(student(x).exp(), expected)
    assert not torch.equal(student.members[0](x), student.members[1](x))


def test_ensemble_is_finite_with_extreme_logits() -> None:
    student = Ensemble(F, C, num_members=2, num_layers=1)
    for member in student.members:
        nn.init.constant_(member.layers[0].bias, 0)
        member.layers[0].bias.data[0] = 1e4
    assert torch.isfinite(student(rows())).all()


def test_ensemble_trains_each_member_separately() -> None:
    student = EnsembleConfig(num_members=3, dropout=0.0).build(F, C, hidden_dim=H)
    output = student.training_forward(rows())
    assert len(output.heads) == 3
    output.heads[1].sum().backward()
    reached = [any(p.grad is not None for p in member.parameters()) for member in student.members]
    assert reached == [False, True, False]


def test_parameter_counts() -> None:
    one = F * H + H + H * C + C
    assert MlpConfig().build(F, C, hidden_dim=H).num_parameters() == one
    ensemble = EnsembleConfig(num_members=3).build(F, C, hidden_dim=H)
    assert ensemble.num_parameters() == ensemble.num_active_parameters() == 3 * one
