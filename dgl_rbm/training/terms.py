"""Terms of the student's loss: the interface that every regularizer's term has, and the sum of all of them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from typing_extensions import Self

from dgl_rbm.rows.sparse import Rows
from dgl_rbm.students.base import Student, StudentOutput
from dgl_rbm.tasks.multiclass import ClassWeight, class_weights
from dgl_rbm.training.objective import ObjectiveConfig, distillation_parts
from dgl_rbm.training.table import DistillationTable

__all__ = ["Batch", "LossTerm", "SoftTargetTerm", "StudentLoss", "random_rows"]


@dataclass(frozen=True)
class Batch:
    """Rows of one training step.

    Attributes
    ----------
    rows : Tensor
        Table rows, int64 ``[B]``.
    inputs : Tensor or StructuredRows
        Their inputs, ``[B, F + P]``.
    forward : callable
        The student's training pass over inputs.
    """

    rows: Tensor
    inputs: Rows
    forward: Callable[[Rows], StudentOutput]


class LossTerm:
    """A summand of the student's loss; this base class adds nothing.

    A regularizer prepares its term once per run, on the CPU; `to` moves it to the device of the training. Every
    training begins with `bind`, which puts the term back into its initial state, so that candidates are trained one
    after the other under the same conditions. Epochs are counted from 1, those of a pre-training phase included.

    Attributes
    ----------
    name : str
        Name under which the history records the loss.
    """

    name: str = "custom"

    def to(self, device: torch.device) -> Self:
        """Return the term on `device`."""
        return self

    def bind(self, student: Student, table: DistillationTable, objective: ObjectiveConfig) -> None:
        """Begin a training: take the initial state, and create what depends on the student and its table.

        Random numbers are drawn from torch's generator, on the CPU.

        Raises
        ------
        ConfigError
            If the term cannot be computed for this student and table.
        """

    def parameters(self) -> list[nn.Parameter]:
        """Return the term's own parameters, which are trained beside the student's."""
        return []

    def loss_before_pass(self, batch: Batch) -> Tensor | None:
        """Return the weighted loss of a term that runs the student itself, a scalar summed over heads.

        It comes before the pass over the batch, since that pass is the one from which students update their memories.
        """
        return None

    def loss(self, batch: Batch, output: StudentOutput) -> Tensor | None:
        """Return the weighted loss of the pass over the batch, a scalar summed over heads."""
        return None

    def needs_predictions(self, epoch: int) -> bool:
        """Whether `end_epoch` is called after `epoch`, at the cost of predicting all rows."""
        return False

    def end_epoch(self, epoch: int, logits: Tensor) -> dict[str, float]:
        """Adapt to the student's logits of all rows, float32 ``[N, C]``; return values to record."""
        return {}

    def patience_starts_at(self, epochs: int) -> int:
        """Return the epoch, of at most `epochs`, after which the term no longer changes what the student learns."""
        return 0

    def state_dict(self) -> dict[str, Any]:
        """Return the state that a checkpoint must hold: nested dicts of tensors and scalars."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned, after `bind`."""


class SoftTargetTerm(LossTerm, ABC):
    """A loss on the tempered predictions of every head, weighted as the teacher's predictions are."""

    def bind(self, student: Student, table: DistillationTable, objective: ObjectiveConfig) -> None:
        """Take weight and temperature from the objective."""
        self._share, self._temperature = objective.shares(table)[1], objective.temperature

    def loss(self, batch: Batch, output: StudentOutput) -> Tensor:
        """Return the mean over rows, summed over heads."""
        total = output.heads[0].new_zeros(())
        for logits in output.heads:
            log_probs = torch.log_softmax(logits / self._temperature, dim=1)
            total = total + self._share * self.summed_loss(log_probs, batch.rows) / len(batch.rows)
        return total

    @abstractmethod
    def summed_loss(self, log_probs: Tensor, rows: Tensor) -> Tensor:
        """Return the loss summed over rows.

        Parameters
        ----------
        log_probs : Tensor
            The student's tempered log-probabilities, float32 ``[B, C]``.
        rows : Tensor
            Table rows that they belong to, int64 ``[B]``.
        """


class StudentLoss:
    """The whole loss of a student: labels, the teacher's predictions, the student's penalties and the loss terms.

    Parameters
    ----------
    objective : ObjectiveConfig
    terms : sequence of LossTerm
        On the table's device; bound here, in this order.
    student : Student
        The student that is trained.
    table : DistillationTable
        What it is trained on.
    class_weight : {"balanced"}, optional
        Weights of the classes in the loss on labels.

    Raises
    ------
    ConfigError
        If a term cannot be computed for this student and table.
    """

    def __init__(
        self,
        objective: ObjectiveConfig,
        terms: Sequence[LossTerm],
        student: Student,
        table: DistillationTable,
        class_weight: ClassWeight | None = None,
    ) -> None:
        self.objective, self.terms, self.table = objective, list(terms), table
        self.class_weights: Tensor | None = None
        if class_weight is not None:
            labels = table.labels[table.train_idx].cpu()
            self.class_weights = class_weights(labels, student.num_classes).to(table.device)
        for term in self.terms:
            term.bind(student, table, objective)

    def __call__(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of one batch and its parts.

        Returns
        -------
        loss : Tensor
            Scalar.
        parts : dict of str to Tensor
            Detached values by name, averaged over heads; terms of the same name are summed.
        """
        early = [term.loss_before_pass(batch) for term in self.terms]
        output = batch.forward(batch.inputs)
        parts = distillation_parts(output.heads, self.table, batch.rows, self.objective, self.class_weights)
        late = [term.loss(batch, output) for term in self.terms]
        for term, *values in zip(self.terms, early, late, strict=True):
            for value in values:
                if value is not None:
                    parts[term.name] = parts[term.name] + value if term.name in parts else value
        loss = torch.stack([*parts.values(), *output.penalties.values()]).sum()
        shown = {name: value.detach() / len(output.heads) for name, value in parts.items()}
        return loss, shown | {name: value.detach() for name, value in output.penalties.items()}

    def parameters(self) -> list[nn.Parameter]:
        """Return the parameters of all terms."""
        return [parameter for term in self.terms for parameter in term.parameters()]

    def needs_predictions(self, epoch: int) -> bool:
        """Whether any term adapts to the student's predictions after `epoch`."""
        return any(term.needs_predictions(epoch) for term in self.terms)

    def end_epoch(self, epoch: int, logits: Tensor) -> dict[str, float]:
        """Let the terms that need the student's logits of all rows adapt to them; return values to record."""
        recorded: dict[str, float] = {}
        for term in self.terms:
            if term.needs_predictions(epoch):
                recorded |= term.end_epoch(epoch, logits)
        return recorded

    def patience_starts_at(self, epochs: int) -> int:
        """Return the epoch, of at most `epochs`, after which no term changes what the student learns."""
        return max((term.patience_starts_at(epochs) for term in self.terms), default=0)

    def state_dict(self) -> list[dict[str, Any]]:
        """Return the states of all terms, in their order."""
        return [term.state_dict() for term in self.terms]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        """Restore what `state_dict` returned."""
        for term, state in zip(self.terms, states, strict=True):
            term.load_state_dict(state)


def random_rows(count: int, most: int, device: torch.device) -> Tensor | None:
    """Return `most` of `count` positions, ascending, or None for all of them; the same on every device."""
    return None if count <= most else torch.randperm(count, device="cpu")[:most].sort().values.to(device)
