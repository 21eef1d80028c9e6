"""Multiply-adds and parameters against counts by hand and by hooks, and widths for a given number of parameters."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from torch import Tensor, nn

from dgl_rbm.errors import ConfigError
from dgl_rbm.evaluation.complexity import (
    column_shares,
    complexity,
    multiply_adds,
    skeleton,
    width_for_active_parameters,
)
from dgl_rbm.registry import students
from dgl_rbm.rows.sparse import SparseRows
from dgl_rbm.rows.stacked import hstack
from dgl_rbm.students.base import Student

KINDS = ["mlp", "ensemble", "moe", "rbm"]


def config_of(kind: str, **options: Any) -> Any:
    return students.resolve({"kind": kind, **options})


class LinearTwin(nn.Module):
    """Single-row prediction of any student in terms of `nn.Linear` alone; hooks count its multiply-adds."""

    def __init__(self, student: Student) -> None:
        super().__init__()
        self.student = student
        self.counted = 0

    def linear(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        layer = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
        layer.weight = nn.Parameter(weight.detach())
        if bias is not None:
            layer.bias = nn.Parameter(bias.detach())
        layer.register_forward_hook(self.count)
        return layer(x)

    def count(self, layer: Any, inputs: Any, output: Tensor) -> None:
        # One multiply-add for each pair of a non-zero input and an output.
        self.counted += int((inputs[0] != 0).sum()) * output.shape[1]

    def forward(self, x: Tensor) -> Tensor:
        return self.of_any(self.student, x)

    def of_any(self, student: Any, x: Tensor) -> Tensor:
        if student.kind == "ensemble":
            return torch.stack([self.of_any(member, x).softmax(dim=1) for member in student.members]).mean(dim=0).log()
        hidden = x
        for depth, layer in enumerate(student.layers):
            if depth:
                hidden = torch.relu(hidden)
            hidden = self.linear(hidden, layer.weight, layer.bias) if student.kind == "mlp" else self.mix(layer, hidden)
        return hidden

    def mix(self, layer: Any, x: Tensor) -> Tensor:
        learned = hasattr(layer.router, "projection")
        seen = self.linear(x, layer.router.projection.weight) if learned else x
        embeddings = layer.router.embeddings if learned else layer.router.memory.vectors
        unit = embeddings / embeddings.norm(dim=1, keepdim=True)
        cosines = self.linear(seen, unit)[0] / seen.norm()
        kept = cosines.sort(descending=True).indices[: layer.router.top_k]
        gates = cosines[kept].softmax(dim=0)
        experts = layer.experts
        mixed = torch.zeros(1, experts.bias.shape[1])
        for expert, gate in zip(kept.tolist(), gates, strict=True):
            weight = experts.weights[expert].t()
            if experts.attention is not None:
                weight = weight * experts.attention[expert].exp()
            mixed = mixed + gate * self.linear(x, weight, experts.bias[expert])
        return mixed if experts.scale is None else mixed * experts.scale.exp()


@pytest.mark.parametrize("kind", KINDS)
@given(
    in_dim=st.integers(1, 7),
    width=st.integers(1, 6),
    layers=st.integers(1, 3),
    classes=st.integers(1, 4),
    seed=st.integers(0, 99),
)
def test_multiply_adds_equal_those_counted_by_hooks(
    kind: str, in_dim: int, width: int, layers: int, classes: int, seed: int
) -> None:
    """The twin has the same logits and as many multiply-adds as the rule states.

    The rule counts hidden activations that happen to be zero, so all weights are made positive to avoid zeros.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        student = config_of(kind, pretrain_epochs=0, num_experts=5, top_k=2).build if kind in ("moe", "rbm") else None
        build = student or config_of(kind).build
        made = build(in_dim, classes, hidden_dim=width, num_layers=layers).eval()
        with torch.no_grad():
            for parameter in made.parameters():
                parameter.abs_()
        x = torch.rand(1, in_dim) + 0.1
        twin = LinearTwin(made)
        with torch.no_grad():
            assert torch.allclose(twin(x), made(x), atol=1e-4)
        assert multiply_adds(made) == twin.counted
        # A row with a single stored entry.
        x[0, 1:] = 0
        again = LinearTwin(made)
        again(x)
        assert multiply_adds(made, shares=torch.eye(in_dim)[0]) == again.counted


