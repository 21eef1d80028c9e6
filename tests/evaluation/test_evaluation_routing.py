"""Measures of routing against slow references, and their record over epochs."""

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
from dgl_rbm.evaluation.routing import expert_label_information, plane, routed_rows
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


def reference_information(experts: list[int], labels: list[int]) -> float:
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
def test_information_is_that_of_the_counts(pairs: list[tuple[int, int]]) -> None:
    experts, labels = (list(column) for column in zip(*pairs, strict=True))
    found = expert_label_information(torch.tensor(experts), torch.tensor(labels))
    assert found == pytest.approx(reference_information(experts, labels), abs=1e-9)


@given(pairs_of_ids, st.permutations(range(5)))
def test_information_does_not_depend_on_the_names_of_experts(pairs: list[tuple[int, int]], names: list[int]) -> None:
    experts, labels = (torch.tensor(column) for column in zip(*pairs, strict=True))
    renamed = torch.tensor(names)[experts]
    assert expert_label_information(renamed, labels) == pytest.approx(expert_label_information(experts, labels))


def test_information_of_perfect_and_of_independent_experts() -> None:
    labels = torch.tensor([0, 0, 1, 1])
    assert expert_label_information(1 - labels, labels) == pytest.approx(1.0)
    assert expert_label_information(torch.tensor([0, 1, 0, 1]), labels) == pytest.approx(0.0)
    with pytest.raises(DataError, match="as many of both"):
        expert_label_information(torch.tensor([0]), labels)
    with pytest.raises(DataError, match="some"):
        expert_label_information(labels[:0], labels[:0])


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


def test_stability_is_the_share_of_equal_experts() -> None:
    before, after = torch.tensor([0, 1, 2, 2]), torch.tensor([0, 2, 2, 2])
    assert routing_stability(before, after) == 0.75
    assert routing_stability(before, before) == 1.0


def routed(student: Any, x: Any) -> Any:
    student.finish_pretraining(x)
    return student


@pytest.mark.parametrize("sparse", [False, True])
def test_points_are_compared_with_the_experts(sparse: bool) -> None:
    """The cosines of the points with the experts' embeddings are those that the router used."""
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
            points, gates, directions = routed_rows(student, x, layer=layer)
            router: Any = student.layers[layer].router
            embeddings = router.memory.vectors if student is rbm else router.embeddings
            for i in (0, 17, 39):
                for e in range(4):
                    cosine = torch.nn.functional.cosine_similarity(points[i], embeddings[e].detach(), dim=0)
                    assert float(cosine) == pytest.approx(float(routing.cosines[i, e]), abs=1e-5)
            assert torch.equal(gates, routing.gates)
            assert directions
        assert routed_rows(student, x).points.shape == (40, width)
    assert routed_rows(rbm, x, layer=0).points.shape == (40, 9)


def test_points_of_other_routers_are_those_that_they_see() -> None:
    """A router of a part of the columns is shown in these; one of distances keeps the lengths of its rows."""
    with seeded(0, "test"):
        x = torch.randn(30, 9)
        nearest = routed(RbM(9, 3, hidden_dim=7, num_experts=4, pretrain_epochs=1, routing="euclidean"), x)
    points, gates, directions = routed_rows(nearest, x)
    assert not directions
    distances = torch.cdist(points, nearest.memories()[-1].vectors.detach())
    assert torch.equal(top_experts(gates), distances.argmin(dim=1))


def test_says_which_students_route() -> None:
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
    """Stands for a kill."""


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


def test_the_record_is_what_the_student_does_after_each_epoch() -> None:
    _, history = fit(True)
    assert not any(key.startswith(("utilisation", "stability")) for entry in history[:2] for key in entry)
    for entry in history[2:]:
        for layer in (1, 2):
            assert sum(entry[f"utilisation_{layer}_{e}"] for e in range(4)) == pytest.approx(1.0, abs=1e-5)
    # Before the first routed epoch there is nothing to compare with.
    assert ["stability_2" in entry for entry in history[2:]] == [False, True, True, True, True, True]


def test_record_against_routings_asked_for_twice() -> None:
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


def test_many_rows_are_thinned_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dgl_rbm.training.routing_record._MOST_ROWS", 6)
    x = table().inputs
    with seeded(1, "weights"):
        student = routed(RbM(5, 3, hidden_dim=8, num_experts=4, pretrain_epochs=1), x)
    thinned: Tensor = x[torch.arange(0, 60, 10)]
    assert RoutingRecord(x).end_epoch(student) == RoutingRecord(thinned).end_epoch(student)


def test_a_stopped_run_records_the_same(tmp_path: Path) -> None:
    _, whole = fit(True)
    with pytest.raises(StoppedError):
        fit(True, checkpoints=CheckpointStore(tmp_path, "same"), callbacks=[StopAt(5)])
    _, resumed = fit(True, checkpoints=CheckpointStore(tmp_path, "same"))
    assert resumed == whole


def test_the_plane_keeps_neighbours_and_is_the_same_twice() -> None:
    generator = torch.Generator().manual_seed(0)
    centres = torch.eye(3, 5).repeat_interleave(12, dim=0)
    # Lengths that differ by far hide nothing where directions alone count.
    points = (centres + 0.05 * torch.randn(36, 5, generator=generator)) * torch.linspace(0.1, 30, 36)[:, None]
    found = plane(points)
    assert found.shape == (36, 2)
    assert (found == plane(points)).all()
    placed = torch.from_numpy(found)
    nearest = torch.cdist(placed, placed).fill_diagonal_(torch.inf).argmin(dim=1)
    assert torch.equal(nearest // 12, torch.arange(36) // 12)
    assert not (plane(points, directions=False) == found).all()
    assert plane(torch.tensor([[1.0], [2.0], [-1.0], [-3.0]])).shape == (4, 2)
    with pytest.raises(DataError, match="3 points"):
        plane(points[:3])
