"""No additional loss."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from dgl_rbm.data.task import ObservedGraph
from dgl_rbm.registry import regularizers
from dgl_rbm.regularizers.base import Regularizer, RegularizerConfig
from dgl_rbm.runtime.context import RunContext
from dgl_rbm.teachers.base import Teacher, TeacherOutput
from dgl_rbm.training.terms import LossTerm

__all__ = ["NoRegularizer", "NoRegularizerConfig"]


class NoRegularizer(Regularizer):
    """The null object among the regularizers."""

    kind = "none"

    def prepare(
        self,
        observed: ObservedGraph,
        teacher: Teacher,
        output: TeacherOutput,
        temperature: float,
        context: RunContext,
    ) -> LossTerm:
        """Return a term that adds nothing."""
        return LossTerm()


@regularizers.register
class NoRegularizerConfig(RegularizerConfig):
    """Labels and the teacher's predictions alone."""

    module: ClassVar[Any] = NoRegularizer

    kind: Literal["none"] = "none"
