"""Nothing that must stay unknown reaches training: the protocol of the package, tested on every component."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from dgl_rbm import NodeTask, Run
from dgl_rbm.encoders.fit import encode_nodes
from dgl_rbm.registry import encoders, students
from dgl_rbm.run.metrics import RunMetrics

from .conftest import CLASSES, NODES, community_arrays, community_task, quick_distiller

QUICK: dict[str, dict[str, Any]] = {
    "deepwalk": {"kind": "deepwalk", "dim": 4, "walks_per_node": 2},
    "spectral": {"kind": "spectral", "dim": 4, "steps": 3},
    "diffusion": {"kind": "diffusion", "dim": 3},
}
SCORES = ("label_propagation", "correct_and_smooth")
QUICK |= {f"scores of {kind}": {"kind": kind, "standardize": False} for kind in SCORES}
COMBINATIONS = [(student, "diffusion", "krd") for student in students.names() if student != "readout"]
COMBINATIONS += [("readout", f"scores of {kind}", "none") for kind in SCORES]
COMBINATIONS += [("mlp", "none", "edge_consistency")]
COMBINATIONS += [("mlp", encoder, "none") for encoder in encoders.names() if encoder != "diffusion"]


def weights(result: Run) -> dict[str, Tensor]:
    """Return every tensor that was learnt."""
    learnt = {f"student {name}": tensor for name, tensor in result.student.state_dict().items()}
    learnt |= {f"encodings {name}": tensor for name, tensor in result.encodings.state_dict().items()}
    learnt["teacher logits"] = result.teacher_logits[result.encodings.node_ids]
    return learnt


def assert_identical(left: Run, right: Run) -> None:
    for name, tensor in weights(left).items():
        assert torch.equal(tensor, weights(right)[name]), name
    assert left.history == right.history


def run(task: NodeTask, student: str, encoder: str, regularizer: str) -> Run:
    return quick_distiller(student=student, encoder=QUICK.get(encoder, encoder), regularizer=regularizer).fit(task)


@cache
def clean_run(setting: str, student: str, encoder: str, regularizer: str) -> Run:
    return run(community_task(setting), student, encoder, regularizer)


def without_test_scores(metrics: RunMetrics) -> dict[str, Any]:
    """Return the metrics that must not depend on test labels; times vary from run to run."""
    timed, values = ("seconds", "latency"), metrics.to_values()
    return {
        role: {k: v for k, v in values[role].items() if "test" not in k and "production" not in k and k not in timed}
        for role in ("teacher", "student")
    } | {"agreement": metrics.agreement, "candidates": metrics.candidates}


@pytest.mark.parametrize(("student", "encoder", "regularizer"), COMBINATIONS)
@pytest.mark.parametrize("setting", ["transductive", "inductive"])
def test_garbage_test_labels_change_nothing_but_the_score(
    setting: str, student: str, encoder: str, regularizer: str
) -> None:
    first = clean_run(setting, student, encoder, regularizer)
    second = run(with_garbage_test_labels(first.task), student, encoder, regularizer)
    assert_identical(first, second)
    assert without_test_scores(first.metrics) == without_test_scores(second.metrics)
    assert first.metrics.student.test_accuracy != second.metrics.student.test_accuracy


def with_garbage_unseen_part(clean: NodeTask) -> NodeTask:
    """Return the inductive communities with other features, labels and edges of the unseen nodes."""
    unseen = torch.zeros(NODES, dtype=torch.bool)
    unseen[clean.unseen_idx] = True
    parts = community_arrays()
    features, labels = parts["features"].clone(), parts["labels"].clone()
    features[unseen] = 1e3 * torch.rand(int(unseen.sum()), features.shape[1])
    labels[unseen] = (labels[unseen] + 1) % CLASSES
    source, destination = parts["edges"]
    kept = ~(unseen[source] | unseen[destination])
    anywhere = torch.randint(NODES, (len(clean.unseen_idx) * 5,))
    hidden = clean.unseen_idx.repeat(5)
    edges = (
        torch.cat([source[kept], anywhere, hidden]),
        torch.cat([destination[kept], hidden, anywhere]),
    )
    garbage = community_task("inductive", edges=edges, features=features, labels=labels)
    assert torch.equal(clean.unseen_idx, garbage.unseen_idx)
    return garbage


def with_garbage_test_labels(clean: NodeTask) -> NodeTask:
    """Return the communities with a wrong label at every test node."""
    labels = community_arrays()["labels"].clone()
    labels[clean.test_idx] = (labels[clean.test_idx] + 1) % CLASSES
    return community_task(clean.setting, labels=labels)


@pytest.mark.parametrize(("student", "encoder", "regularizer"), COMBINATIONS)
def test_a_garbage_unseen_part_gives_a_bit_identical_student(student: str, encoder: str, regularizer: str) -> None:
    first = clean_run("inductive", student, encoder, regularizer)
    assert_identical(first, run(with_garbage_unseen_part(first.task), student, encoder, regularizer))


def hashed_weights(source: Tensor, destination: Tensor) -> Tensor:
    """Return a weight for each edge that depends on its ends alone."""
    return 0.1 + ((source * 31 + destination * 17) % 23).float() / 5


def weighted_task(hidden_weight: float | None = None) -> NodeTask:
    """Return the inductive communities with edge weights, those of the unseen nodes' edges replaced."""
    source, destination = community_arrays()["edges"]
    weights = hashed_weights(source, destination)
    clean = community_task("inductive", edge_weight=weights)
    if hidden_weight is None:
        return clean
    hidden = torch.isin(source, clean.unseen_idx) | torch.isin(destination, clean.unseen_idx)
    return community_task("inductive", edge_weight=torch.where(hidden, hidden_weight, weights))


