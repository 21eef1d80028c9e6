"""Training of a student on a distillation table, with the best epoch on the validation rows kept."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, cast

import torch
from pydantic import Field
from torch import Tensor

from dgl_rbm.errors import ConfigError, TrainingError
from dgl_rbm.precision import Precision, check_precision, mixed_precision
from dgl_rbm.rows.sparse import Rows, dropout, take
from dgl_rbm.runtime.context import RunContext
from dgl_rbm.runtime.seeding import seeded
from dgl_rbm.students.base import Student, StudentOutput
from dgl_rbm.tasks.multiclass import (
    ClassWeight,
    SelectBy,
    selection_score,
    validation_accuracy,
    validation_loss,
    validation_score,
)
from dgl_rbm.training.averaging import AveragedModule
from dgl_rbm.training.epochs import EpochLoop, patience_in_epochs
from dgl_rbm.training.objective import ObjectiveConfig
from dgl_rbm.training.optimizer import OptimizerConfig, make_optimizer, set_learning_rate
from dgl_rbm.training.routing_record import routing_recorder
from dgl_rbm.training.table import DistillationTable
from dgl_rbm.training.terms import Batch, LossTerm, StudentLoss

__all__ = ["StudentFit", "StudentTraining", "fit_student", "shortened"]

# Up to this many rows, one full-batch step per epoch is fastest and has the least noise.
_FULL_BATCH_UP_TO = 32_768
_DEFAULT_BATCH = 4096
_FEWEST_EPOCHS = 10
# Scores of epochs that take the place of the accuracy in comparisons of models.
_COMPARED = ("balanced_accuracy", "macro_f1")


class StudentTraining(OptimizerConfig):
    """How the student is trained."""

    former_names: ClassVar[Any] = {"learn_validation": "distill_on_validation"}

    epochs: int = Field(default=500, ge=1, description="Maximum number of epochs after any pre-training.")
    lr: float = Field(default=0.003, gt=0, description="Learning rate, after any warm-up.")
    schedule: Literal["constant", "cosine"] = Field(
        default="constant",
        description="Learning rate over the epochs after any pre-training: constant, or decayed from `lr` to 0 along "
        "half a cosine wave.",
    )
    averaging: float = Field(
        default=0.98,
        ge=0,
        lt=1,
        description="Decay of the moving average of the weights in a step; the average is validated and kept instead "
        "of the last weights. 0 switches averaging off.",
    )
    input_dropout: float = Field(
        default=0.0,
        ge=0,
        lt=1,
        description="Share of the student's inputs dropped in training, features and encodings alike; of sparse rows "
        "only stored entries count.",
    )
    batch_size: int | None = Field(
        default=None, ge=1, description="Rows per step; null uses all rows up to 32768, and 4096 beyond."
    )
    patience: int | None = Field(
        default=None,
        ge=1,
        description="Stop after this many epochs without a better validation score, counted from the last round of "
        "`pseudo_labels` or later. null: 100 steps, and at least 20 epochs.",
    )
    select_by: SelectBy = Field(
        default="both",
        description="Validation score that selects the epoch to keep: 'accuracy', 'balanced_accuracy', 'macro_f1', "
        "'loss', or 'both', the accuracy minus 0.3 times the mean cross-entropy in nats. `auto` and `tune` choose by "
        "balanced accuracy or macro F1 if it is one of these, and by accuracy otherwise.",
    )
    class_weight: ClassWeight | None = Field(
        default=None,
        description="Weight of each class in the loss on training labels: 'balanced' for the inverse of its number of "
        "training nodes, null for equal weights of all nodes. The loss on teacher targets is not weighted.",
    )
    precision: Precision = Field(
        default="float32",
        description="Precision of the matrix products in training steps: 'float32', or 'bf16' for bfloat16 under "
        "autocast, on GPUs of compute capability 8.0 or higher. Everything else, predictions included, is in float32.",
    )
    distill_on_validation: bool | None = Field(
        default=None,
        description="Whether the student is also trained on the validation nodes, with the teacher's predictions as "
        "targets and never with their labels. null means yes in the transductive setting, as for test nodes, and no in "
        "the inductive setting, where validation scores then estimate those of unseen nodes. Without a teacher null "
        "always means yes.",
    )
    record_routing: bool = Field(
        default=False,
        description="Whether the history records expert utilisation and routing stability of every epoch, for "
        "students that route.",
    )

    def rows_per_step(self, count: int) -> int:
        """Return the batch size for `count` training rows."""
        return self.batch_size or (count if count <= _FULL_BATCH_UP_TO else _DEFAULT_BATCH)


def shortened(training: StudentTraining, count: int, steps: int) -> StudentTraining:
    """Return options that train at most `steps` steps on `count` rows, or 10 epochs if these are more."""
    epochs = max(_FEWEST_EPOCHS, math.ceil(steps * training.rows_per_step(count) / count))
    return training.model_copy(update={"epochs": min(training.epochs, epochs)})


@dataclass(frozen=True)
class StudentFit:
    """Result of a student's training.

    Attributes
    ----------
    best_epoch : int
        The epoch that was kept, counted from 1 and including pre-training; 0 if the student has nothing to train.
    val_accuracy : float
        Its accuracy on the validation rows, in ``[0, 1]``.
    val_score : float
        Its `dgl_rbm.tasks.multiclass.validation_score` there, which compares it with other students.
    epochs : int
        Number of trained epochs, including pre-training.
    """

    best_epoch: int
    val_accuracy: float
    val_score: float
    epochs: int


def fit_student(
    student: Student,
    table: DistillationTable,
    context: RunContext,
    training: StudentTraining | None = None,
    objective: ObjectiveConfig | None = None,
    terms: Sequence[LossTerm] = (),
) -> StudentFit:
    """Train `student` on `table` in place, in the stage ``"student"``, and leave it in its best epoch.

    Epochs of a pre-training phase are not candidates for the best one. `terms` are on the table's device and begin
    anew.

    Raises
    ------
    ConfigError
        If the table has nothing to learn from, the device cannot train in this precision, or a term cannot be computed
        for this student and table.
    TrainingError
        If the loss is no longer finite.
    """
    if table.teacher_logits is None and not len(table.train_idx):
        raise ConfigError("There is nothing to learn from: the table has neither teacher logits nor training labels.")
    if not len(table.val_idx):
        raise ConfigError("The table has no validation rows, which select the epoch to keep.")
    if not len(table.distilled_rows):
        raise ConfigError(
            "Every row of the table is a validation row, and validation rows are excluded from training.",
            hint="Set training.distill_on_validation to true.",
        )
    training = training or StudentTraining()
    check_precision(training.precision, table.device, where="training.precision")
    if not student.trained_parameters():
        return _evaluated(student, table, context, training)
    loop = _StudentRun(student, table, context, training, objective or ObjectiveConfig(), terms)
    loop.run()
    if not loop.best_epoch:
        raise TrainingError(
            "The student's loss on the validation rows was not finite in any epoch.",
            hint=f"Try a lower learning rate, such as --set training.lr={training.lr / 10:g}.",
        )
    return StudentFit(loop.best_epoch, loop.best_accuracy, loop.best_validation, loop.epoch)


@torch.no_grad()
def _evaluated(
    student: Student, table: DistillationTable, context: RunContext, training: StudentTraining
) -> StudentFit:
    """Return the validation scores of a student that has nothing to train."""
    with context.stage("student", unit="steps"):
        logits, labels = student._logits(take(table.inputs, table.val_idx)), table.labels[table.val_idx]
    found = validation_accuracy(logits, labels)
    select_by = training.select_by
    compared = validation_score(logits, labels, select_by) if select_by in _COMPARED else found
    return StudentFit(0, found, compared, 0)


class _StudentRun(EpochLoop):
    def __init__(
        self,
        student: Student,
        table: DistillationTable,
        context: RunContext,
        training: StudentTraining,
        objective: ObjectiveConfig,
        terms: Sequence[LossTerm],
    ) -> None:
        self.rows = table.distilled_rows
        count = len(self.rows)
        self.batch_size = training.rows_per_step(count)
        self.steps_per_epoch = math.ceil(count / self.batch_size)
        self.training = training
        with seeded(context.seed, "objective-weights"):
            self.loss = StudentLoss(objective, terms, student, table, training.class_weight)
        super().__init__(
            "student",
            student,
            self._new_optimizer(student),
            context,
            epochs=student.pretrain_epochs + training.epochs,
            patience=patience_in_epochs(training.patience, self.steps_per_epoch),
        )
        self.student, self.table = student, table
        self.averaged = AveragedModule(student, training.averaging) if training.averaging else None
        self.val_inputs = take(table.inputs, table.val_idx)
        self.routing = routing_recorder(table.inputs, enabled=training.record_routing)
        self.best_accuracy = self.best_validation = 0.0
        # Full batches share one copy of the rows.
        self.inputs = take(table.inputs, self.rows) if self.batch_size >= count < len(table) else table.inputs

    def train_epoch(self) -> dict[str, float]:
        self.student.train()
        if not self.student.pretraining:
            self.student.start_epoch(self.epoch - self.student.pretrain_epochs)
        noted: list[tuple[int, dict[str, Tensor]]] = []
        done, total = 0, len(self.rows)
        for rows in self._batches():
            inputs = self.inputs if len(rows) == total else take(self.table.inputs, rows)
            loss, parts = self.loss(Batch(rows, inputs, self._forward))
            if not bool(torch.isfinite(loss)):
                raise TrainingError(
                    f"The student's loss is {loss.item()} in epoch {self.epoch + 1}.",
                    hint=f"Try a lower learning rate, such as --set training.lr={self.training.lr / 10:g}.",
                )
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self._set_learning_rate()
            self.optimizer.step()
            self.student.after_step()
            if self.averaged is not None:
                self.averaged.update()
            noted.append((len(rows), parts | {"loss": loss.detach()}))
            done += len(rows)
            self.context.substep(done, total)
        return _means_over_rows(noted)

    def _forward(self, inputs: Rows) -> StudentOutput:
        if self.training.input_dropout:
            inputs = dropout(inputs, self.training.input_dropout)
        with mixed_precision(self.training.precision, inputs.device):
            output = self.student.training_forward(inputs)
        if self.training.precision != "float32":
            output.heads = [logits.float() for logits in output.heads]
        return output

    @torch.no_grad()
    def end_epoch(self) -> dict[str, float]:
        table = self.table
        metrics: dict[str, float] = {}
        student = self.candidate()
        if self.loss.needs_predictions(self.epoch):
            of_all = student._logits(table.inputs)
            metrics |= self.loss.end_epoch(self.epoch, of_all)
            logits = of_all[table.val_idx]
        else:
            logits = student._logits(self.val_inputs)
        labels = table.labels[table.val_idx]
        metrics["val_accuracy"] = validation_accuracy(logits, labels)
        metrics["val_loss"] = validation_loss(logits, labels)
        select_by = self.training.select_by
        value = metrics["val_accuracy"]
        if select_by in _COMPARED:
            value = metrics[f"val_{select_by}"] = validation_score(logits, labels, select_by)
        score = selection_score(value, metrics["val_loss"], select_by)
        if self.note(score, candidate=not self.student.pretraining):
            self.best_accuracy, self.best_validation = metrics["val_accuracy"], value
        metrics |= self.routing.end_epoch(student)
        if self.student.pretraining and self.epoch >= self.student.pretrain_epochs:
            self.student.finish_pretraining(table.inputs)
            self.optimizer = self._new_optimizer(self.student)
            if self.averaged is not None:
                self.averaged.restart()
        return metrics

    @property
    def patience_starts_at(self) -> int:
        return max(self.student.patience_starts_at, self.loss.patience_starts_at(self.epochs))

    def candidate(self) -> Student:
        return self.student if self.averaged is None else cast(Student, self.averaged.average)

    def extra_state(self) -> dict[str, Any]:
        return {
            "terms": self.loss.state_dict(),
            "averaged": {} if self.averaged is None else self.averaged.state_dict(),
            "routing": self.routing.state_dict(),
            "steps": self.steps,
            "best_accuracy": self.best_accuracy,
            "best_validation": self.best_validation,
        }

    def load_extra_state(self, state: dict[str, Any]) -> None:
        self.loss.load_state_dict(state["terms"])
        if self.averaged is not None:
            self.averaged.load_state_dict(state["averaged"])
        self.routing.load_state_dict(state["routing"])
        self.steps = state["steps"]
        self.best_accuracy, self.best_validation = state["best_accuracy"], state["best_validation"]

    def _new_optimizer(self, student: Student) -> torch.optim.Optimizer:
        """Return a new optimiser of the student and of the losses' parameters; its warm-up starts anew."""
        self.steps = 0
        parameters = [*student.trained_parameters(), *self.loss.parameters()]
        return make_optimizer(parameters, self.training, steps_per_epoch=self.steps_per_epoch)

    def _set_learning_rate(self) -> None:
        done = max(0, self.epoch - self.student.pretrain_epochs) / self.training.epochs
        factor = (1 + math.cos(math.pi * done)) / 2 if self.training.schedule == "cosine" else 1.0
        set_learning_rate(self.optimizer, self.training, self.steps, factor)
        self.steps += 1

    def _batches(self) -> Iterator[Tensor]:
        if self.batch_size >= len(self.rows):
            yield self.rows
        else:
            order = torch.randperm(len(self.rows)).to(self.table.device)
            yield from self.rows[order].split(self.batch_size)


def _means_over_rows(noted: list[tuple[int, dict[str, Tensor]]]) -> dict[str, float]:
    """Return the means over rows of the values of all steps, each given with its number of rows.

    All values are read at once after the last step: reading them one by one would synchronise a GPU every time.
    """
    values = iter(torch.stack([value for _, parts in noted for value in parts.values()]).tolist())
    total = sum(rows for rows, _ in noted)
    means: dict[str, float] = {}
    for rows, parts in noted:
        for name in parts:
            means[name] = means.get(name, 0.0) + next(values) * rows / total
    return means
