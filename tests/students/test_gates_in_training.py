"""Gates of the mix in training, against plain loops: soft routing and expert dropout."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dgl_rbm.registry import students
from dgl_rbm.students.base import Student
from dgl_rbm.students.layers.mixture import drop_gates
from dgl_rbm.students.mixture import MixtureStudent

F, H, C, E, K, EPOCHS = 6, 5, 3, 4, 2, 8
KINDS: dict[str, dict[str, Any]] = {
    "rbm": {"kind": "rbm"},
    "rbm-learned": {"kind": "rbm", "learn_gate_scale": True, "gate_scale": 3.0},
    "rbm-residual": {"kind": "rbm", "shared_expert": True, "expert_rank": 2},
    "moe": {"kind": "moe"},
}
every = pytest.mark.parametrize("name", list(KINDS))


def rows(count: int, seed: int = 0) -> Tensor:
    return torch.randn(count, F, generator=torch.Generator().manual_seed(seed))


def make(name: str, **changes: Any) -> MixtureStudent:
    torch.manual_seed(5)
    sizes = {"num_experts": E, "top_k": K, "hidden_dim": H, "num_layers": 2, "dropout": 0.0, "pretrain_epochs": 1}
    student = students.resolve(KINDS[name] | sizes | changes).build(F, C)
    student.finish_pretraining(rows(40, seed=7))
    with torch.no_grad():
        for parameter in student.parameters():
            parameter += 0.2 * torch.randn_like(parameter)
    assert isinstance(student, MixtureStudent)
    return student


def softmax_over_best(scores: list[float], k: int, scale: float) -> list[float]:
    best = sorted(range(len(scores)), key=lambda e: -scores[e])[:k]
    total = sum(math.exp(scale * scores[e]) for e in best)
    return [math.exp(scale * score) / total if e in best else 0.0 for e, score in enumerate(scores)]


def reference_logits(student: MixtureStudent, x: Tensor, softness: float) -> Tensor:
    """Return the logits by loops over rows, layers and experts."""
    logits = []
    for row in x:
        state = row[None]
        for depth, layer in enumerate(student._stack()):
            log_scale = getattr(layer.router, "log_scale", None)
            scale = 1.0 if log_scale is None else math.exp(float(log_scale))
            scores = layer.router(state).scores[0].tolist()
            sharp, soft = softmax_over_best(scores, K, scale), softmax_over_best(scores, E, scale)
            mixed = torch.zeros(1, layer.experts.out_dim)
            for e in range(E):
                gate = (1 - softness) * sharp[e] + softness * soft[e]
                mixed += gate * layer.experts(state, torch.eye(E)[[e]])
            if layer.shared is not None:
                mixed += layer.shared.forward_first(state)
            state = mixed if depth + 1 == len(student._stack()) else mixed.relu()
        logits.append(state[0])
    return torch.stack(logits)


@every
@pytest.mark.parametrize(("epoch", "softness"), [(0, 1.0), (2, 0.75), (EPOCHS, 0.0), (EPOCHS + 3, 0.0)])
def test_training_mixes_all_experts_first_and_the_top_k_at_the_end(name: str, epoch: int, softness: float) -> None:
    student, x = make(name, soft_routing_epochs=EPOCHS), rows(12, seed=1)
    student.start_epoch(epoch)
    with torch.no_grad():
        expected, evaluated = reference_logits(student, x, softness), reference_logits(student, x, 0.0)
        torch.testing.assert_close(student.train().training_forward(x).heads[0], expected, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(student.eval()(x), evaluated, atol=1e-4, rtol=1e-4)


@every
def test_soft_routing_trains_the_experts_outside_the_top_k(name: str) -> None:
    x = rows(1)
    reached = {}
    for epochs in (0, EPOCHS):
        student = make(name, soft_routing_epochs=epochs)
        student.start_epoch(0)
        student.train().training_forward(x).heads[0].sum().backward()
        gradients = [p.grad for p in student._stack()[-1].experts.parameters() if p.dim() and p.shape[0] == E]
        reached[epochs] = max(int(g.flatten(1).abs().sum(dim=1).count_nonzero()) for g in gradients if g is not None)
    assert reached == {0: K, EPOCHS: E}


@every
def test_penalties_and_memories_use_the_top_k_alone(name: str) -> None:
    x, found = rows(30), []
    for changes in ({}, {"soft_routing_epochs": EPOCHS, "expert_dropout": 0.5}):
        student = make(name, num_layers=1, **changes)
        student.start_epoch(0)
        penalties = student.train().training_forward(x).penalties
        student.after_step()
        memories = [p for key, p in student.state_dict().items() if "memory" in key]
        found.append([*penalties.values(), *memories])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@every
def test_both_options_leave_evaluation_and_saved_weights_as_they_are(name: str) -> None:
    x = rows(20)
    plain, changed = make(name).eval(), make(name, soft_routing_epochs=EPOCHS, expert_dropout=0.5)
    changed.start_epoch(0)
    assert torch.equal(plain(x), changed.eval()(x))
    restored: Student = copy.deepcopy(plain)
    restored.load_state_dict(changed.state_dict())
    assert torch.equal(restored(x), changed(x))
    assert changed.num_active_parameters() == plain.num_active_parameters()
    assert changed.multiply_adds(torch.ones(F)) == plain.multiply_adds(torch.ones(F))


def test_patience_counts_from_the_end_of_soft_routing() -> None:
    assert make("rbm").patience_starts_at == 1
    assert make("rbm", soft_routing_epochs=EPOCHS).patience_starts_at == 1 + EPOCHS


@given(probability=st.floats(0.0, 0.99), seed=st.integers(0, 1000))
def test_dropped_gates_equal_a_plain_loop(probability: float, seed: int) -> None:
    gates = torch.softmax(torch.randn(9, E, generator=torch.Generator().manual_seed(seed)), dim=1)
    gates[:, 0] = 0.0
    gates = (gates / gates.sum(dim=1, keepdim=True)).requires_grad_()
    torch.manual_seed(seed)
    drawn = torch.rand(9, E).tolist()
    expected = []
    for row, draws in zip(gates.tolist(), drawn, strict=True):
        kept = [gate if draw >= probability else 0.0 for gate, draw in zip(row, draws, strict=True)]
        expected.append([gate / sum(kept) for gate in kept] if sum(kept) else row)
    torch.manual_seed(seed)
    dropped = drop_gates(gates, probability)
    torch.testing.assert_close(dropped, torch.tensor(expected))
    dropped.square().sum().backward()
    assert gates.grad is not None
    assert torch.isfinite(gates.grad).all()


def test_expert_dropout_drops_the_given_share_of_gates() -> None:
    gates = torch.full((20_000, E), 1 / E)
    dropped = drop_gates(gates, 0.3)
    # A row loses all four gates with probability 0.3 ** 4, and then keeps them.
    assert float((dropped == 0).float().mean()) == pytest.approx(0.3 - 0.3**E, abs=0.01)
