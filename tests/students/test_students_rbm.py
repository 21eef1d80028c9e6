"""Mixtures of experts: phases, memory updates, saved states, invariances and parameter counts."""

from __future__ import annotations

import copy
import io
import math

import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import relu

from dgl_rbm.errors import ConfigError
from dgl_rbm.objectives import commitment_loss, load_balance_loss, self_similarity_loss
from dgl_rbm.registry import students
from dgl_rbm.rows.sparse import SparseRows
from dgl_rbm.students.layers.kmeans import kmeans_centres
from dgl_rbm.students.layers.memory import annealed_momentum
from dgl_rbm.students.mixture import MixtureStudent
from dgl_rbm.students.moe import MoE
from dgl_rbm.students.rbm import RbM

F, H, C = 6, 5, 3


def rows(count: int = 40, seed: int = 0) -> Tensor:
    return torch.randn(count, F, generator=torch.Generator().manual_seed(seed))


def make(kind: str = "rbm", *, routed: bool = True, **options: object) -> MixtureStudent:
    torch.manual_seed(3)
    make_student = RbM if kind == "rbm" else MoE
    defaults = {"hidden_dim": H, "num_layers": 3, "num_experts": 4, "top_k": 2, "pretrain_epochs": 2}
    student = make_student(F, C, **(defaults | options))
    if routed:
        student.finish_pretraining(rows(60, seed=9))
        for parameter in student.parameters():
            # Identical experts would hide wrong routing.
            parameter.data += 0.1 * torch.randn_like(parameter)
    return student


def memories(student: RbM) -> list[Tensor]:
    return [memory.vectors.detach().clone() for memory in student.memories()]


def train_step(student: MixtureStudent, x: object) -> None:
    student.train()
    optimizer = torch.optim.SGD(student.parameters(), lr=0.01)
    output = student.training_forward(x)
    (output.heads[0].square().mean() + sum(output.penalties.values())).backward()
    optimizer.step()
    student.after_step()


def expert_zero(student: RbM, x: Tensor) -> Tensor:
    """Return the logits of an MLP with the scaled weights of each layer's first expert."""
    hidden = x
    for depth, layer in enumerate(student.layers):
        experts = layer.experts
        hidden = (experts.attention[0].exp() * hidden) @ experts.weights[0] + experts.bias[0]
        hidden = experts.scale.exp() * hidden
        if depth < len(student.norms):
            hidden = relu(student.norms[depth](hidden))
    return hidden


@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
def test_pretraining_is_an_mlp_of_the_first_experts(norm: str) -> None:
    student, x = make(routed=False, norm=norm).eval(), rows()
    assert student.pretraining
    torch.testing.assert_close(student(x), expert_zero(student, x))
    student.train()
    before = memories(student)
    output = student.training_forward(x)
    assert not output.penalties
    output.heads[0].sum().backward()
    student.after_step()
    assert all(torch.equal(a, b) for a, b in zip(memories(student), before, strict=True))
    for layer in student.layers:
        assert not layer.experts.weights.grad[1:].any()
        assert layer.router.memory.vectors.grad is None


def test_one_expert_is_a_scaled_mlp() -> None:
    student, x = make(num_experts=1, top_k=1).eval(), rows()
    torch.testing.assert_close(student(x), expert_zero(student, x))


def test_finishing_pretraining_keeps_the_function_and_centres_the_memories() -> None:
    student, x = make(routed=False, norm="batch"), rows()
    student.train()
    student(x)
    student.eval()
    before = student(x)
    student.train()
    torch.manual_seed(5)
    student.finish_pretraining(x)
    assert not student.pretraining
    assert student.training
    student.eval()
    # Outputs stay equal: all experts are copies, and gates sum to one.
    torch.testing.assert_close(student(x), before, rtol=1e-4, atol=1e-5)
    torch.manual_seed(5)
    hidden = x
    for depth, layer in enumerate(student.layers):
        for packed in (layer.experts.weights, layer.experts.bias, layer.experts.attention):
            assert all(torch.equal(packed[0], part) for part in packed)
        centres = torch.nn.functional.normalize(kmeans_centres(hidden, 4))
        torch.testing.assert_close(layer.router.memory.vectors.detach(), centres)
        hidden = layer(hidden)[0]
        if depth < len(student.norms):
            hidden = relu(student.norms[depth](hidden))


