"""Adversarial rows: the student predicts alike for rows that are perturbed against it, as in NOSMOG."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from dgl_rbm.data.task import ObservedGraph
from dgl_rbm.objectives import perturbed_by_gradient
from dgl_rbm.registry import regularizers
from dgl_rbm.regularizers.base import Regularizer, RegularizerConfig
from dgl_rbm.rows.sparse import take
from dgl_rbm.runtime.context import RunContext
from dgl_rbm.students.base import Student
from dgl_rbm.teachers.base import Teacher, TeacherOutput
from dgl_rbm.training.objective import ObjectiveConfig, distillation_parts
from dgl_rbm.training.table import DistillationTable
from dgl_rbm.training.terms import Batch, LossTerm, random_rows

__all__ = ["AdversarialConfig", "AdversarialRegularizer", "AdversarialTerm"]


class AdversarialTerm(LossTerm):
    """The loss on labels and the teacher's predictions at rows that are perturbed so that it is larger.

    Sparse rows become dense for it, since every number of a row may change. Passes over perturbed rows change neither
    the running means of normalisation layers nor, as they come before the pass over the true rows, the memories.

    Parameters
    ----------
    options : AdversarialRegularizer
    """

    name = "adversarial"

    def __init__(self, options: AdversarialRegularizer) -> None:
        self.options = options

    def bind(self, student: Student, table: DistillationTable, objective: ObjectiveConfig) -> None:
        """Begin a training; there is no state."""
        self._student, self._table, self._objective = student, table, objective

    def loss_before_pass(self, batch: Batch) -> Tensor:
        """Return the weighted loss on the batch's rows, or on a random part of them."""
        options = self.options
        some = random_rows(len(batch.rows), options.rows, batch.inputs.device)
        rows = batch.rows if some is None else batch.rows[some]
        inputs = batch.inputs if some is None else take(batch.inputs, some)
        dense = inputs if isinstance(inputs, Tensor) else inputs.to_dense()

        def loss(x: Tensor) -> Tensor:
            parts = distillation_parts(batch.forward(x).heads, self._table, rows, self._objective)
            return torch.stack([*parts.values()]).sum()

        with _unchanged_buffers(self._student):
            perturbed = perturbed_by_gradient(
                loss, dense, radius=options.eps, steps=options.steps, step_size=options.eps / 4
            )
            return options.weight * loss(perturbed)


@contextmanager
def _unchanged_buffers(module: nn.Module) -> Iterator[None]:
    """Restore the buffers' values; through ``data``, since autograd would take it for a write to saved tensors."""
    before = [(buffer, buffer.detach().clone()) for buffer in module.buffers()]
    try:
        yield
    finally:
        for buffer, value in before:
            buffer.data.copy_(value)


class AdversarialRegularizer(Regularizer):
    """Regularizer with a loss on perturbed rows.

    Parameters
    ----------
    weight : float
        Scale of the loss.
    eps : float
        ε, the largest change of any number of a row.
    steps : int
        Gradient steps of size ε/4.
    rows : int
        Most rows of a batch that are perturbed; larger batches are subsampled.
    """

    kind = "adversarial"

    def __init__(self, *, weight: float = 0.1, eps: float = 0.02, steps: int = 5, rows: int = 256) -> None:
        self.weight, self.eps, self.steps, self.rows = weight, eps, steps, rows

    def prepare(
        self,
        observed: ObservedGraph,
        teacher: Teacher,
        output: TeacherOutput,
        temperature: float,
        context: RunContext,
    ) -> AdversarialTerm:
        """Return the loss term."""
        return AdversarialTerm(self)


@regularizers.register
class AdversarialConfig(RegularizerConfig):
    """Equal predictions for rows that are perturbed against the student (NOSMOG)."""

    module: ClassVar[Any] = AdversarialRegularizer

    kind: Literal["adversarial"] = "adversarial"
    weight: float = Field(default=0.1, ge=0, description="Scale of the loss on perturbed rows.")
    eps: float = Field(default=0.02, gt=0, description="Largest change of any number of a row, ε.")
    steps: int = Field(default=5, ge=1, description="Gradient steps of size ε/4 that perturb the rows.")
    rows: int = Field(
        default=256, ge=1, description="Most rows of a batch that are perturbed; larger batches are subsampled."
    )
