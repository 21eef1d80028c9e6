"""Metrics of a run: scores, sizes, times and versions, as ``metrics.json`` holds them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import BaseModel, ConfigDict

__all__ = [
    "CandidateRecord",
    "EvaluationMetrics",
    "Latency",
    "PartMetrics",
    "RunMetrics",
    "Scores",
    "StudentMetrics",
    "TeacherMetrics",
]


class _Frozen(BaseModel):
    # Metrics of later versions, which this one does not know, are passed over.
    model_config = ConfigDict(frozen=True, extra="ignore")


class CandidateRecord(_Frozen):
    """Validation record of a candidate.

    Attributes
    ----------
    kind : str
        Of the component.
    val_accuracy : float or None
        On the validation nodes, in ``[0, 1]``; None if the candidate cannot be trained.
    val_score : float or None
        The score by which candidates are compared, if it is not the accuracy: balanced accuracy or macro F1.
    val_loss : float or None
        Mean cross-entropy there, in nats.
    best_epoch : int or None
        The epoch that was kept.
    active_parameters : int or None
        Parameters that the prediction of one row uses.
    error : str or None
        Why the candidate cannot be trained.
    """

    kind: str
    val_accuracy: float | None
    val_score: float | None = None
    val_loss: float | None = None
    best_epoch: int | None = None
    active_parameters: int | None = None
    error: str | None = None

    @property
    def score(self) -> float | None:
        """The score by which candidates are compared; None if the candidate cannot be trained."""
        return self.val_accuracy if self.val_score is None else self.val_score

    @property
    def rank(self) -> tuple[float, float]:
        """Score and negative loss of a trained candidate; the largest is the best."""
        assert self.score is not None, "the candidate was trained"
        assert self.val_loss is not None, "the candidate was trained"
        return self.score, -self.val_loss


class Scores(_Frozen):
    """Scores of a model, each in ``[0, 1]``; None if the run has no such nodes.

    Attributes
    ----------
    test_accuracy, test_macro_f1 : float or None
        On all test nodes in the transductive setting, on the unseen ones in the inductive one. None for a teacher that
        predicts nothing.
    test_balanced_accuracy : float or None
        Mean recall of the classes, on the same nodes.
    test_recalls : list of float or None
        Recall of each class there, in the order of `EvaluationMetrics.classes`; None for a class without a node.
    only_prediction : int, str or None
        The class that the model predicts for all of these nodes; None if it predicts several.
    val_accuracy, val_balanced_accuracy, val_recalls : float, float, list, or None
        On the validation nodes.
    observed_test_accuracy : float or None
        Inductive setting: on the test nodes that were in the graph during training.
    production_accuracy : float or None
        Inductive setting: 0.8 of the accuracy on observed test nodes and 0.2 of that on unseen ones.
    """

    test_accuracy: float | None = None
    test_macro_f1: float | None = None
    test_balanced_accuracy: float | None = None
    test_recalls: list[float | None] | None = None
    only_prediction: int | str | None = None
    val_accuracy: float | None = None
    val_balanced_accuracy: float | None = None
    val_recalls: list[float | None] | None = None
    observed_test_accuracy: float | None = None
    production_accuracy: float | None = None


class Latency(_Frozen):
    """Measured prediction time.

    Attributes
    ----------
    p50_us, p99_us : float
        Of requests for one node, in microseconds.
    batch_us : float or None
        Per node of requests for 1,024 nodes, in microseconds; of students alone.
    fetched_rows : float
        Mean number of stored rows behind one answer.
    """

    p50_us: float
    p99_us: float
    batch_us: float | None = None
    fetched_rows: float


class TeacherMetrics(Scores):
    """A teacher's scores, size and training time.

    Attributes
    ----------
    kind : str
        Name of the component.
    parameters : int
        Trained parameters.
    seconds : float
        Wall time of its training and predictions.
    latency : Latency or None
        None if it was not measured.
    """

    kind: str
    parameters: int
    seconds: float
    latency: Latency | None = None


class StudentMetrics(TeacherMetrics):
    """A student's scores, size and training time.

    Attributes
    ----------
    active_parameters : int
        Parameters that the prediction of one row uses.
    best_epoch, epochs : int
        The epoch that was kept, counted from 1, and how many were trained.
    """

    active_parameters: int
    best_epoch: int
    epochs: int


class PartMetrics(_Frozen):
    """Cost of the encoders or the regularizer.

    Attributes
    ----------
    kind : str
        Names of the components, joined by ``+``.
    seconds : float
        Wall time.
    candidates : list of CandidateRecord or None
        If validation chose the component: the records of all candidates.
    """

    kind: str
    seconds: float
    candidates: list[CandidateRecord] | None = None


class EvaluationMetrics(_Frozen):
    """Scores of teacher and student on a graph.

    Attributes
    ----------
    dataset, setting : str
    seed : int
    teacher : Scores or None
        None if there is no teacher.
    student : Scores
    classes : list of int or str, or None
        The label that each class number stands for.
    agreement : float or None
        Share of test nodes (inductive: unseen nodes) on which teacher and student predict the same class.
    """

    dataset: str
    setting: str
    seed: int
    teacher: Scores | None = None
    student: Scores
    agreement: float | None = None
    classes: list[int | str] | None = None


class RunMetrics(EvaluationMetrics):
    """Everything that is measured of a run.

    Attributes
    ----------
    nodes, edges : int
        Of the whole graph.
    teacher : TeacherMetrics
    student : StudentMetrics
    encoder, regularizer : PartMetrics
    candidates : list of CandidateRecord or None
        If validation chose the student: the records of all candidates.
    seconds : dict of str to float
        Wall time by stage.
    versions : dict of str to str or None
        Of this package and of what it depends on.
    format : int
        Version of the folder's layout: 1 before there was a manifest.
    """

    nodes: int
    edges: int
    teacher: TeacherMetrics
    student: StudentMetrics
    encoder: PartMetrics
    regularizer: PartMetrics
    candidates: list[CandidateRecord] | None = None
    seconds: dict[str, float] = {}
    versions: dict[str, str | None]
    format: int = 1

    def to_values(self) -> dict[str, Any]:
        """Return nested plain values, as they stand in a JSON file; what a run does not have is left out."""
        return self.model_dump(mode="json", exclude_none=True)

    def completed(
        self,
        latency: Mapping[str, Mapping[str, float] | None],
        encoders: Sequence[CandidateRecord],
        students: Sequence[CandidateRecord],
        seconds: Mapping[str, float],
    ) -> RunMetrics:
        """Return the metrics with what is known at the end of the run.

        Parameters
        ----------
        latency : mapping of str to mapping
            ``"teacher"`` and ``"student"`` to the fields of `Latency`, None if it was not measured.
        encoders, students : sequence of CandidateRecord
            Of the candidates among which validation chose, if it did.
        seconds : mapping of str to float
            Wall time by stage.
        """
        times = {role: None if found is None else Latency(**found) for role, found in latency.items()}
        return self.model_copy(
            update={
                "teacher": self.teacher.model_copy(update={"latency": times["teacher"]}),
                "student": self.student.model_copy(update={"latency": times["student"]}),
                "encoder": self.encoder.model_copy(update={"candidates": list(encoders) or None}),
                "candidates": list(students) or None,
                "seconds": {name: round(value, 4) for name, value in seconds.items()},
            }
        )
