"""Nothing that must stay unknown reaches training: the protocol of the package, tested on every component."""

from __future__ import annotations

from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor

from dgl_rbm import NodeTask, Run
from dgl_rbm.registry import encoders, students
from dgl_rbm.run.metrics import RunMetrics

from .conftest import CLASSES, NODES, community_arrays, community_task, quick_distiller

QUICK = {
    "deepwalk": {"kind": "deepwalk", "dim": 4, "walks_per_node": 2},
    "spectral": {"kind": "spectral", "dim": 4, "steps": 3},
    "diffusion": {"kind": "diffusion", "dim": 3},
}
COMBINATIONS = [(student, "diffusion", "krd") for student in students.names()]
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
