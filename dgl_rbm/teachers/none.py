"""No teacher, for methods that learn from labels alone."""

from __future__ import annotations

from typing import ClassVar, Literal

import torch
from pydantic import Field

from dgl_rbm.data.task import GraphView, ObservedGraph
from dgl_rbm.registry import teachers
from dgl_rbm.rows.sparse import Rows
from dgl_rbm.runtime.context import RunContext
from dgl_rbm.teachers.base import Teacher, TeacherConfig, TeacherOutput

__all__ = ["NoTeacher", "NoTeacherConfig"]


class NoTeacher(Teacher):
    """Null object: trains nothing and predicts logits without columns."""

    kind = "none"

    def fit(self, observed: ObservedGraph, context: RunContext) -> None:
        """Do nothing."""

    def predict(
        self, view: GraphView, context: RunContext, *, features: Rows | None = None, return_hidden: bool = False
    ) -> TeacherOutput:
        """Return logits ``[N, 0]``."""
        return TeacherOutput(torch.zeros(len(view), 0))


@teachers.register
class NoTeacherConfig(TeacherConfig):
    """No teacher: the student learns from labels alone."""

    accepts_perturbed_features: ClassVar[bool] = False
    has_predictions: ClassVar[bool] = False

    kind: Literal["none"] = Field("none", description="No teacher: the student learns from labels alone.")

    def build(self, in_dim: int, num_classes: int) -> NoTeacher:
        """Build the teacher."""
        return NoTeacher()
