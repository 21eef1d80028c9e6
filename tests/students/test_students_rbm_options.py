"""RbM's options beyond the paper, against plain loops: metric, learned scale, columns and numbers of experts."""

from __future__ import annotations

import copy
import math
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.functional import normalize

from dgl_rbm.errors import ConfigError
from dgl_rbm.evaluation.complexity import multiply_adds
from dgl_rbm.objectives import self_similarity_loss
from dgl_rbm.registry import students
from dgl_rbm.rows.sparse import Rows, SparseRows
from dgl_rbm.rows.stacked import StackedRows
from dgl_rbm.students.layers.cluster_count import centres_by_silhouette, silhouette
from dgl_rbm.students.layers.columns import column_slice, select_columns
from dgl_rbm.students.layers.kmeans import kmeans_centres
from dgl_rbm.students.layers.lloyd import lloyd_centres
from dgl_rbm.students.layers.memory import ExpertMemory
from dgl_rbm.students.layers.routing import MemoryRouter, negative_scaled_sq_distance
from dgl_rbm.students.rbm import RbM

F, P, H, C = 4, 3, 5, 3
OPTIONS: dict[str, dict[str, Any]] = {
    "euclidean": {"routing": "euclidean"},
    "learned": {"learn_gate_scale": True},
    "sharp": {"gate_scale": 4.0},
    "euclidean-learned": {"routing": "euclidean", "learn_gate_scale": True, "gate_scale": 2.0},
    "on-encoding": {"router_inputs": "encoding"},
    "on-features": {"router_inputs": "features"},
    "apart": {"router_inputs": "encoding", "expert_inputs": "features"},
    "listed": {"num_experts": [3, 5]},
    "auto": {"num_experts": "auto"},
    "everything": {
        "routing": "euclidean",
        "learn_gate_scale": True,
        "router_inputs": "encoding",
        "expert_inputs": "features",
        "num_experts": "auto",
    },
}
every = pytest.mark.parametrize("name", list(OPTIONS))


def rows(count: int, seed: int = 0, columns: int = F + P) -> Tensor:
    return torch.randn(count, columns, generator=torch.Generator().manual_seed(seed))


def sparse(x: Tensor) -> SparseRows:
    return SparseRows.from_scipy(sp.csr_matrix(x.numpy()))


def forms(x: Tensor) -> dict[str, Rows]:
    return {"dense": x, "sparse": sparse(x), "stacked": StackedRows([sparse(x[:, :F]), x[:, F:]])}


def make(*, routed: bool = True, **options: Any) -> RbM:
    torch.manual_seed(3)
    defaults = {"hidden_dim": H, "num_layers": 2, "num_experts": 4, "top_k": 2, "pretrain_epochs": 2}
    student = RbM(F + P, C, **(defaults | {"encoding_dim": P} | options))
    if routed:
        student.finish_pretraining(rows(60, seed=9))
        with torch.no_grad():
            for parameter in student.parameters():
                # Identical experts would hide wrong routing.
                parameter += 0.1 * torch.randn_like(parameter)
    return student


def reference_scores(router: MemoryRouter, row: list[float]) -> list[float]:
    if router.columns is not None:
        row = row[router.columns]
    memories = router.memory.vectors.detach().double().tolist()
    if router.metric == "euclidean":
        squares = [sum((a - b) ** 2 for a, b in zip(row, memory, strict=True)) for memory in memories]
        return [-square / (sum(squares) / len(squares)) for square in squares]
    products = [sum(a * b for a, b in zip(row, memory, strict=True)) for memory in memories]
    return [
        product / (math.hypot(*row) * math.hypot(*memory) or 1.0)
        for product, memory in zip(products, memories, strict=True)
    ]


def reference_logits(student: RbM, x: Tensor) -> Tensor:
    """Return the routed student's logits, row by row and expert by expert."""
    answers = []
    for row in x.double().tolist():
        for depth, layer in enumerate(student._stack()):
            router, experts = layer.router, layer.experts
            scale = router.gate_scale if router.log_scale is None else math.exp(float(router.log_scale.detach()))
            scores = reference_scores(router, row)
            best = sorted(range(len(scores)), key=lambda e: -scores[e])[: router.top_k]
            total = sum(math.exp(scale * scores[e]) for e in best)
            seen = torch.tensor(row if layer.columns is None else row[layer.columns], dtype=torch.float64)
            mixed = torch.zeros(experts.bias.shape[1], dtype=torch.float64)
            for e in best:
                attended = experts.attention[e].detach().double().exp() * seen
                output = attended @ experts.weights[e].detach().double() + experts.bias[e].detach().double()
                mixed += math.exp(scale * scores[e]) / total * output
            mixed *= experts.scale.detach().double().exp()
            row = (mixed.relu() if depth + 1 < len(student._stack()) else mixed).tolist()
        answers.append(row)
    return torch.tensor(answers, dtype=torch.float32)


