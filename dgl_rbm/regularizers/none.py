"""No targets from the neighbourhood."""

from __future__ import annotations

from typing import Literal

from dgl_rbm.data.task import ObservedGraph
from dgl_rbm.registry import regularizers
from dgl_rbm.regularizers.base import Regularizer, RegularizerConfig
from dgl_rbm.runtime.context import RunContext
from dgl_rbm.teachers.base import Teacher, TeacherOutput

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
    ) -> None:
        """Return None: the table gets no neighbour targets."""
        return None


@regularizers.register
class NoRegularizerConfig(RegularizerConfig):
    """No targets from the neighbourhood."""

    kind: Literal["none"] = "none"

    def build(self) -> NoRegularizer:
        """Make the regularizer."""
        return NoRegularizer()
