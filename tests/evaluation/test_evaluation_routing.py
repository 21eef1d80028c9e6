"""Routing measures against slow references, and the routing record over epochs."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from torch import Tensor

from dgl_rbm.errors import DataError
from dgl_rbm.evaluation.routing import expert_label_nmi, routed_rows, tsne_embedding
from dgl_rbm.rows.sparse import SparseRows
from dgl_rbm.rows.stacked import hstack
from dgl_rbm.runtime.callbacks import Callback
from dgl_rbm.runtime.checkpoint import CheckpointStore
from dgl_rbm.runtime.context import RunContext
from dgl_rbm.runtime.seeding import seeded
from dgl_rbm.students.mlp import MLP
from dgl_rbm.students.moe import MoE
from dgl_rbm.students.rbm import RbM
from dgl_rbm.training.routing_record import RoutingRecord, expert_utilisation, routing_stability, top_experts
from dgl_rbm.training.student import StudentTraining, fit_student
from dgl_rbm.training.table import DistillationTable


def reference_nmi(experts: list[int], labels: list[int]) -> float:
    """Return 2·I / (H + H) from counts, term by term."""
    n = len(labels)

    def entropy(values: list[Any]) -> float:
        return -sum(values.count(v) / n * math.log(values.count(v) / n) for v in set(values))

    information = 0.0
    pairs = list(zip(experts, labels, strict=True))
    for e, c in set(pairs):
        joint = pairs.count((e, c)) / n
        information += joint * math.log(joint / (experts.count(e) / n * labels.count(c) / n))
    total = entropy(experts) + entropy(labels)
    return 2 * information / total if total else 1.0


pairs_of_ids = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 3)), min_size=1, max_size=40)


@given(pairs_of_ids)
def test_nmi_equals_the_reference(pairs: list[tuple[int, int]]) -> None:
    experts, labels = (list(column) for column in zip(*pairs, strict=True))
    found = expert_label_nmi(torch.tensor(experts), torch.tensor(labels))
    assert found == pytest.approx(reference_nmi(experts, labels), abs=1e-9)


@given(pairs_of_ids, st.permutations(range(5)))
def test_nmi_is_invariant_to_renaming_experts(pairs: list[tuple[int, int]], names: list[int]) -> None:
    experts, labels = (torch.tensor(column) for column in zip(*pairs, strict=True))
    renamed = torch.tensor(names)[experts]
    assert expert_label_nmi(renamed, labels) == pytest.approx(expert_label_nmi(experts, labels))


def test_nmi_of_perfect_and_independent_experts() -> None:
    labels = torch.tensor([0, 0, 1, 1])
    assert expert_label_nmi(1 - labels, labels) == pytest.approx(1.0)
    assert expert_label_nmi(torch.tensor([0, 1, 0, 1]), labels) == pytest.approx(0.0)
    with pytest.raises(DataError, match="1 top experts and 4 labels"):
        expert_label_nmi(torch.tensor([0]), labels)
    with pytest.raises(DataError, match="at least one"):
        expert_label_nmi(labels[:0], labels[:0])


gate_rows = st.lists(st.lists(st.integers(0, 3), min_size=4, max_size=4), min_size=1, max_size=12)


@given(gate_rows)
def test_top_experts_and_utilisation_row_by_row(rows: list[list[int]]) -> None:
    gates = torch.tensor(rows, dtype=torch.float32) + 0.25
    gates /= gates.sum(dim=1, keepdim=True)
    expected = [row.index(max(row)) for row in rows]
    assert top_experts(gates).tolist() == expected
    shares = [sum(float(row[e]) for row in gates) / len(rows) for e in range(4)]
    assert expert_utilisation(gates).tolist() == pytest.approx(shares, abs=1e-6)
    assert float(expert_utilisation(gates).sum()) == pytest.approx(1.0, abs=1e-5)


def test_stability_is_the_share_of_unchanged_top_experts() -> None:
    before, after = torch.tensor([0, 1, 2, 2]), torch.tensor([0, 2, 2, 2])
    assert routing_stability(before, after) == 0.75
    assert routing_stability(before, before) == 1.0


def routed(student: Any, x: Any) -> Any:
    student.finish_pretraining(x)
    return student


@pytest.mark.parametrize("sparse", [False, True])
def test_cosines_of_points_and_expert_embeddings_equal_the_routers_scores(sparse: bool) -> None:
    with seeded(0, "test"):
        dense = torch.rand(40, 6) * (torch.rand(40, 6) < 0.5)
        rbm = RbM(9, 3, hidden_dim=7, num_experts=4, pretrain_epochs=1)
        moe = MoE(9, 3, hidden_dim=7, routing_dim=5, num_experts=4)
        beside = torch.randn(40, 3)
    features = SparseRows.from_scipy(csr_matrix(dense.numpy())) if sparse else dense
    x = hstack(features, beside)
    routed(rbm, x)
    for student, width in ((rbm, 7), (moe, 5)):
        for layer in (0, -1):
            _, routing = student.routings(x)[layer]
            points, gates, spherical = routed_rows(student, x, layer=layer)
            router: Any = student.layers[layer].router
            embeddings = router.memory.vectors if student is rbm else router.embeddings
            for i in (0, 17, 39):
                for e in range(4):
                    cosine = torch.nn.functional.cosine_similarity(points[i], embeddings[e].detach(), dim=0)
                    assert float(cosine) == pytest.approx(float(routing.scores[i, e]), abs=1e-5)
            assert torch.equal(gates, routing.gates)
            assert spherical
        assert routed_rows(student, x).points.shape == (40, width)
    assert routed_rows(rbm, x, layer=0).points.shape == (40, 9)


def test_points_of_a_euclidean_router_keep_their_lengths() -> None:
    with seeded(0, "test"):
        x = torch.randn(30, 9)
        nearest = routed(RbM(9, 3, hidden_dim=7, num_experts=4, pretrain_epochs=1, routing="euclidean"), x)
    points, gates, spherical = routed_rows(nearest, x)
    assert not spherical
    distances = torch.cdist(points, nearest.memories()[-1].vectors.detach())
    assert torch.equal(top_experts(gates), distances.argmin(dim=1))


def test_points_are_the_columns_that_the_router_reads() -> None:
    with seeded(0, "test"):
        x = torch.randn(30, 9)
        options = {"num_experts": 4, "pretrain_epochs": 1, "router_inputs": "encoding", "encoding_dim": 3}
        student = routed(RbM(9, 3, hidden_dim=7, **options), x)
    assert torch.equal(routed_rows(student, x, layer=0).points, x[:, 6:])


def test_students_without_routing_are_refused() -> None:
    x = torch.randn(5, 4)
    with pytest.raises(DataError, match="'mlp' does not route"):
        routed_rows(MLP(4, 2, hidden_dim=3), x)
    with pytest.raises(DataError, match="after pre-training"):
        routed_rows(RbM(4, 2, hidden_dim=3, pretrain_epochs=2), x)


def table() -> DistillationTable:
    generator = torch.Generator().manual_seed(2)
    labels = torch.arange(60) % 3
    inputs = torch.randn(60, 5, generator=generator) + 2 * torch.eye(5)[labels]
    return DistillationTable(
        inputs=inputs,
        labels=labels,
        train_idx=torch.arange(18),
        val_idx=torch.arange(18, 40),
        num_classes=3,
        teacher_logits=3 * torch.eye(3)[labels],
    )


class StoppedError(Exception):
    """Simulated kill."""


class StopAt(Callback):
    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_step(self, stage: str, done: int, metrics: Any) -> None:
        if done == self.epoch:
            raise StoppedError


def fit(record: bool, **options: Any) -> tuple[RbM, list[dict[str, Any]]]:
    context = RunContext(seed=3, **options)
    with seeded(3, "weights"):
        student = RbM(5, 3, hidden_dim=8, num_experts=4, dropout=0.3, pretrain_epochs=2)
    training = StudentTraining(epochs=6, batch_size=25, record_routing=record)
    fit_student(student, table(), context, training)
    return student, context.history


def test_recording_changes_nothing_but_the_history() -> None:
    plain, history = fit(False)
    recorded, longer = fit(True)
    for name, value in plain.state_dict().items():
        assert torch.equal(value, recorded.state_dict()[name]), name
    own = ("utilisation", "stability")
    assert [{k: v for k, v in entry.items() if not k.startswith(own)} for entry in longer] == history
    assert not any(key.startswith(own) for entry in history for key in entry)


def test_every_routed_epoch_is_recorded() -> None:
    _, history = fit(True)
    assert not any(key.startswith(("utilisation", "stability")) for entry in history[:2] for key in entry)
    for entry in history[2:]:
        for layer in (1, 2):
            assert sum(entry[f"utilisation_{layer}_{e}"] for e in range(4)) == pytest.approx(1.0, abs=1e-5)
    # The first routed epoch has no predecessor to compare with.
    assert ["stability_2" in entry for entry in history[2:]] == [False, True, True, True, True, True]


def test_record_equals_two_calls_of_routings() -> None:
    x = table().inputs
    with seeded(1, "weights"):
        student = routed(RbM(5, 3, hidden_dim=8, num_experts=4, pretrain_epochs=1), x)
    record = RoutingRecord(x)
    first = record.end_epoch(student)
    gates = [routing.gates for _, routing in student.routings(x)]
    before = [top_experts(layer) for layer in gates]
    assert first["utilisation_1_2"] == pytest.approx(float(gates[0][:, 2].mean()))
    with torch.no_grad():
        student.memories()[1].vectors.copy_(student.memories()[1].vectors.flip(0))
    second = record.end_epoch(student)
    after = top_experts(student.routings(x)[1][1].gates)
    assert second["stability_1"] == 1.0
    assert second["stability_2"] == pytest.approx(sum(map(int, before[1] == after)) / 60)
    assert second["stability_2"] < 1.0


def test_large_inputs_are_subsampled_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dgl_rbm.training.routing_record._MOST_ROWS", 6)
    x = table().inputs
    with seeded(1, "weights"):
        student = routed(RbM(5, 3, hidden_dim=8, num_experts=4, pretrain_epochs=1), x)
    thinned: Tensor = x[torch.arange(0, 60, 10)]
    assert RoutingRecord(x).end_epoch(student) == RoutingRecord(thinned).end_epoch(student)


def test_a_resumed_run_has_the_same_record(tmp_path: Path) -> None:
    _, whole = fit(True)
    with pytest.raises(StoppedError):
        fit(True, checkpoints=CheckpointStore(tmp_path, "same"), callbacks=[StopAt(5)])
    _, resumed = fit(True, checkpoints=CheckpointStore(tmp_path, "same"))
    assert resumed == whole


def test_tsne_embedding_keeps_neighbours_and_is_deterministic() -> None:
    generator = torch.Generator().manual_seed(0)
    centres = torch.eye(3, 5).repeat_interleave(12, dim=0)
    # Lengths that differ by orders of magnitude have no effect if only directions count.
    points = (centres + 0.05 * torch.randn(36, 5, generator=generator)) * torch.linspace(0.1, 30, 36)[:, None]
    found = tsne_embedding(points)
    assert found.shape == (36, 2)
    assert (found == tsne_embedding(points)).all()
    placed = torch.from_numpy(found)
    nearest = torch.cdist(placed, placed).fill_diagonal_(torch.inf).argmin(dim=1)
    assert torch.equal(nearest // 12, torch.arange(36) // 12)
    assert not (tsne_embedding(points, spherical=False) == found).all()
    assert tsne_embedding(torch.tensor([[1.0], [2.0], [-1.0], [-3.0]])).shape == (4, 2)
    with pytest.raises(DataError, match="3 points"):
        tsne_embedding(points[:3])
