"""Mixtures with a shared expert, against plain loops."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from dgl_rbm.errors import ConfigError
from dgl_rbm.registry import students
from dgl_rbm.rows.sparse import SparseRows
from dgl_rbm.students.layers.experts import PackedExperts
from dgl_rbm.students.layers.residual_experts import ResidualExperts
from dgl_rbm.students.mixture import MixtureStudent
from dgl_rbm.students.rbm import RbM

F, H, C = 7, 6, 4
OPTIONS: dict[str, dict[str, Any]] = {"full": {}, "rank-2": {"expert_rank": 2}, "rank-above-width": {"expert_rank": 99}}
every = pytest.mark.parametrize("name", list(OPTIONS))


def rows(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, F, generator=torch.Generator().manual_seed(seed))


def rbm(name: str, **changes: Any) -> RbM:
    torch.manual_seed(1)
    options = {"num_experts": 5, "top_k": 2, "hidden_dim": H, "shared_expert": True, "dropout": 0.0}
    return RbM(F, C, **(options | OPTIONS[name] | changes))


def routed(name: str, **changes: Any) -> RbM:
    """Return a student after pre-training whose routed experts are not zero."""
    student = rbm(name, **changes)
    student.finish_pretraining(rows(40))
    for layer in student._stack():
        for parameter in layer.experts.parameters():
            nn.init.normal_(parameter, std=0.3)
    return student.eval()


def shared_output(shared: PackedExperts, row: Tensor) -> Tensor:
    output = (row * shared.attention[0].exp()) @ shared.weights[0] if shared.attention is not None else row
    assert shared.scale is not None
    return (output + shared.bias[0]) * shared.scale.exp()


def reference(student: RbM, x: Tensor) -> Tensor:
    """Return the logits by loops over rows, layers and experts."""
    logits = []
    for row in x:
        state = row
        for depth, layer in enumerate(student._stack()):
            gates = layer.router(state[None]).gates[0]
            assert layer.shared is not None
            total = shared_output(layer.shared, state)
            experts = layer.experts
            for e, gate in enumerate(gates):
                if isinstance(experts, ResidualExperts):
                    total = total + gate * (state @ experts.down[e] @ experts.up[e])
                else:
                    assert experts.attention is not None
                    assert experts.scale is not None
                    output = (state * experts.attention[e].exp()) @ experts.weights[e] + experts.bias[e]
                    total = total + gate * experts.scale.exp() * output
            state = total.relu() if depth + 1 < len(student.layers) else total
        logits.append(state)
    return torch.stack(logits)


@every
def test_logits_are_those_of_the_loops(name: str) -> None:
    student, x = routed(name), rows(30, seed=3)
    with torch.no_grad():
        expected = reference(student, x)
        torch.testing.assert_close(student(x), expected, rtol=1e-4, atol=1e-5)
        sparse = SparseRows.from_scipy(sp.csr_matrix(x.numpy()))
        torch.testing.assert_close(student(sparse), expected, rtol=1e-4, atol=1e-5)
        student.serve()
        one_by_one = torch.cat([student(row[None]) for row in x])
        torch.testing.assert_close(one_by_one, expected, rtol=1e-4, atol=1e-5)


@every
@pytest.mark.parametrize("kind", ["rbm", "moe"])
def test_routing_starts_with_the_predictions_of_pre_training(name: str, kind: str) -> None:
    torch.manual_seed(0)
    config = students.resolve(
        {"kind": kind, "shared_expert": True, "pretrain_epochs": 3, "hidden_dim": H, "num_layers": 3} | OPTIONS[name]
    )
    student = config.build(F, C)
    assert isinstance(student, MixtureStudent)
    x = rows(50)
    optimizer = torch.optim.SGD(student.trained_parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        student.training_forward(x).heads[0].square().mean().backward()
        optimizer.step()
        student.after_step()
    student.eval()
    with torch.no_grad():
        before = student(x)
        student.finish_pretraining(x)
        assert not student.pretraining
        torch.testing.assert_close(student(x), before, rtol=1e-5, atol=1e-6)


@every
def test_routed_experts_learn_after_pre_training(name: str) -> None:
    student, x = rbm(name, pretrain_epochs=0), rows(60)
    before = [copy.deepcopy(layer.experts.state_dict()) for layer in student._stack()]
    optimizer = torch.optim.Adam(student.trained_parameters(), lr=0.01)
    for _ in range(5):
        optimizer.zero_grad()
        output = student.training_forward(x)
        (output.heads[0][:, 0].square().mean() + sum(output.penalties.values())).backward()
        optimizer.step()
        student.after_step()
    for layer, old in zip(student._stack(), before, strict=True):
        for key, value in layer.experts.state_dict().items():
            if key not in ("attention", "scale"):
                assert not torch.equal(value, old[key]), key


@every
def test_parameters_and_multiply_adds_count_what_one_row_uses(name: str) -> None:
    student = routed(name)
    rank = min(OPTIONS[name].get("expert_rank", 0), 99)
    active, total, products = 0, 0, 0.0
    for before, after in ((F, H), (H, C)):
        shared = before * after + after + before + 1
        r = min(rank, before, after)
        expert = r * (before + after) if rank else before * after + after + before
        scale = 0 if rank else 1
        memories = 5 * before
        total += shared + 5 * expert + scale + memories
        active += shared + 2 * expert + scale + memories
        products += before * after + 5 * before + 2 * (r * (before + after) if rank else before * after)
    assert student.num_parameters() == total
    assert student.num_active_parameters() == active
    assert student.multiply_adds(torch.ones(F, dtype=torch.float64)) == products


@every
def test_a_student_in_pre_training_counts_the_shared_expert_alone(name: str) -> None:
    student = rbm(name)
    expected = sum(before * after + after + before + 1 for before, after in ((F, H), (H, C)))
    # The factor of the routed experts' outputs is a parameter of the layer.
    assert student.num_active_parameters() == expected + (0 if OPTIONS[name] else 2)
    assert student.multiply_adds(torch.ones(F, dtype=torch.float64)) == F * H + H * C


@every
@pytest.mark.parametrize("counts", [5, "auto"])
def test_state_dicts_restore_the_student(name: str, counts: Any) -> None:
    changes = {"num_experts": counts, "top_k": 2}
    student = routed(name, **changes)
    restored = rbm(name, **changes)
    restored.load_state_dict(student.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(restored.eval()(rows(9)), student(rows(9)), rtol=0, atol=0)


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 6), st.integers(1, 5), st.integers(1, 9), st.integers(0, 5))
def test_residuals_are_linear_in_the_gates(experts: int, rank: int, count: int, seed: int) -> None:
    torch.manual_seed(seed)
    layer = ResidualExperts(experts, F, C, rank=rank)
    nn.init.normal_(layer.up)
    x, first, second = rows(count), torch.rand(count, experts), torch.rand(count, experts)
    torch.testing.assert_close(
        layer(x, first + 2 * second), layer(x, first) + 2 * layer(x, second), rtol=1e-4, atol=1e-4
    )
    assert not layer(x, torch.zeros(count, experts)).any()


def test_a_rank_needs_a_shared_expert() -> None:
    with pytest.raises(ConfigError, match=r"no shared expert.*Set shared_expert"):
        students.resolve({"kind": "rbm", "expert_rank": 4})
    with pytest.raises(ConfigError, match="no shared expert"):
        RbM(F, C, expert_rank=4)
