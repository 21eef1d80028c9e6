"""Every published method runs on a small graph, in both settings, and lets through nothing that must stay unknown."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from dgl_rbm import Callback, Distiller, NodeTask, Run, RunContext
from dgl_rbm.errors import ConfigError
from dgl_rbm.methods import load_method, method_names
from dgl_rbm.registry import regularizers
from dgl_rbm.regularizers.similarity import SimilarityTerm
from dgl_rbm.run.config import resolve_config
from dgl_rbm.students.base import Student
from dgl_rbm.training.student import StudentFit, fit_student
from dgl_rbm.training.terms import LossTerm

from .conftest import community_task
from .test_leaks import assert_identical, with_garbage_test_labels, with_garbage_unseen_part, without_test_scores

QUICK = {
    "deepwalk": {"kind": "deepwalk", "dim": 4, "walk_length": 10, "walks_per_node": 1},
    "label_histogram": {"kind": "label_histogram", "hops": 3, "folds": 2},
    "label_propagation": {"kind": "label_propagation", "steps": 3, "folds": 2},
}
# Schedules that ten epochs go through; with the confidence 0 there are pseudo-labels.
SHORT: dict[str, dict[str, Any]] = {
    "krd": {"warmup_epochs": 2, "noise_samples": 2},
    "pseudo_labels": {"every": 2, "confidence": 0.0},
}


def small_teacher(values: dict[str, Any]) -> dict[str, Any]:
    """Return the changes that make a teacher, or the members of one, narrow and quick."""
    if values["kind"] != "average":
        return {"hidden_dim": 6, "training": {"epochs": 12}}
    kinds = [member if isinstance(member, str) else member["kind"] for member in values["members"]]
    return {"members": [{"kind": kind, **small_teacher({"kind": kind})} for kind in kinds]}


def small_student(values: dict[str, Any]) -> dict[str, Any]:
    """Return the changes that make a student, or the candidates for one, narrow and quick."""
    if values["kind"] == "auto":
        return {"candidates": [{"kind": kind, **small_student({"kind": kind})} for kind in ("mlp", "rbm")]}
    return {"hidden_dim": 6, "dropout": 0.1} | ({"pretrain_epochs": 2} if values["kind"] == "rbm" else {})


def quick(method: str, task: NodeTask, out: Path | None = None, **overrides: Any) -> Run:
    """Run `method` as a whole but with few epochs and narrow layers."""
    values = load_method(method).values(task.name, task.setting)
    options: dict[str, Any] = {
        "student": small_student(values["student"]),
        "encoder": [QUICK.get(part["kind"], part) for part in values["encoder"]],
        "training": {"epochs": 10, "lr": 0.05},
        "setting": task.setting,
        "device": "cpu",
    }
    if values["teacher"]["kind"] != "none":
        options["teacher"] = small_teacher(values["teacher"])
    options["regularizer"] = [{"kind": part["kind"], **SHORT.get(part["kind"], {})} for part in values["regularizer"]]
    return Distiller.from_method(method, **options | overrides).fit(task, out=out, latency_of=())


@cache
def finished(method: str, setting: str) -> Run:
    return quick(method, community_task(setting))


@pytest.mark.parametrize("method", method_names())
def test_every_method_runs(method: str) -> None:
    result = finished(method, "inductive")
    values = load_method(method).values()
    kept = result.metrics.student.kind
    assert kept in ("mlp", "rbm") if values["student"]["kind"] == "auto" else kept == values["student"]["kind"]
    assert result.metrics.teacher.kind == values["teacher"]["kind"]
    assert torch.isfinite(result.student_logits).all()
    assert (result.metrics.teacher.test_accuracy is not None) == (values["teacher"]["kind"] != "none")
    recorded = {name for entry in result.history if entry["stage"] == "student" for name in entry}
    assert recorded & set(regularizers.names()) == {part["kind"] for part in values["regularizer"]} - {"none"}


@pytest.mark.parametrize("method", method_names())
@pytest.mark.parametrize("setting", ["transductive", "inductive"])
def test_garbage_test_labels_change_nothing_but_the_score(setting: str, method: str) -> None:
    first = finished(method, setting)
    second = quick(method, with_garbage_test_labels(first.task))
    assert_identical(first, second)
    assert without_test_scores(first.metrics) == without_test_scores(second.metrics)
    assert first.metrics.student.test_accuracy != second.metrics.student.test_accuracy


@pytest.mark.parametrize("method", method_names())
def test_a_garbage_unseen_part_gives_a_bit_identical_student(method: str) -> None:
    first = finished(method, "inductive")
    assert_identical(first, quick(method, with_garbage_unseen_part(first.task)))


def test_a_method_without_a_teacher_is_saved_and_read_back(tmp_path: Path) -> None:
    result = finished("cohop", "inductive")
    assert "teacher" not in repr(result).split("test accuracy")[1]
    run = Run.load(result.save(tmp_path / "run"))
    assert run.metrics.agreement is None
    ids = result.encodings.node_ids
    raw = result.task.features[ids]
    assert raw.shape[1] == run.predictor.num_features
    torch.testing.assert_close(run.student.logits(result.inputs(ids)), result.student_logits[ids])
    report = (tmp_path / "run" / "report.md").read_text(encoding="utf-8")
    assert "agree" not in report
    assert "| teacher" not in report


@pytest.mark.parametrize("method", ["nosmog", "cohop"])
def test_a_stopped_run_resumes_to_the_same_bits(method: str, tmp_path: Path) -> None:
    class Stop(Callback):
        def on_step(self, stage: str, done: int, metrics: Any) -> None:
            if (stage, done) == ("student", 5):
                raise KeyboardInterrupt

    task = finished(method, "inductive").task
    with pytest.raises(KeyboardInterrupt):
        quick(method, task, callbacks=[Stop()], out=tmp_path)
    resumed = quick(method, task, out=tmp_path)
    assert_identical(finished(method, "inductive"), resumed)


def test_similarity_sees_the_teachers_states_of_observed_nodes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    terms: list[LossTerm] = []

    def noted(student: Student, *arguments: Any) -> StudentFit:
        terms[:] = arguments[-1]
        return fit_student(student, *arguments)

    monkeypatch.setattr("dgl_rbm.run.parts.fit_student", noted)
    task = community_task("inductive")
    result = quick("nosmog", task)
    output = result.teacher.predict(task.observed(), RunContext(), return_hidden=True)
    assert output.hidden is not None
    assert isinstance(terms[0], SimilarityTerm)
    torch.testing.assert_close(terms[0].hidden, output.hidden)
    assert len(output.hidden) == len(task.observed()) < task.graph.num_nodes()


def test_what_needs_a_teacher_cannot_do_without() -> None:
    with pytest.raises(ConfigError, match="'krd' needs predictions from perturbed features"):
        Distiller(teacher="none")
    with pytest.raises(ConfigError, match="cannot be a member of an average"):
        Distiller(teacher=["sage", "none"])


def test_a_wrong_regularizer_is_not_taken_for_the_default_one() -> None:
    values = {"teacher": "none", "regularizer": {"kind": "edge_consistency", "weight": -1}}
    with pytest.raises(ConfigError) as caught:
        resolve_config(values)
    assert "regularizer -> weight" in caught.value.message
    assert "krd" not in caught.value.message


def test_without_a_teacher_a_student_has_the_default_width_and_depth() -> None:
    training = {"epochs": 1}
    result = Distiller("none", "mlp", "none", "none", training=training, device="cpu").fit(community_task())
    config: Any = result.config.student
    assert (config.hidden_dim, config.num_layers) == (128, 2)
    assert result.teacher_logits.shape == (result.task.graph.num_nodes(), 0)
    assert result.metrics.agreement is None
    assert result.metrics.teacher.parameters == 0
    assert result.metrics.teacher.latency is None
