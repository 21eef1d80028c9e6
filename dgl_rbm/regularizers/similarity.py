"""Similarity of hidden states: those of the student are as similar to each other as the teacher's, as in NOSMOG."""

from __future__ import annotations

import copy
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from typing_extensions import Self

from dgl_rbm.data.task import ObservedGraph
from dgl_rbm.errors import ConfigError
from dgl_rbm.objectives import representational_similarity_loss
from dgl_rbm.registry import regularizers
from dgl_rbm.regularizers.base import Regularizer, RegularizerConfig
from dgl_rbm.rows.sparse import take
from dgl_rbm.runtime.context import RunContext
from dgl_rbm.students.base import Student, StudentOutput
from dgl_rbm.teachers.base import Teacher, TeacherOutput
from dgl_rbm.training.objective import ObjectiveConfig
from dgl_rbm.training.table import DistillationTable
from dgl_rbm.training.terms import Batch, LossTerm, random_rows

__all__ = ["SimilarityConfig", "SimilarityRegularizer", "SimilarityTerm"]


class SimilarityTerm(LossTerm):
    """The similarity loss with its learned projections, one for each head.

    Parameters
    ----------
    hidden : Tensor
        The teacher's hidden states of the table's rows, float32 ``[N, H']``.
    options : SimilarityRegularizer
    """

    name = "similarity"

    def __init__(self, hidden: Tensor, options: SimilarityRegularizer) -> None:
        self.hidden, self.options = hidden, options
        self.projections = nn.ModuleList()

    def to(self, device: torch.device) -> Self:
        """Return the term on `device`."""
        moved = copy.copy(self)
        moved.hidden = self.hidden.to(device)
        return moved

    def bind(self, student: Student, table: DistillationTable, objective: ObjectiveConfig) -> None:
        """Draw new projections; the student's widths come from one pass, which leaves it as it is."""
        was_training = student.training
        student.eval()
        with torch.no_grad():
            probe = torch.arange(min(2, len(table)), device=table.device)
            widths = [states.shape[1] for states in student.training_forward(take(table.inputs, probe)).hidden]
        student.train(was_training)
        if not widths:
            raise ConfigError(
                f"regularizer: 'similarity' compares hidden states, and the student '{student.kind}' has none.",
                hint="Use a student of at least two layers, or leave 'similarity' out.",
            )
        # Drawn on the CPU, so that the same seed gives the same start on any device.
        projections = [nn.Linear(width, self.hidden.shape[1], device="cpu") for width in widths]
        self.projections = nn.ModuleList(projections).to(table.device)

    def parameters(self) -> list[nn.Parameter]:
        """Return the projections' parameters."""
        return list(self.projections.parameters())

    def loss(self, batch: Batch, output: StudentOutput) -> Tensor:
        """Return the weighted loss on the batch's rows, or on a random part of them, summed over heads."""
        teacher = self.hidden[batch.rows]
        some = random_rows(len(teacher), self.options.rows, teacher.device)
        teacher = teacher if some is None else teacher[some]
        total = teacher.new_zeros(())
        for states, projection in zip(output.hidden, self.projections, strict=True):
            picked = states.float() if some is None else states[some].float()
            projected = torch.relu(projection(picked))
            total = total + representational_similarity_loss(projected, teacher, normalize=self.options.normalize)
        return self.options.weight * total

    def state_dict(self) -> dict[str, Any]:
        """Return the projections' parameters."""
        return self.projections.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.projections.load_state_dict(state)


class SimilarityRegularizer(Regularizer):
    """Regularizer that compares similarities of hidden states.

    Parameters
    ----------
    weight : float
        Scale of the loss.
    rows : int
        Most rows of a batch that are compared; larger batches are subsampled.
    normalize : bool
        Whether cosines are compared, rather than products of states.
    """

    kind = "similarity"
    needs_teacher_hidden = True

    def __init__(self, *, weight: float = 1.0, rows: int = 512, normalize: bool = True) -> None:
        self.weight, self.rows, self.normalize = weight, rows, normalize

    def prepare(
        self,
        observed: ObservedGraph,
        teacher: Teacher,
        output: TeacherOutput,
        temperature: float,
        context: RunContext,
    ) -> SimilarityTerm:
        """Return the loss term with the teacher's hidden states."""
        if output.hidden is None:
            raise ConfigError(
                f"regularizer: 'similarity' compares hidden states, and the teacher '{teacher.kind}' has none.",
                hint="Use a teacher of at least two layers, such as `sage`, or leave 'similarity' out.",
            )
        return SimilarityTerm(output.hidden, self)


@regularizers.register
class SimilarityConfig(RegularizerConfig):
    """Hidden states that are as similar to each other as the teacher's (NOSMOG)."""

    module: ClassVar[Any] = SimilarityRegularizer

    kind: Literal["similarity"] = "similarity"
    weight: float = Field(default=1.0, ge=0, description="Scale of the similarity loss.")
    rows: int = Field(
        default=512, ge=2, description="Most rows of a batch that are compared; larger batches are subsampled."
    )
    normalize: bool = Field(
        default=True,
        description="Compare cosines, whose scale is the same on every graph, rather than products of states, as "
        "published.",
    )