@every
def test_predictions_equal_plain_loops_for_every_type_of_rows_and_in_serving_mode(name: str) -> None:
    student, x = make(**OPTIONS[name]).eval(), rows(25, seed=1)
    expected = reference_logits(student, x)
    for form, given_rows in forms(x).items():
        torch.testing.assert_close(student(given_rows).detach(), expected, atol=1e-4, rtol=1e-4, msg=form)
    served = copy.deepcopy(student).serve()
    with torch.no_grad():
        for i in range(25):
            for form, row in forms(x[[i]]).items():
                torch.testing.assert_close(served(row), expected[[i]], atol=1e-4, rtol=1e-4, msg=form)


@every
def test_it_trains_with_finite_gradients_and_is_restored_from_its_state(name: str) -> None:
    options = OPTIONS[name]
    student, x = make(**options), rows(40, seed=2)
    optimizer = torch.optim.Adam(student.trained_parameters(), lr=0.01)
    student.train()
    for _ in range(3):
        student.start_epoch(0)
        output = student.training_forward(x)
        optimizer.zero_grad()
        (output.heads[0].square().mean() + sum(output.penalties.values())).backward()
        assert all(p.grad is None or torch.isfinite(p.grad).all() for p in student.parameters())
        optimizer.step()
        student.after_step()
    student.eval()
    other = make(routed=False, **options).eval()
    other.load_state_dict(student.state_dict())
    assert torch.equal(other(x), student(x))
    assert other.num_parameters() == student.num_parameters()
    assert other.num_active_parameters() == student.num_active_parameters()


@every
def test_finishing_pretraining_keeps_the_function(name: str) -> None:
    student, x = make(routed=False, **OPTIONS[name]).eval(), rows(30)
    before = student(x)
    student.finish_pretraining(x)
    torch.testing.assert_close(student(x), before, atol=1e-5, rtol=1e-4)


def test_options_reach_the_layers() -> None:
    options = OPTIONS["everything"] | {"num_experts": [3, 4], "gate_scale": 2.0}
    config = students.resolve({"kind": "rbm", "hidden_dim": H, **options}).with_encoding_dim(P)
    student = config.build(F + P, C)
    first, second = student._stack()
    assert (first.router.metric, first.router.gate_scale, first.router.columns) == ("euclidean", 2.0, slice(F, F + P))
    assert (first.columns, second.columns, second.router.columns) == (slice(0, F), None, None)
    assert [layer.experts.num_experts for layer in (first, second)] == [3, 4]
    assert first.router.log_scale.exp().item() == pytest.approx(2.0)
    plain = students.resolve("rbm")
    # Saved options depend on the encoder only if columns are selected.
    assert plain.with_encoding_dim(P) is plain
    assert students.resolve(config.model_dump(mode="json")) == config


