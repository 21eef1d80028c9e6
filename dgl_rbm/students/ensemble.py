"""Soft voting of multi-layer perceptrons that share a teacher."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from dgl_rbm.norms import NormName
from dgl_rbm.registry import DEFAULT_DEPTH, DEFAULT_WIDTH, students
from dgl_rbm.rows.sparse import Rows
from dgl_rbm.students.base import Student, StudentConfig, StudentOutput
from dgl_rbm.students.mlp import MLP

__all__ = ["Ensemble", "EnsembleConfig"]


class Ensemble(Student):
    """Averages its members' probabilities; in training each member learns as if alone.

    Parameters
    ----------
    members : iterable of Student
        At least one, all of the same input and classes.
    """

    kind = "ensemble"

    def __init__(self, members: Iterable[Student]) -> None:
        listed = list(members)
        super().__init__(listed[0].in_dim, listed[0].num_classes)
        self.members = nn.ModuleList(listed)

    def forward(self, x: Rows) -> Tensor:
        """Return the logarithm of the mean probability, ``[B, C]``."""
        votes = torch.stack([member(x).log_softmax(dim=1) for member in self.members])
        return votes.logsumexp(dim=0) - math.log(len(self.members))

    def training_forward(self, x: Rows) -> StudentOutput:
        outputs = [cast(Student, member).training_forward(x) for member in self.members]
        return StudentOutput(
            [logits for output in outputs for logits in output.heads],
            hidden=[hidden for output in outputs for hidden in output.hidden],
        )


@students.register
class EnsembleConfig(StudentConfig):
    """Options of the ensemble."""

    kind: Literal["ensemble"] = Field(default="ensemble", description="Soft voting of perceptrons.")
    num_members: int = Field(default=3, ge=1, description="Number of perceptrons.")
    norm: NormName = Field(default="none", description="Normalisation of the hidden layers.")

    def build(
        self, in_dim: int, num_classes: int, *, hidden_dim: int = DEFAULT_WIDTH, num_layers: int = DEFAULT_DEPTH
    ) -> Ensemble:
        return Ensemble(
            MLP(
                in_dim,
                num_classes,
                hidden_dim=self.width(hidden_dim),
                num_layers=self.num_layers or num_layers,
                norm=self.norm,
                dropout=self.dropout,
            )
            for _ in range(self.num_members)
        )
