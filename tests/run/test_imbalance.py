"""Graphs with a rare class: class weights, and selection by scores that count each class equally."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from sklearn.metrics import balanced_accuracy_score, recall_score

from dgl_rbm import NodeTask, Run, make_task
from dgl_rbm.console.summary import print_comparison
from dgl_rbm.data.dgl_compat import dgl
from dgl_rbm.evaluation.scores import score
from dgl_rbm.run.pipeline import Pipeline, run_context
from dgl_rbm.run.report import render_report
from dgl_rbm.tasks.multiclass import balanced_accuracy, macro_f1

from .conftest import quick_distiller

N, RARE = 900, 90


def rare_class_task() -> NodeTask:
    """Return a task with a class of one node in ten, whose features overlap with those of the other."""
    generator = torch.Generator().manual_seed(5)
    labels = (torch.arange(N) < RARE).long()[torch.randperm(N, generator=generator)]
    features = torch.randn(N, 4, generator=generator)
    features[:, 0] += 1.5 * labels
    ends = torch.randint(N, (2, 9000), generator=generator)
    ends = ends[:, labels[ends[0]] == labels[ends[1]]][:, :2000]
    return make_task(dgl.graph((ends[0], ends[1]), num_nodes=N), features=features, labels=labels, split="0.4/0.3/0.3")


def balanced(run: Any, logits: torch.Tensor) -> float:
    return balanced_accuracy(logits[run.task.test_idx].argmax(1), run.task.test_labels())


def distilled(teacher: dict[str, Any], student: dict[str, Any]) -> Any:
    teacher = {"kind": "sage", "hidden_dim": 8, "training": {"epochs": 40, **teacher}}
    options = {"epochs": 40, "lr": 0.03, **student}
    objective = {"hard_label_weight": 1.0}
    run = quick_distiller(teacher=teacher, student="mlp", training=options, objective=objective, encoder="none")
    return run.fit(rare_class_task())


def test_balanced_weights_raise_the_balanced_accuracy() -> None:
    plain, weighted = distilled({}, {}), distilled({"class_weight": "balanced"}, {"class_weight": "balanced"})
    assert balanced(weighted, weighted.teacher_logits) > balanced(plain, plain.teacher_logits) + 0.05
    assert balanced(weighted, weighted.student_logits) > balanced(plain, plain.student_logits) + 0.05


def test_metrics_show_each_class(tmp_path: Path) -> None:
    run = distilled({"class_weight": "balanced"}, {"class_weight": "balanced"})
    task, scores = run.task, run.metrics.student
    for part, idx, labels in (
        ("test", task.test_idx, task.test_labels()),
        ("val", task.val_idx, task.val_labels()),
    ):
        predicted = run.student_logits[idx].argmax(1).numpy()
        expected = recall_score(labels.numpy(), predicted, average=None)
        assert getattr(scores, f"{part}_recalls") == pytest.approx(expected.tolist())
        balanced_score = balanced_accuracy_score(labels.numpy(), predicted)
        assert getattr(scores, f"{part}_balanced_accuracy") == pytest.approx(balanced_score)
    assert run.metrics.classes == [0, 1]
    assert Run.load(run.save(tmp_path / "run")).metrics == run.metrics
    report = (tmp_path / "run" / "report.md").read_text()
    assert "balanced accuracy" in report
    assert f"| 1 | {100 * run.metrics.teacher.test_recalls[1]:.2f} % |" in report


def test_a_model_that_predicts_one_class_is_named(tmp_path: Path) -> None:
    run = distilled({}, {"lr": 1e-9, "epochs": 1})
    labels = ["frequent", "rare"]
    scores = run.metrics.student.model_copy(update={"only_prediction": labels[0]})
    metrics = run.metrics.model_copy(update={"student": scores, "classes": labels})
    words = "The student predicts the class 'frequent' for every test node"
    assert words in render_report(metrics, {})
    console = Console(file=io.StringIO(), width=200)
    print_comparison(console, metrics, tmp_path)
    assert words in console.file.getvalue()  # type: ignore[attr-defined]
    constant = torch.zeros(N, 2)
    constant[:, 1] = 1
    assert score(run.task, {"student": constant})["student"]["only_prediction"] == 1
    perfect = (run.task._labels[:, None] == torch.arange(2)).float()
    assert score(run.task, {"student": perfect})["student"]["only_prediction"] is None


@pytest.mark.parametrize(("name", "measure"), [("balanced_accuracy", balanced_accuracy), ("macro_f1", macro_f1)])
def test_the_epoch_with_the_best_score_is_kept(name: str, measure: Any) -> None:
    run = distilled({"select_by": name}, {"select_by": name})
    task = run.task
    for stage, logits in (("teacher", run.teacher_logits), ("student", run.student_logits)):
        values = [entry[f"val_{name}"] for entry in run.history if entry["stage"] == stage]
        assert measure(logits[task.val_idx].argmax(1), task.val_labels()) == pytest.approx(max(values))


def test_candidates_are_compared_by_the_same_score() -> None:
    options = {"epochs": 10, "select_by": "macro_f1"}
    distiller = quick_distiller(training=options, student={"kind": "auto", "candidates": ["mlp", "moe"]})
    task = rare_class_task()
    run = distiller.fit(task)
    records = run.metrics.candidates
    assert records is not None
    best = max(records, key=lambda record: record.rank)
    assert run.student.kind == best.kind
    val = run.student_logits[task.val_idx].argmax(1)
    assert best.score == pytest.approx(macro_f1(val, task.val_labels()))
    record = Pipeline(task, distiller.config, run_context(distiller.config)).validate(task.test_labels())
    test = run.student_logits[task.test_idx].argmax(1)
    assert record.score == pytest.approx(macro_f1(test, task.test_labels()))