def test_multiply_adds_by_hand() -> None:
    # 10 columns, 4 hidden, 3 classes.
    sizes: dict[str, Any] = {"hidden_dim": 4, "num_layers": 2}
    assert multiply_adds(config_of("mlp").build(10, 3, **sizes)) == 10 * 4 + 4 * 3
    assert multiply_adds(config_of("ensemble", num_members=3).build(10, 3, **sizes)) == 3 * (10 * 4 + 4 * 3)
    mixture = {"num_experts": 6, "top_k": 3, "pretrain_epochs": 0}
    rbm = config_of("rbm", **mixture).build(10, 3, **sizes)
    assert multiply_adds(rbm) == 10 * 6 + 3 * 10 * 4 + 4 * 6 + 3 * 4 * 3
    # 2 stored entries per row of 10 columns; the second layer stays dense.
    stored = torch.tensor([0.5] * 3 + [0.0] * 6 + [0.5])
    assert multiply_adds(rbm, shares=stored) == 2 * 6 + 3 * 2 * 4 + 4 * 6 + 3 * 4 * 3
    moe = config_of("moe", routing_dim=5, **mixture).build(10, 3, **sizes)
    assert multiply_adds(moe) == (10 * 5 + 5 * 6) + 3 * 10 * 4 + (4 * 5 + 5 * 6) + 3 * 4 * 3
    before = config_of("rbm", num_experts=6, pretrain_epochs=2).build(10, 3, **sizes)
    assert multiply_adds(before) == 10 * 4 + 4 * 3


def test_parameters_by_hand() -> None:
    # Table 9 of the paper, with the bias of a layer counted as N: (F + 1)·N, and F each for attention and memory.
    made = config_of("rbm", num_experts=6, top_k=3, pretrain_epochs=0).build(10, 3, hidden_dim=4, num_layers=2)
    found = complexity(made)
    assert found.parameters == 6 * (11 * 4 + 10 + 10) + 1 + 6 * (5 * 3 + 4 + 4) + 1
    assert found.active_parameters == 3 * (11 * 4 + 10) + 6 * 10 + 1 + 3 * (5 * 3 + 4) + 6 * 4 + 1
    assert found.multiply_adds == multiply_adds(made)


def test_column_shares_of_every_row_format() -> None:
    dense = torch.tensor([[0.0, 1.0, 2.0], [0.0, 0.0, 3.0]])
    sparse = SparseRows.from_scipy(csr_matrix(dense.numpy()))
    assert column_shares(dense).tolist() == [1, 1, 1]
    assert column_shares(sparse).tolist() == [0, 0.5, 1]
    assert column_shares(hstack(sparse, torch.zeros(2, 4))).tolist() == [0, 0.5, 1, 1, 1, 1, 1]
    assert column_shares(SparseRows.from_scipy(csr_matrix((0, 3), dtype="float32"))).tolist() == [0, 0, 0]


@pytest.mark.parametrize("router_inputs", ["all", "encoding", "features"])
@pytest.mark.parametrize("expert_inputs", ["all", "features"])
def test_only_the_columns_that_a_layer_reads_count(router_inputs: str, expert_inputs: str) -> None:
    """Rows of 8 sparse and 3 dense columns; the reference counts row by row."""
    features = csr_matrix(torch.bernoulli(torch.full((20, 8), 0.2), generator=torch.Generator().manual_seed(0)).numpy())
    rows = hstack(SparseRows.from_scipy(features), torch.ones(20, 3))
    columns = {"router_inputs": router_inputs, "expert_inputs": expert_inputs, "encoding_dim": 3}
    made = config_of("rbm", num_experts=4, top_k=2, pretrain_epochs=0, **columns).build(11, 5, num_layers=1)
    total = 0
    for row in range(20):
        stored = features[row].nnz
        read = {"all": stored + 3, "encoding": 3, "features": stored}
        total += 4 * read[router_inputs] + 2 * 5 * read[expert_inputs]
    assert multiply_adds(made, shares=column_shares(rows)) == pytest.approx(total / 20)
    made.routed.fill_(False)
    fed = features.nnz / 20 + (3 if expert_inputs == "all" else 0)
    assert multiply_adds(made, shares=column_shares(rows)) == pytest.approx(5 * fed)


def test_the_error_names_a_student_that_does_not_count() -> None:
    class Own(Student):
        pass

    with pytest.raises(ConfigError, match="Own"):
        multiply_adds(Own(3, 2))


@pytest.mark.parametrize("kind", KINDS)
def test_skeletons_have_the_complexity_of_the_real_student(kind: str) -> None:
    config = config_of(kind)
    state = torch.get_rng_state()
    bones = complexity(skeleton(config, 12, 3, hidden_dim=7, num_layers=3))
    assert torch.equal(torch.get_rng_state(), state)
    real = config.build(12, 3, hidden_dim=7, num_layers=3)
    if kind == "rbm":
        real.finish_pretraining(torch.randn(30, 12))
    assert bones == complexity(real)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("wanted", [1, 400, 5000, 33_333])
def test_no_other_width_is_closer(kind: str, wanted: int) -> None:
    config = config_of(kind)
    found = width_for_active_parameters(config, 12, 3, wanted)

    def distance(width: int) -> int:
        return abs(skeleton(config, 12, 3, hidden_dim=width).num_active_parameters() - wanted)

    assert distance(found) == min(distance(width) for width in range(max(1, found - 3), found + 4))
