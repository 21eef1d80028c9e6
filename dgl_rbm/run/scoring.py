"""Scores a finished run; the only module of a run that reads test labels."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from dgl_rbm.data.task import NodeTask
from dgl_rbm.evaluation.scores import agreement, score
from dgl_rbm.run.config import DistillConfig
from dgl_rbm.run.metrics import EvaluationMetrics, PartMetrics, RunMetrics, Scores, StudentMetrics, TeacherMetrics
from dgl_rbm.runtime.environment import versions
from dgl_rbm.students.base import Student
from dgl_rbm.teachers.base import Teacher
from dgl_rbm.training.student import StudentFit

__all__ = ["evaluation_metrics", "run_metrics"]


def evaluation_metrics(task: NodeTask, seed: int, logits: Mapping[str, Tensor]) -> EvaluationMetrics:
    """Return the scores of a run's models on its graph; the test labels are read here.

    Parameters
    ----------
    task : NodeTask
        Gives the graph and the test labels.
    seed : int
        Of the run.
    logits : mapping of str to Tensor
        As for `run_metrics`.
    """
    scores = score(task, logits)
    return EvaluationMetrics(
        dataset=task.name,
        setting=task.setting,
        seed=seed,
        teacher=Scores(**scores["teacher"]) if "teacher" in scores else None,
        student=Scores(**scores["student"]),
        classes=list(task.classes),
        agreement=agreement(task, logits["student"], logits["teacher"]) if "teacher" in logits else None,
    )


def run_metrics(
    task: NodeTask,
    config: DistillConfig,
    teacher: Teacher,
    student: Student,
    fit: StudentFit,
    logits: Mapping[str, Tensor],
    seconds: Mapping[str, float],
) -> RunMetrics:
    """Return the metrics of a run; the test labels are read here and nowhere else.

    Parameters
    ----------
    task : NodeTask
        Gives the graph and the test labels.
    config : DistillConfig
        With the components that were chosen.
    teacher, student : Teacher, Student
        Both trained.
    fit : StudentFit
        How the student's training went.
    logits : mapping of str to Tensor
        ``"student"`` and ``"teacher"`` to logits of all nodes, float32 ``[N, C]``. Without a teacher it has no scores,
        and there is no agreement with it.
    seconds : mapping of str to float
        Wall time by stage.
    """
    scored = evaluation_metrics(task, config.seed, logits)
    of_teacher = scored.teacher.model_dump() if scored.teacher is not None else {}
    return RunMetrics(
        dataset=scored.dataset,
        setting=scored.setting,
        seed=scored.seed,
        agreement=scored.agreement,
        classes=scored.classes,
        nodes=task.graph.num_nodes(),
        edges=task.graph.num_edges(),
        teacher=TeacherMetrics(
            kind=teacher.kind,
            **of_teacher,
            parameters=teacher.num_parameters(),
            seconds=seconds.get("teacher", 0.0) + seconds.get("logits", 0.0),
        ),
        student=StudentMetrics(
            kind=student.kind,
            **scored.student.model_dump(),
            parameters=student.num_parameters(),
            active_parameters=student.num_active_parameters(),
            best_epoch=fit.best_epoch,
            epochs=fit.epochs,
            seconds=seconds.get("student", 0.0),
        ),
        encoder=PartMetrics(kind="+".join(part.kind for part in config.encoder), seconds=seconds.get("encoder", 0.0)),
        regularizer=PartMetrics(
            kind="+".join(part.kind for part in config.regularizer), seconds=seconds.get("regularizer", 0.0)
        ),
        versions=versions(),
        format=2,
    )
