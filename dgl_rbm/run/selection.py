"""Selection on validation nodes: the options of every `auto`, and the choice among trained candidates."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar

import torch
from pydantic import Field, SerializeAsAny, field_validator

from dgl_rbm.config import ComponentConfig
from dgl_rbm.encoders.base import EncoderConfig
from dgl_rbm.errors import ConfigError, DglRbmError, TrainingError
from dgl_rbm.registry import Registry, encoders, students
from dgl_rbm.rows.sparse import take
from dgl_rbm.run.metrics import CandidateRecord
from dgl_rbm.students.base import Student, StudentConfig
from dgl_rbm.tasks.multiclass import validation_loss
from dgl_rbm.training.student import StudentFit
from dgl_rbm.training.table import DistillationTable

__all__ = [
    "Choice",
    "EncoderSelection",
    "SelectionConfig",
    "StudentSelection",
    "choose",
    "validation_record",
]

C = TypeVar("C", bound=ComponentConfig)
T = TypeVar("T")


class SelectionConfig(ComponentConfig):
    """Base of the options of `auto`: a list of candidates in place of a component."""

    kind: Literal["auto"] = "auto"


def _candidates(registry: Registry[Any], base: type[C], specs: Any) -> list[C]:
    found = registry.resolve_all(specs, "candidate")
    for i, config in enumerate(found):
        if not isinstance(config, base):
            raise ValueError(f"candidate {i}: '{config.kind}' cannot be a candidate of itself")
    return found


@students.register
class StudentSelection(SelectionConfig):
    """The candidate that does best on the validation nodes."""

    kind: Literal["auto"] = Field(default="auto", description="The best of several students on the validation nodes.")
    candidates: list[SerializeAsAny[StudentConfig]] = Field(
        default=["mlp", "ensemble", "moe", "rbm"],  # type: ignore[list-item]
        min_length=1,
        validate_default=True,
        description="Students to train: names, or options with 'kind'. The one with the highest validation accuracy is "
        "kept; ties go to the lowest loss.",
    )

    @field_validator("candidates", mode="before")
    @classmethod
    def _resolved(cls, candidates: Any) -> Any:
        return _candidates(students, StudentConfig, candidates)


@encoders.register
class EncoderSelection(SelectionConfig):
    """The encoder whose encodings help a student most on the validation nodes."""

    kind: Literal["auto"] = Field(default="auto", description="The best of several encoders on the validation nodes.")
    candidates: list[SerializeAsAny[EncoderConfig]] = Field(
        default=["diffusion", "soft_labels", "none"],  # type: ignore[list-item]
        min_length=1,
        validate_default=True,
        description="Encoders to try: names, or options with 'kind'. The one with the highest validation accuracy is "
        "kept; ties go to the lowest loss. Without predictions of a teacher, 'label_propagation' takes the place of "
        "'soft_labels' among the defaults. In inductive runs, encoders that are fitted with the validation nodes in "
        "the graph, such as 'deepwalk', have a head start over 'soft_labels', which hides them.",
    )
    judge: SerializeAsAny[StudentConfig] = Field(
        default="mlp",  # type: ignore[assignment]
        validate_default=True,
        description="Student that is trained on the encodings of each candidate; a quick one.",
    )

    judge_steps: int = Field(
        default=200, ge=1, description="Training steps of the judge on each candidate, and at least 10 epochs."
    )

    @field_validator("candidates", mode="before")
    @classmethod
    def _resolved(cls, candidates: Any) -> Any:
        return _candidates(encoders, EncoderConfig, candidates)

    @field_validator("judge", mode="before")
    @classmethod
    def _one_student(cls, judge: Any) -> Any:
        if isinstance(judge, Mapping):
            judge = {"kind": "mlp", **judge}
        try:
            found = students.resolve(judge)
        except ConfigError as error:
            raise ValueError(error.in_one_line) from None
        if not isinstance(found, StudentConfig):
            raise ValueError("the judge is one student, not 'auto'")
        return found

    def without_teacher(self) -> EncoderSelection:
        """Return the selection for a teacher without predictions: default candidates that read none."""
        if "candidates" in self.model_fields_set:
            return self
        kinds = ["label_propagation" if part.kind == "soft_labels" else part.kind for part in self.candidates]
        return EncoderSelection(**self.model_dump(exclude={"candidates"}), candidates=kinds)

    @property
    def reads_teacher(self) -> bool:
        """Whether the encodings of a candidate depend on the teacher."""
        return any(candidate.reads_teacher for candidate in self.candidates)


@dataclass(frozen=True)
class Choice(Generic[T]):
    """The candidate that validation chose.

    Attributes
    ----------
    index : int
        Its position among the candidates.
    outcome : object
        Its result.
    records : list of CandidateRecord
        Of all candidates, in their order.
    """

    index: int
    outcome: T
    records: list[CandidateRecord]


def choose(
    candidates: Sequence[C],
    train: Callable[[int, C], tuple[T, CandidateRecord]],
    *,
    skipped: tuple[type[DglRbmError], ...] = (TrainingError,),
) -> Choice[T]:
    """Return the candidate with the highest validation score; ties go to the lowest loss.

    The loss counts less here than in the choice of an epoch: between models it measures confidence rather than
    correctness. A model that reads the teacher's predictions can have the lower loss and the lower accuracy.

    Parameters
    ----------
    candidates : sequence of ComponentConfig
        At least one.
    train : callable
        Takes a candidate's position and config; returns its result and its `validation_record`.
    skipped : tuple of type
        Errors that exclude a candidate and are recorded in its place.

    Raises
    ------
    DglRbmError
        If no candidate can be trained: the error of the last.
    """
    best: tuple[tuple[float, float], int, T] | None = None
    records: list[CandidateRecord] = []
    for i, candidate in enumerate(candidates):
        try:
            outcome, record = train(i, candidate)
        except skipped as error:
            if i + 1 == len(candidates) and best is None:
                raise
            # The others may do well under options with which this one cannot be trained.
            records.append(CandidateRecord(kind=candidate.kind, val_accuracy=None, error=error.in_one_line))
            continue
        records.append(record)
        rank = record.rank
        if best is None or rank > best[0]:
            best = (rank, i, outcome)
    assert best is not None
    return Choice(best[1], best[2], records)


def validation_record(student: Student, fit: StudentFit, table: DistillationTable) -> CandidateRecord:
    """Return the validation scores of a trained candidate, and its cost."""
    labels = table.labels[table.val_idx]
    with torch.no_grad():
        logits = student._logits(take(table.inputs, table.val_idx))
    return CandidateRecord(
        kind=student.kind,
        val_accuracy=fit.val_accuracy,
        val_score=fit.val_score if fit.val_score != fit.val_accuracy else None,
        val_loss=validation_loss(logits, labels),
        best_epoch=fit.best_epoch,
        active_parameters=student.num_active_parameters(),
    )
