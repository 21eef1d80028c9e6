"""Trains a student on a distillation table; the epoch that is kept is chosen on the validation rows."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from pydantic import Field
from torch import Tensor

from dgl_rbm.config import StrictConfig
from dgl_rbm.errors import ConfigError, TrainingError
from dgl_rbm.objectives import distillation_loss, hard_label_loss
from dgl_rbm.sparse import take
from dgl_rbm.students.base import Student, StudentOutput
from dgl_rbm.table import DistillationTable
from dgl_rbm.training.checkpoint import restore_rng_state, rng_state
from dgl_rbm.training.context import RunContext

__all__ = ["ObjectiveConfig", "StudentFit", "StudentTraining", "distillation_objective", "fit_student"]

# Up to this many rows one full-batch step an epoch is both fastest and steadiest.
_FULL_BATCH_UP_TO = 8192
_DEFAULT_BATCH = 4096
_SECONDS_BETWEEN_CHECKPOINTS = 20.0


class ObjectiveConfig(StrictConfig):
    """What the student is asked to match (paper, equations 9 and 12)."""

    hard_label_weight: float = Field(
        default=0.3, ge=0, le=1, description="Share of the loss on training labels, ν; the rest is on teacher targets."
    )
    temperature: float = Field(default=1.0, gt=0, description="Divides the logits of teacher and student, τ.")


class StudentTraining(StrictConfig):
    """How the student is trained."""

    epochs: int = Field(default=500, ge=1, description="Most epochs after any pre-training.")
    lr: float = Field(default=0.01, gt=0, description="Learning rate of Adam.")
    weight_decay: float = Field(default=5e-4, ge=0, description="L2 penalty of Adam.")
    batch_size: int | None = Field(
        default=None, ge=1, description="Rows a step; null takes all rows up to 8192 and else 4096."
    )
    patience: int = Field(
        default=100, ge=1, description="Stop after this many epochs without a better validation accuracy."
    )


@dataclass(frozen=True)
class StudentFit:
    """How a student's training went.

    Attributes
    ----------
    best_epoch : int
        The epoch that was kept, counted from 1 and including pre-training.
    val_accuracy : float
        Its accuracy on the validation rows, in ``[0, 1]``.
    epochs : int
        How many were trained.
    """

    best_epoch: int
    val_accuracy: float
    epochs: int


def distillation_objective(
    output: StudentOutput, table: DistillationTable, rows: Tensor, objective: ObjectiveConfig
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the loss of one batch and its parts.

    The parts are the means of equations 9 and 12 of the paper over all rows and over the labelled rows,
    estimated from the batch; with several heads each learns as if it were alone.

    Parameters
    ----------
    output : StudentOutput
        The student's forward pass on ``table.inputs[rows]``.
    table : DistillationTable
        The targets.
    rows : Tensor
        int64 ``[B]``.
    objective : ObjectiveConfig
        Weights.

    Returns
    -------
    loss : Tensor
        Scalar.
    parts : dict of str to Tensor
        Detached values, averaged over heads.
    """
    labels = table.labels[rows]
    labelled = torch.isin(rows, table.train_idx)
    # Every batch estimates the mean over all labelled rows, also where it holds few or none of them.
    label_scale = len(table) / (len(rows) * max(1, len(table.train_idx)))
    hard_weight = objective.hard_label_weight if table.teacher_logits is not None else 1.0
    parts: dict[str, Tensor] = {}

    def add(name: str, value: Tensor) -> None:
        parts[name] = parts[name] + value if name in parts else value

    for logits in output.heads:
        log_probs = torch.log_softmax(logits[labelled], dim=1)
        add("hard_label", hard_weight * label_scale * hard_label_loss(log_probs, labels[labelled]))
        if table.teacher_logits is not None:
            divergence = distillation_loss(logits, table.teacher_logits[rows], objective.temperature)
            add("distillation", (1 - hard_weight) * divergence.mean())
        if table.neighbor_targets is not None:
            tempered = torch.log_softmax(logits / objective.temperature, dim=1)
            add("neighbor", (1 - hard_weight) * table.neighbor_targets.loss(tempered, rows) / len(rows))
    loss = torch.stack([*parts.values(), *output.penalties.values()]).sum()
    shown = {name: value.detach() / len(output.heads) for name, value in parts.items()}
    return loss, shown | {name: value.detach() for name, value in output.penalties.items()}


def fit_student(
    student: Student,
    table: DistillationTable,
    context: RunContext,
    training: StudentTraining | None = None,
    objective: ObjectiveConfig | None = None,
) -> StudentFit:
    """Train `student` on `table` in place, in the stage ``"student"``, and leave it in its best epoch.

    Epochs of a pre-training phase are not candidates for the best one.

    Raises
    ------
    ConfigError
        Where the table has nothing to learn from.
    TrainingError
        Where the loss is no longer finite.
    """
    if table.teacher_logits is None and not len(table.train_idx):
        raise ConfigError("There is nothing to learn from: the table has neither teacher logits nor training labels.")
    if not len(table.val_idx):
        raise ConfigError("The table has no validation rows, on which the epoch to keep is chosen.")
    run = _StudentRun(student, table, context, training or StudentTraining(), objective or ObjectiveConfig())
    return run.fit()


