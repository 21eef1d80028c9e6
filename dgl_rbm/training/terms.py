"""Parts of the objective that any student can have: similarity to the teacher's states, and adversarial rows.

Each is a module of its own state: what is in ``state_dict`` goes into the run's checkpoints and not into the student.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from pydantic import Field
from torch import Tensor, nn

from dgl_rbm.config import StrictConfig
from dgl_rbm.errors import ConfigError
from dgl_rbm.objectives import perturbed_by_gradient, representational_similarity_loss
from dgl_rbm.rows.sparse import Rows, take
from dgl_rbm.students.base import Student, StudentOutput
from dgl_rbm.training.table import DistillationTable

__all__ = ["AdversarialConfig", "AdversarialTerm", "SimilarityConfig", "SimilarityTerm"]


class SimilarityConfig(StrictConfig):
    """The student's hidden states are to be as similar to each other as the teacher's (NOSMOG)."""

    weight: float = Field(default=0.0, ge=0, description="Weight of the similarity loss; 0 leaves it out.")
    rows: int = Field(
        default=512, ge=2, description="Most rows of a step that are compared with each other; drawn where more."
    )
    normalize: bool = Field(
        default=True,
        description="Compare cosines, whose scale no graph changes, rather than products of states, as published.",
    )


class AdversarialConfig(StrictConfig):
    """The student is to give the same answer to rows that are moved a little to mislead it (NOSMOG)."""

    weight: float = Field(default=0.0, ge=0, description="Weight of the loss on moved rows; 0 leaves it out.")
    eps: float = Field(default=0.02, gt=0, description="Most that any number of a row is moved by, ε.")
    steps: int = Field(default=5, ge=1, description="Gradient steps of ε/4 by which rows are moved.")
    rows: int = Field(default=256, ge=1, description="Most rows of a step that are moved; drawn where more.")


def _some(count: int, most: int, device: torch.device) -> Tensor | None:
    """Return `most` of `count` positions, ascending, or None for all of them; the same on any device."""
    return None if count <= most else torch.randperm(count, device="cpu")[:most].sort().values.to(device)


class SimilarityTerm(nn.Module):
    """The similarity loss with its learned projections, one for each head.

    Parameters
    ----------
    config : SimilarityConfig
    student : Student
        Asked once, without a trace in it, how wide its hidden states are.
    table : DistillationTable
        Holds the teacher's hidden states.

    Raises
    ------
    ConfigError
        Where teacher or student show no hidden states.
    """

    def __init__(self, config: SimilarityConfig, student: Student, table: DistillationTable) -> None:
        super().__init__()
        if table.teacher_hidden is None:
            raise ConfigError(
                "objective.similarity: this teacher shows no hidden states that the student's could be compared with.",
                hint="Use a teacher of at least two layers, such as `sage`, or set objective.similarity.weight to 0.",
            )
        was_training = student.training
        student.eval()
        with torch.no_grad():
            probe = torch.arange(min(2, len(table)), device=table.device)
            widths = [states.shape[1] for states in student.training_forward(take(table.inputs, probe)).hidden]
        student.train(was_training)
        if not widths:
            raise ConfigError(
                f"objective.similarity: the student '{student.kind}' shows no hidden states.",
                hint="Use a student of at least two layers, or set objective.similarity.weight to 0.",
            )
        self.config = config
        target = table.teacher_hidden.shape[1]
        # Drawn on the CPU, so that the same seed gives the same start on any device.
        projections = [nn.Linear(width, target, device="cpu") for width in widths]
        self.projections = nn.ModuleList(projections).to(table.device)

    def forward(self, hidden: list[Tensor], teacher_hidden: Tensor) -> Tensor:
        """Return the weighted loss, summed over heads.

        Parameters
        ----------
        hidden : list of Tensor
            The student's states of each head, ``[B, H]``.
        teacher_hidden : Tensor
            The teacher's, ``[B, H']``.
        """
        some = _some(len(teacher_hidden), self.config.rows, teacher_hidden.device)
        teacher = teacher_hidden if some is None else teacher_hidden[some]
        total = teacher.new_zeros(())
        for states, projection in zip(hidden, self.projections, strict=True):
            picked = states.float() if some is None else states[some].float()
            projected = torch.relu(projection(picked))
            total = total + representational_similarity_loss(projected, teacher, normalize=self.config.normalize)
        return self.config.weight * total


class AdversarialTerm(nn.Module):
    """The loss on rows that are moved to where it is larger.

    Sparse rows become dense for it, since every number of a row may be moved. Passes over moved rows change neither
    running means of normalisation layers nor, coming before the pass over the true rows, what a student notes down
    for its memories.

    Parameters
    ----------
    config : AdversarialConfig
    student : Student
    """

    def __init__(self, config: AdversarialConfig, student: Student) -> None:
        super().__init__()
        self.config = config
        # Not a submodule: its parameters are the student's.
        self._student = [student]

    def forward(
        self, run: Callable[[Rows], StudentOutput], inputs: Rows, loss: Callable[[StudentOutput, Tensor | None], Tensor]
    ) -> Tensor:
        """Return the weighted loss.

        Parameters
        ----------
        run : callable
            The student's training pass over rows.
        inputs : Tensor or StructuredRows
            The rows of this step, ``[B, F + P]``.
        loss : callable
            Of an output and the positions in the step of the rows that it is of; None for all of them.
        """
        config = self.config
        some = _some(len(inputs), config.rows, inputs.device)
        rows = inputs if some is None else take(inputs, some)
        dense = rows if isinstance(rows, Tensor) else rows.to_dense()
        with _unchanged_buffers(self._student[0]):
            moved = perturbed_by_gradient(
                lambda x: loss(run(x), some), dense, radius=config.eps, steps=config.steps, step_size=config.eps / 4
            )
            return config.weight * loss(run(moved), some)


@contextmanager
def _unchanged_buffers(module: nn.Module) -> Iterator[None]:
    """Give buffers back their values; through ``data``, since autograd would take it for a write to saved tensors."""
    before = [(buffer, buffer.detach().clone()) for buffer in module.buffers()]
    try:
        yield
    finally:
        for buffer, value in before:
            buffer.data.copy_(value)
