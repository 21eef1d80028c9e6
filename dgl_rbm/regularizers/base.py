"""What every regularizer is: it turns graph and teacher into neighbour targets on the table."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from dgl_rbm.config import ComponentConfig
from dgl_rbm.data.task import ObservedGraph
from dgl_rbm.runtime.context import RunContext
from dgl_rbm.teachers.base import Teacher, TeacherOutput
from dgl_rbm.training.table import NeighborTargets

__all__ = ["Regularizer", "RegularizerConfig"]


class Regularizer(ABC):
    """Prepares targets from each node's neighbourhood."""

    kind: str = "custom"

    @abstractmethod
    def prepare(
        self,
        observed: ObservedGraph,
        teacher: Teacher,
        output: TeacherOutput,
        temperature: float,
        context: RunContext,
    ) -> NeighborTargets | None:
        """Return the targets, on the CPU, or None where there are none.

        Parameters
        ----------
        observed : ObservedGraph
            The graph that the student's rows come from.
        teacher : Teacher
            Fitted; asked again where the regularizer perturbs the features.
        output : TeacherOutput
            Its predictions for `observed`.
        temperature : float
            Divides the logits of teacher and student.
        """


class RegularizerConfig(ComponentConfig):
    """Base of the regularizers' configs.

    Attributes
    ----------
    asks_teacher_again : bool
        Whether the teacher must predict from perturbed features.
    """

    asks_teacher_again: ClassVar[bool] = False

    def build(self) -> Regularizer:
        """Make the regularizer."""
        raise NotImplementedError
