"""Graphs with a rare class: class weights, and selection by scores that count each class equally."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from dgl_rbm import NodeTask, make_task
from dgl_rbm.data.dgl_compat import dgl
from dgl_rbm.run.pipeline import Pipeline, run_context
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


@pytest.mark.parametrize(("name", "score"), [("balanced_accuracy", balanced_accuracy), ("macro_f1", macro_f1)])
def test_the_epoch_with_the_best_score_is_kept(name: str, score: Any) -> None:
    run = distilled({"select_by": name}, {"select_by": name})
    task = run.task
    for stage, logits in (("teacher", run.teacher_logits), ("student", run.student_logits)):
        values = [entry[f"val_{name}"] for entry in run.history if entry["stage"] == stage]
        assert score(logits[task.val_idx].argmax(1), task.val_labels()) == pytest.approx(max(values))


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
