"""Ensemble of multi-layer perceptrons that learn from the same teacher, combined by soft voting."""

from __future__ import annotations

import math
from typing import Any, ClassVar, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from dgl_rbm.registry import students
from dgl_rbm.rows.sparse import Rows
from dgl_rbm.students.base import Student, StudentConfig, StudentOutput
from dgl_rbm.students.mlp import MLP

__all__ = ["Ensemble", "EnsembleConfig"]


class Ensemble(Student):
    """Mean of its members' probabilities; each member has a loss of its own in training.

    Parameters
    ----------
    in_dim, num_classes : int
        F + P, and C.
    num_members : int
        Number of members, at least 1.
    **options
        As for `MLP`, the same for all members.
    """

    kind = "ensemble"

    def __init__(self, in_dim: int, num_classes: int, *, num_members: int = 3, **options: Any) -> None:
        super().__init__(in_dim, num_classes)
        self.members = nn.ModuleList(MLP(in_dim, num_classes, **options) for _ in range(num_members))

    def forward(self, x: Rows) -> Tensor:
        """Return the logarithm of the mean probability, ``[B, C]``."""
        votes = torch.stack([member(x).log_softmax(dim=1) for member in self.members])
        return votes.logsumexp(dim=0) - math.log(len(self.members))

    def training_forward(self, x: Rows) -> StudentOutput:
        outputs = [member.training_forward(x) for member in self._mlps()]
        return StudentOutput(
            [logits for output in outputs for logits in output.heads],
            hidden=[hidden for output in outputs for hidden in output.hidden],
        )

    def multiply_adds(self, column_shares: Tensor) -> float:
        return sum(member.multiply_adds(column_shares) for member in self._mlps())

    def _mlps(self) -> list[MLP]:
        return cast("list[MLP]", list(self.members))


@students.register
class EnsembleConfig(StudentConfig):
    """Options of the ensemble."""

    module: ClassVar[Any] = Ensemble

    kind: Literal["ensemble"] = Field(default="ensemble", description="Soft voting of perceptrons.")
    num_members: int = Field(default=3, ge=1, le=100, description="Number of perceptrons.")