class _StudentRun:
    """The state of one training run; split from `fit_student` so that a checkpoint can hold all of it."""

    def __init__(
        self,
        student: Student,
        table: DistillationTable,
        context: RunContext,
        training: StudentTraining,
        objective: ObjectiveConfig,
    ) -> None:
        self.student, self.table, self.context = student, table, context
        self.training, self.objective = training, objective
        self.batch_size = training.batch_size or (len(table) if len(table) <= _FULL_BATCH_UP_TO else _DEFAULT_BATCH)
        self.optimizer = self._new_optimizer()
        self.epoch = 0
        self.best_epoch = 0
        self.best_accuracy = -1.0
        self.best_state: dict[str, Tensor] = {}
        self.last_checkpoint = time.monotonic()

    def fit(self) -> StudentFit:
        total = self.student.pretrain_epochs + self.training.epochs
        with self.context.stage("student", total) as stage:
            self._resume()
            while self.epoch < total and not self._out_of_patience():
                metrics = self._train_epoch()
                self.epoch += 1
                metrics |= self._evaluate()
                if self.student.pretraining and self.epoch >= self.student.pretrain_epochs:
                    self.student.finish_pretraining(self.table.inputs)
                    self.optimizer = self._new_optimizer()
                try:
                    stage.step(self.epoch, **metrics)
                except BaseException:
                    # Between two epochs the state is whole, so whoever stops the run here loses nothing.
                    self._checkpoint()
                    raise
                if time.monotonic() - self.last_checkpoint > _SECONDS_BETWEEN_CHECKPOINTS:
                    self._checkpoint()
        if self.best_state:
            self.student.load_state_dict(self.best_state)
        self.context.checkpoints.discard("student-progress")
        return StudentFit(self.best_epoch, self.best_accuracy, self.epoch)

    def _new_optimizer(self) -> torch.optim.Optimizer:
        parameters = self.student.trained_parameters()
        return torch.optim.Adam(parameters, lr=self.training.lr, weight_decay=self.training.weight_decay)

    def _out_of_patience(self) -> bool:
        return bool(self.best_epoch) and self.epoch - self.best_epoch >= self.training.patience

    def _batches(self) -> Iterator[Tensor]:
        if self.batch_size >= len(self.table):
            yield torch.arange(len(self.table), device=self.table.device)
        else:
            yield from torch.randperm(len(self.table)).to(self.table.device).split(self.batch_size)

    def _train_epoch(self) -> dict[str, float]:
        self.student.train()
        if not self.student.pretraining:
            self.student.start_epoch(self.epoch - self.student.pretrain_epochs)
        sums: dict[str, float] = {}
        for rows in self._batches():
            whole = len(rows) == len(self.table)
            inputs = self.table.inputs if whole else take(self.table.inputs, rows)
            loss, parts = distillation_objective(
                self.student.training_forward(inputs), self.table, rows, self.objective
            )
            if not bool(torch.isfinite(loss)):
                raise TrainingError(
                    f"The student's loss is {loss.item()} in epoch {self.epoch + 1}.",
                    hint=f"Try a lower learning rate, such as --set training.lr={self.training.lr / 10:g}.",
                )
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self.optimizer.step()
            self.student.after_step()
            for name, value in (parts | {"loss": loss.detach()}).items():
                sums[name] = sums.get(name, 0.0) + float(value) * len(rows) / len(self.table)
        return sums

    @torch.no_grad()
    def _evaluate(self) -> dict[str, float]:
        table, targets = self.table, self.table.neighbor_targets
        metrics: dict[str, float] = {}
        if targets is not None:
            predicted = self.student.predict(table.inputs).to(table.device)
            metrics |= targets.end_epoch(self.epoch, predicted)
            predicted = predicted[table.val_idx]
        else:
            predicted = self.student.predict(take(table.inputs, table.val_idx)).to(table.device)
        accuracy = float((predicted == table.labels[table.val_idx]).float().mean())
        if accuracy > self.best_accuracy and not self.student.pretraining:
            self.best_accuracy, self.best_epoch = accuracy, self.epoch
            self.best_state = copy.deepcopy(self.student.state_dict())
        return metrics | {"val_accuracy": accuracy}

    def _checkpoint(self) -> None:
        if not self.context.checkpoints.enabled:
            return
        targets = self.table.neighbor_targets
        state: dict[str, Any] = {
            "epoch": self.epoch,
            "best": [self.best_epoch, self.best_accuracy, self.best_state],
            "student": self.student.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "targets": targets.state_dict() if targets is not None else {},
            "rng": rng_state(),
            "history": [entry for entry in self.context.history if entry["stage"] == "student"],
        }
        self.context.checkpoints.save("student-progress", state)
        self.last_checkpoint = time.monotonic()

    def _resume(self) -> None:
        state = self.context.checkpoints.load("student-progress")
        if state is None:
            return
        self.student.load_state_dict(state["student"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.table.neighbor_targets is not None:
            self.table.neighbor_targets.load_state_dict(state["targets"])
        self.epoch = state["epoch"]
        self.best_epoch, self.best_accuracy, self.best_state = state["best"]
        self.context.history.extend(state["history"])
        restore_rng_state(state["rng"])