def test_options_are_read_under_their_former_names() -> None:
    former = {"temperature": "learned", "route_on": "encoding", "feed": "features"}
    config = students.resolve({"kind": "rbm", **former})
    assert (config.learn_gate_scale, config.router_inputs, config.expert_inputs) == (True, "encoding", "features")
    assert not students.resolve({"kind": "rbm", "temperature": "fixed"}).learn_gate_scale


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"temperature": "hot"}, "learn_gate_scale"),
        ({"temperature": "learned", "learn_gate_scale": True}, "former name of 'learn_gate_scale'"),
        ({"num_experts": 0}, "num_experts"),
        ({"num_experts": []}, "num_experts"),
        ({"num_experts": "some"}, "num_experts"),
        ({"num_experts": [5, 2]}, r"top_k \(3\) is larger than num_experts \(\[5, 2\]\)"),
        ({"num_experts": 2}, r"top_k \(3\) is larger"),
        ({"gate_scale": 0}, "gate_scale"),
        ({"routing": "manhattan"}, "cosine"),
        ({"expert_inputs": "encoding"}, "expert_inputs"),
    ],
)
def test_invalid_options_raise(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        students.resolve({"kind": "rbm", **options})


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"num_experts": [3, 4, 5]}, r"3 numbers, \[3, 4, 5\], for 2 layers"),
        ({"num_experts": "auto", "pretrain_epochs": 0}, "chosen at the end of pre-training"),
        ({"router_inputs": "encoding", "encoding_dim": None}, "encodings among the 7 columns is unknown"),
        ({"router_inputs": "encoding", "encoding_dim": 0}, "'encoding', but 0 of the 7 columns"),
        ({"expert_inputs": "features", "encoding_dim": 7}, "expert_inputs is 'features', but 7 of the 7 columns"),
        ({"router_inputs": "features", "encoding_dim": 9}, "9 of the 7 columns"),
    ],
)
def test_options_that_do_not_fit_the_inputs_raise(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        make(routed=False, **options)


@given(st.integers(0, 10_000), st.integers(1, 6), st.integers(1, 5))
def test_euclidean_scores_are_scale_free_and_bounded(seed: int, count: int, num_experts: int) -> None:
    x, memories = rows(count, seed), rows(num_experts, seed + 1)
    scores = negative_scaled_sq_distance(x, memories)
    assert (scores <= 0).all()
    assert (scores >= -num_experts - 1e-4).all()
    torch.testing.assert_close(negative_scaled_sq_distance(8 * x, 8 * memories), scores, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(negative_scaled_sq_distance(sparse(x), memories), scores, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(scores.mean(dim=1), torch.full((count,), -1.0), atol=1e-3, rtol=0)


def test_a_row_equal_to_all_memories_has_finite_gradients() -> None:
    x = torch.ones(2, 4, requires_grad=True)
    scores = negative_scaled_sq_distance(x, torch.ones(3, 4))
    scores.sum().backward()
    assert not scores.any()
    assert torch.isfinite(x.grad).all()


def test_the_euclidean_commitment_loss_pulls_rows_to_their_memories() -> None:
    student = make(routing="euclidean", num_layers=1, num_experts=2, top_k=1)
    memory = student.memories()[0].vectors.detach()
    x = (memory[[0]] + 0.3).clone().requires_grad_()
    student.train().training_forward(x).penalties["commitment"].backward()
    moved = x.detach() - 0.1 * x.grad
    assert (moved - memory[0]).norm() < (x.detach() - memory[0]).norm()
    # Straight towards it: the other memory does not repel.
    torch.testing.assert_close(normalize(x.grad), normalize(x.detach() - memory[0]), atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("form", ["dense", "sparse"])
def test_euclidean_memories_move_to_the_mean_of_their_rows(form: str) -> None:
    torch.manual_seed(0)
    memory, x = ExpertMemory(3, 7, spherical=False), rows(9)
    gates = torch.rand(9, 3) * (torch.rand(9, 3) > 0.5)
    gates[:, 2] = 0
    before = memory.vectors.detach().clone()
    memory.update(forms(x)[form], gates, 0.7)
    for e in range(2):
        used = [j for j in range(9) if gates[j, e] != 0]
        total = sum(math.exp(gates[j, e]) for j in used)
        centre = sum(math.exp(gates[j, e]) / total * x[j] for j in used)
        torch.testing.assert_close(memory.vectors[e].detach(), 0.7 * before[e] + 0.3 * centre)
    assert torch.equal(memory.vectors[2].detach(), before[2])


@pytest.mark.parametrize("form", ["dense", "sparse", "stacked"])
def test_kmeans_without_scaling_separates_lengths(form: str) -> None:
    torch.manual_seed(0)
    direction = normalize(rows(1))
    x = torch.cat([length * direction + 0.01 * rows(20, int(length)) for length in (0.0, 5.0, 10.0)])
    for centres in (
        kmeans_centres(forms(x)[form], 3, spherical=False),
        lloyd_centres(forms(x)[form], 3, np.random.default_rng(0), spherical=False),
    ):
        assert sorted(round(float(length)) for length in centres.norm(dim=1)) == [0, 5, 10]
    if form == "dense":
        zeros = kmeans_centres(torch.zeros(4, 3), 3, spherical=False)
        assert len(torch.unique(zeros, dim=0)) == 3


def test_only_the_mix_trains_the_scale_and_it_passes_no_gradient_to_scores() -> None:
    router = MemoryRouter(4, 3, 2, learn_gate_scale=True, gate_scale=1.5)
    x = rows(10, columns=4).requires_grad_()
    routing = router(x)
    gates = router.detached_gates(routing)
    torch.testing.assert_close(gates, routing.gates)
    (gates * torch.arange(3.0)).sum().backward()
    assert x.grad is None
    assert router.log_scale.grad != 0
    router.log_scale.grad = None
    (routing.gates * torch.arange(3.0)).sum().backward()
    assert router.log_scale.grad is None
    assert x.grad.abs().sum() > 0


def test_the_gradient_of_the_scale_equals_finite_differences() -> None:
    student, x = make(learn_gate_scale=True).eval(), rows(20)
    target = rows(20, 5, C)

    def loss(shift: float) -> float:
        with torch.no_grad():
            moved = copy.deepcopy(student)
            moved._stack()[0].router.log_scale += shift
            return float((moved._stack()[0](x)[0][:, :C] * target).double().sum())

    (student._stack()[0](x)[0][:, :C] * target).sum().backward()
    slope = (loss(1e-2) - loss(-1e-2)) / 2e-2
    assert float(student._stack()[0].router.log_scale.grad) == pytest.approx(slope, rel=1e-2)


def test_the_scale_is_capped_and_does_not_change_the_chosen_experts() -> None:
    router = MemoryRouter(4, 5, 2, learn_gate_scale=True)
    x = rows(30, columns=4)
    before = router(x).gates
    with torch.no_grad():
        router.log_scale.fill_(50.0)
    after = router(x).gates
    assert torch.isfinite(after).all()
    assert float(router._scale().detach()) == pytest.approx(100, rel=1e-4)
    assert ((after > 0) <= (before > 0)).all()
    assert router.route_one(x[[0]])[0][1] == pytest.approx(float(after[0].max()), rel=1e-4)


def test_routers_and_experts_read_their_columns_only() -> None:
    student, x = make(**OPTIONS["apart"], num_layers=1).eval(), rows(12)
    routed = student.routings(x)[0]
    assert torch.equal(routed[0], x[:, F:])
    other = x.clone()
    other[:, :F] += 1
    assert torch.equal(student.routings(other)[0][1].gates, routed[1].gates)
    assert student.memories()[0].vectors.shape == (4, P)
    weights = student._stack()[0].experts.weights
    assert weights.shape == (4, F, C)


@pytest.mark.parametrize("part", [slice(0, F), slice(F, F + P), slice(2, 6), slice(0, F + P), None])
def test_select_columns_of_every_type_of_rows(part: slice | None) -> None:
    x = rows(5)
    for form, given_rows in forms(x).items():
        cut = select_columns(given_rows, part)
        dense = cut if isinstance(cut, Tensor) else cut.to_dense()
        assert torch.equal(dense, x if part is None else x[:, part]), form
    assert select_columns(x, None) is x
    stacked = forms(x)["stacked"]
    assert select_columns(stacked, slice(F, F + P)) is stacked.parts[1]
    assert select_columns(stacked, slice(0, F)) is stacked.parts[0]
    assert column_slice("all", 7, None, "expert_inputs") is None


def test_the_silhouette_by_hand() -> None:
    x = torch.tensor([[0.0], [1.0], [4.0], [4.0]])
    distances = torch.cdist(x, x)
    # (b - a) / max(a, b): 3/4 and 2/3 of the first cluster, 1 of the second.
    assert silhouette(distances, torch.tensor([0, 0, 1, 1])) == pytest.approx((3 / 4 + 2 / 3 + 1 + 1) / 4)
    # A row alone in its cluster has 0.
    assert silhouette(distances, torch.tensor([5, 2, 1, 1])) == pytest.approx((0 + 0 + 1 + 1) / 4)
    assert silhouette(distances, torch.tensor([3, 3, 3, 3])) == -1
    assert silhouette(distances, torch.arange(4)) == 0


def blobs(count: int, dim: int = 24, *, seed: int = 0) -> Tensor:
    """Return rows of any length around `count` directions."""
    generator = torch.Generator().manual_seed(seed)
    centres = normalize(torch.randn(count, dim, generator=generator))
    x = centres[torch.arange(240) % count] + 0.1 * torch.randn(240, dim, generator=generator)
    return x * (0.5 + torch.rand(240, 1, generator=generator))


@pytest.mark.parametrize("count", [3, 5, 6, 8])
def test_auto_recovers_the_number_of_clusters(count: int) -> None:
    torch.manual_seed(0)
    x = blobs(count, seed=count)
    for given_rows in (x, sparse(x)):
        assert len(centres_by_silhouette(given_rows, range(3, 9))) == count
    again = torch.cat([x, torch.zeros(5, 24)])
    assert len(centres_by_silhouette(again, range(3, 9))) == count


def test_degenerate_rows_give_the_smallest_number_without_errors() -> None:
    torch.manual_seed(0)
    for x in (torch.zeros(6, 4), torch.ones(6, 4), torch.zeros(0, 4)):
        centres = centres_by_silhouette(x, range(3, 9))
        assert len(centres) == 3
        assert torch.isfinite(centres).all()


def test_auto_sets_the_number_of_experts_in_place() -> None:
    torch.manual_seed(0)
    student = RbM(24, C, hidden_dim=H, num_experts="auto", pretrain_epochs=1)
    assert [layer.experts.num_experts for layer in student._stack()] == [8, 8]
    x, kept = blobs(6, seed=4), [id(parameter) for parameter in student.parameters()]
    student.finish_pretraining(x)
    numbers = [layer.experts.num_experts for layer in student._stack()]
    assert numbers[0] == 6
    assert all(3 <= number <= 8 for number in numbers)
    assert [len(memory.vectors) for memory in student.memories()] == numbers
    # The same objects, so that an existing optimiser still steps them.
    assert [id(parameter) for parameter in student.parameters()] == kept
    assert len(student.trained_parameters()) == len(kept) - 2


def test_auto_has_at_least_top_k_experts() -> None:
    student = RbM(24, C, hidden_dim=H, num_experts="auto", top_k=7, pretrain_epochs=1)
    student.finish_pretraining(blobs(3))
    assert all(layer.experts.num_experts >= 7 for layer in student._stack())


def test_only_auto_loads_states_with_other_numbers_of_experts() -> None:
    auto = make(num_experts="auto")
    numbers = [layer.experts.num_experts for layer in auto._stack()]
    inner = nn.ModuleDict({"student": make(routed=False, num_experts="auto")})
    inner.load_state_dict({f"student.{name}": value for name, value in auto.state_dict().items()})
    assert [layer.experts.num_experts for layer in inner["student"]._stack()] == numbers
    with pytest.raises(RuntimeError, match="size mismatch"):
        make(routed=False, num_experts=[n + 1 for n in numbers]).load_state_dict(auto.state_dict())
    # Back to the initial number, as in a run resumed before the choice.
    auto.load_state_dict(make(routed=False, num_experts="auto").state_dict())
    assert [layer.experts.num_experts for layer in auto._stack()] == [8, 8]
    assert auto.pretraining


def test_multiply_adds_count_the_columns_that_are_read() -> None:
    whole, apart = (make(**options, num_layers=1).eval() for options in ({}, OPTIONS["apart"]))
    # Four memories, and two of four experts with C outputs each.
    assert multiply_adds(whole) == (F + P) * 4 + 2 * (F + P) * C
    assert multiply_adds(apart) == P * 4 + 2 * F * C
    assert multiply_adds(make(routed=False, **OPTIONS["apart"], num_layers=1)) == F * C


@pytest.mark.parametrize("length", [0.0, 1e-7, 1e-3, 1.0, 100.0])
def test_gradient_steps_turn_memories_of_any_length_by_the_same_angle(length: float) -> None:
    """Without the correction, memories near the origin, where zero rows put them, would jump far away."""
    unit, stretched = ExpertMemory(3, 4, spherical=False), ExpertMemory(3, 4, spherical=False)
    start = normalize(rows(3, seed=2, columns=4))
    factors = torch.tensor([[1.0], [length], [1.0]])
    unit.reset(start)
    stretched.reset(start * factors)
    for memory in (unit, stretched):
        (0.3 * self_similarity_loss(memory.vectors)).backward()
        memory.gradient_step()
    assert not torch.equal(unit.vectors[1], start[1])
    torch.testing.assert_close(stretched.vectors[1], unit.vectors[1] * length)


def test_zero_rows_keep_memories_bounded() -> None:
    torch.manual_seed(0)
    x = rows(40, seed=6).abs()
    x[:10] = 0
    student = RbM(F + P, C, hidden_dim=H, num_experts=3, top_k=2, routing="euclidean", pretrain_epochs=1)
    student.finish_pretraining(x)
    student.train()
    for _ in range(3):
        torch.stack(list(student.training_forward(x).penalties.values())).sum().backward()
        student.after_step()
    for memory in student.memories():
        assert float(memory.vectors.detach().norm(dim=1).max()) < 10


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_a_capped_scale_still_has_a_gradient(metric: str) -> None:
    student = make(learn_gate_scale=True, routing=metric)
    student.train()
    for router in (layer.router for layer in student._stack()):
        with torch.no_grad():
            router.log_scale.fill_(7.0)
    student.after_step()
    student.training_forward(rows(30, seed=4)).heads[0].square().sum().backward()
    for router in (layer.router for layer in student._stack()):
        assert float(router.log_scale.detach().exp()) == pytest.approx(100)
        assert float(router.log_scale.grad) != 0