def test_finishing_twice_or_without_pretraining_changes_nothing() -> None:
    for student in (make(), make(routed=False, pretrain_epochs=0), make("moe", routed=False, pretrain_epochs=0)):
        assert not student.pretraining
        before = copy.deepcopy(student.state_dict())
        student.finish_pretraining(rows())
        assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())


def test_moe_can_be_pretrained_too() -> None:
    student, x = make("moe", routed=False), rows()
    assert student.pretraining
    student.finish_pretraining(x)
    student.eval()
    first = student.layers[0]
    torch.testing.assert_close(first(x)[0], first.forward_first(x))


@pytest.mark.parametrize("routed", [False, True])
@pytest.mark.parametrize("kind", ["rbm", "moe"])
def test_a_loaded_student_has_the_phase_of_the_saved_one(kind: str, routed: bool) -> None:
    student, x = make(kind, routed=routed, norm="batch").eval(), rows()
    file = io.BytesIO()
    torch.save(student.state_dict(), file)
    file.seek(0)
    torch.manual_seed(99)
    other = make(kind, routed=not routed, norm="batch").eval()
    other.load_state_dict(torch.load(file, weights_only=True), strict=True)
    assert other.pretraining is not routed
    assert torch.equal(other(x), student(x))
    assert other.num_active_parameters() == student.num_active_parameters()


def test_after_step_is_equation_4_on_the_layers_inputs() -> None:
    student, x = make(dropout=0.0, self_similarity_weight=0.0, annealing=0.5, annealing_epochs=10), rows()
    student.train()
    student.start_epoch(4)
    expected, hidden = [], x
    for depth, layer in enumerate(student.layers):
        output, routing = layer(hidden)
        memory = copy.deepcopy(layer.router.memory)
        memory.update(hidden.detach(), routing.gates.detach(), annealed_momentum(4, student.memory_momentum, 0.5, 10))
        expected.append(memory.vectors.detach())
        hidden = relu(student.norms[depth](output)) if depth < len(student.norms) else output
    before = memories(student)
    student.training_forward(x)
    student.after_step()
    for now, wanted, old in zip(memories(student), expected, before, strict=True):
        torch.testing.assert_close(now, wanted)
        assert not torch.allclose(now, old)
    again = memories(student)
    student.after_step()
    assert all(torch.equal(a, b) for a, b in zip(memories(student), again, strict=True))


def test_memories_move_to_the_rows_of_the_last_training_forward_only() -> None:
    student, x = make(dropout=0.0).train(), rows()
    other = copy.deepcopy(student)
    student.training_forward(rows(seed=5))
    student(rows(seed=6))
    student.training_forward(x)
    student(rows(seed=7))
    student.after_step()
    other.training_forward(x)
    other.after_step()
    assert all(torch.equal(a, b) for a, b in zip(memories(student), memories(other), strict=True))


def test_evaluation_does_not_change_memories() -> None:
    student, x = make(), rows()
    before = copy.deepcopy(student.state_dict())
    student.eval()
    student(x)
    student.training_forward(x)
    student.after_step()
    student.predict_proba(x)
    student.train()
    student(x)
    student.after_step()
    student.training_forward(x)
    student.eval()
    student.after_step()
    student.training_forward(x)
    student.train()
    student.after_step()
    assert all(torch.equal(value, before[name]) for name, value in student.state_dict().items())