WEIGHTED = [("mlp", encoder, "krd") for encoder in ("diffusion", "deepwalk", "spectral", "label_propagation")]
WEIGHTED += [("mlp", "soft_labels", "edge_consistency")]


@pytest.mark.parametrize(("student", "encoder", "regularizer"), WEIGHTED)
def test_weights_of_hidden_edges_change_nothing_in_training(student: str, encoder: str, regularizer: str) -> None:
    first = run(weighted_task(), student, encoder, regularizer)
    second = run(weighted_task(hidden_weight=50.0), student, encoder, regularizer)
    assert_identical(first, second)


@pytest.mark.parametrize("teacher", ["sage", "gcn", "appnp"])
def test_observed_weights_change_training_and_unseen_nodes_are_encoded_by_theirs(teacher: str) -> None:
    options = {"teacher": {"kind": teacher, "hidden_dim": 8, "training": {"epochs": 5}}, "encoder": QUICK["diffusion"]}
    task = weighted_task()
    weighted, plain = (quick_distiller(**options).fit(part) for part in (task, community_task("inductive")))
    assert not torch.equal(weighted.teacher_logits, plain.teacher_logits)
    observed, unseen = weighted.encodings.node_ids.tolist(), task.unseen_idx[:5]
    sums = torch.zeros(len(unseen), len(observed))
    for source, destination in zip(*(ends.tolist() for ends in community_arrays()["edges"]), strict=True):
        if destination in unseen.tolist() and source in observed:
            row, column = unseen.tolist().index(destination), observed.index(source)
            sums[row, column] += hashed_weights(torch.tensor(source), torch.tensor(destination))
    store = weighted.encodings
    expected = ((sums / sums.sum(dim=1, keepdim=True)) @ store.vectors - store.shift) * store.scale
    torch.testing.assert_close(encode_nodes(store, task, unseen), expected)


def test_test_labels_are_read_once_and_after_all_training(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[str] = []
    read = NodeTask.test_labels

    def counted(self: NodeTask) -> Tensor:
        events.append("test labels")
        return read(self)

    monkeypatch.setattr(NodeTask, "test_labels", counted)
    from dgl_rbm import Callback

    class Recorder(Callback):
        def on_stage_end(self, stage: str, seconds: float, finished: bool) -> None:
            events.append(stage)

    quick_distiller(student="mlp", callbacks=[Recorder()]).fit(community_task("inductive"))
    assert events.count("test labels") == 1
    assert events.index("test labels") > events.index("student")