def test_an_expert_without_rows_keeps_its_memory_and_gets_no_gradient() -> None:
    student = make(num_layers=1, self_similarity_weight=0.0)
    x = rows().abs()
    memory = student.memories()[0]
    with torch.no_grad():
        memory.vectors.copy_(torch.cat([torch.eye(3, F).abs(), -torch.ones(1, F)]))
    before = memory.vectors.detach().clone()
    train_step(student, x)
    assert torch.equal(memory.vectors[3], before[3])
    assert not torch.equal(memory.vectors[:3], before[:3])
    assert not student.layers[0].experts.weights.grad[3].any()


def test_penalties_are_the_weighted_sums_over_layers() -> None:
    student = make(commitment_weight=0.3, self_similarity_weight=0.2, load_balance_weight=0.7, dropout=0.0).train()
    x = rows()
    expected, hidden = torch.zeros(3), x
    for depth, layer in enumerate(student.layers):
        output, routing = layer(hidden)
        expected += torch.stack(
            [
                0.3 * commitment_loss(*routing),
                0.2 * self_similarity_loss(layer.router.memory.vectors),
                0.7 * load_balance_loss(routing.gates),
            ]
        ).detach()
        hidden = relu(output) if depth < 2 else output
    penalties = student.training_forward(x).penalties
    actual = torch.stack([penalties[name] for name in ("commitment", "self_similarity", "load_balance")])
    torch.testing.assert_close(actual.detach(), expected)
    assert set(make("moe").train().training_forward(x).penalties) == {"load_balance"}


def test_only_the_self_similarity_loss_trains_memories() -> None:
    gradients = []
    for weight in (0.0, 0.5):
        student = make(self_similarity_weight=weight, dropout=0.0).train()
        output = student.training_forward(rows())
        (output.heads[0].square().mean() + sum(output.penalties.values())).backward()
        gradients.append([memory.vectors.grad for memory in student.memories()])
    assert not any(gradient.any() for gradient in gradients[0])
    for gradient, memory in zip(gradients[1], student.memories(), strict=True):
        vectors = memory.vectors.detach().requires_grad_()
        (expected,) = torch.autograd.grad(0.5 * self_similarity_loss(vectors), vectors)
        torch.testing.assert_close(gradient, expected)


@settings(max_examples=10)
@given(st.integers(0, 1000), st.sampled_from(["rbm", "moe"]), st.booleans())
def test_predictions_do_not_depend_on_the_batch(seed: int, kind: str, routed: bool) -> None:
    student, x = make(kind, routed=routed, norm="batch").eval(), rows(12, seed)
    together = student(x)
    torch.testing.assert_close(torch.cat([student(row[None]) for row in x]), together, rtol=1e-5, atol=1e-5)
    order = torch.randperm(12)
    torch.testing.assert_close(student(x[order]), together[order], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kind", ["rbm", "moe"])
@pytest.mark.parametrize("routed", [False, True])
def test_sparse_rows_train_like_dense_rows(kind: str, routed: bool) -> None:
    x = rows() * (rows(seed=1) > 0)
    states = []
    for values in (x, SparseRows.from_scipy(sp.csr_matrix(x.numpy()))):
        student = make(kind, routed=routed, dropout=0.0)
        train_step(student, values)
        if not routed:
            student.finish_pretraining(values)
        states.append(student.eval().state_dict() | {"output": student(values)})
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["rbm", "moe"])
@pytest.mark.parametrize("norm", ["none", "batch", "layer"])
@pytest.mark.parametrize("routed", [False, True])
def test_single_rows_and_zero_rows_train(kind: str, norm: str, routed: bool) -> None:
    for x in (rows(1), torch.zeros(3, F)):
        student = make(kind, norm=norm, routed=routed)
        train_step(student, x)
        if not routed:
            student.finish_pretraining(x)
        assert all(torch.isfinite(value).all() for value in student.state_dict().values())
        assert torch.isfinite(student.eval()(x)).all()


@pytest.mark.parametrize("kind", ["rbm", "moe"])
@pytest.mark.parametrize("routed", [False, True])
def test_inputs_are_not_dropped(kind: str, routed: bool) -> None:
    x = rows()
    shallow = make(kind, routed=routed, num_layers=1, dropout=0.9).train()
    assert torch.equal(shallow(x), shallow(x))
    deep = make(kind, routed=routed, num_layers=2, dropout=0.9).train()
    assert not torch.equal(deep(x), deep(x))


def test_attention_is_capped_after_a_step() -> None:
    student = make().train()
    with torch.no_grad():
        student.layers[0].experts.attention.fill_(9.0)
    student.after_step()
    assert student.layers[0].experts.attention.max().item() == pytest.approx(math.log(100))


@pytest.mark.parametrize("attention", [True, False])
def test_rbm_parameter_counts_follow_table_9(attention: bool) -> None:
    E, k = 5, 3
    student = make(num_experts=E, top_k=k, num_layers=2, input_attention=attention, routed=False)
    total = active = first = 0
    for width, out in ((F, H), (H, C)):
        one = width * out + out + (width if attention else 0)
        # Table 9 counts the memory, E·F; the bias has one entry per output, and each layer has one scale.
        total += E * one + E * width + 1
        active += k * one + E * width + 1
        first += one + 1
    assert student.num_parameters() == total
    assert student.num_active_parameters() == first
    student.finish_pretraining(rows())
    assert student.num_active_parameters() == active


def test_moe_parameter_counts_follow_table_9() -> None:
    E, k, D = 8, 3, 4
    student = make("moe", num_experts=E, top_k=k, num_layers=2, routing_dim=D)
    widths = ((F, H), (H, C))
    assert student.num_parameters() == sum(E * (n * m + m) + D * (n + E) for n, m in widths)
    assert student.num_active_parameters() == sum(k * (n * m + m) + D * (n + E) for n, m in widths)


@pytest.mark.parametrize("kind", ["rbm", "moe"])
def test_top_k_above_the_number_of_experts_raises(kind: str) -> None:
    with pytest.raises(ConfigError, match=r"top_k \(9\) is larger than num_experts \(8\)"):
        students.resolve({"kind": kind, "top_k": 9, "num_experts": 8})


@pytest.mark.parametrize("kind", ["rbm", "moe"])
def test_training_lowers_the_loss_through_both_phases(kind: str) -> None:
    x = rows(120)
    labels = (x[:, 0] > 0).long() + (x[:, 1] > 0).long()
    student = make(kind, routed=False, hidden_dim=16, dropout=0.0)
    losses = []
    for epoch in range(40):
        if epoch in (0, 10):
            if epoch == 10:
                student.finish_pretraining(x)
            optimizer = torch.optim.Adam(student.parameters(), lr=0.01)
        student.train()
        student.start_epoch(epoch)
        output = student.training_forward(x)
        loss = torch.nn.functional.cross_entropy(output.heads[0], labels)
        optimizer.zero_grad()
        (loss + sum(output.penalties.values())).backward()
        optimizer.step()
        student.after_step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    assert (student.predict(x) == labels).float().mean() > 0.9


@pytest.mark.parametrize("kind", ["rbm", "moe"])
def test_routings_are_those_of_the_prediction(kind: str) -> None:
    student, x = students.resolve(kind).build(5, 3, hidden_dim=8, num_layers=2), torch.randn(7, 5)
    assert (student.routings(x) == []) == student.pretraining
    student.finish_pretraining(x)
    student.train()
    passes = student.routings(x)
    assert student.training
    rows: torch.Tensor = x
    student.eval()
    for depth, (layer, (seen, routing)) in enumerate(zip(student.layers, passes, strict=True)):
        torch.testing.assert_close(seen, rows)
        output, expected = layer(rows)
        torch.testing.assert_close(routing.gates, expected.gates)
        rows = torch.relu(output) if depth == 0 else output
    torch.testing.assert_close(rows, student(x))
