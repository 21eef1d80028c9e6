"""Base of the regularizers: components that prepare a term of the student's loss from graph and teacher."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from dgl_rbm.config import ComponentConfig
from dgl_rbm.data.task import ObservedGraph
from dgl_rbm.runtime.context import RunContext
from dgl_rbm.teachers.base import Teacher, TeacherConfig, TeacherOutput
from dgl_rbm.training.terms import LossTerm

__all__ = ["Regularizer", "RegularizerConfig"]


class Regularizer(ABC):
    """Prepares a term of the student's loss.

    Attributes
    ----------
    needs_perturbed_predictions : bool
        Whether the teacher predicts from perturbed features in `prepare`.
    needs_teacher_hidden : bool
        Whether `prepare` reads the teacher's hidden states.
    """

    kind: str = "custom"
    needs_perturbed_predictions: ClassVar[bool] = False
    needs_teacher_hidden: ClassVar[bool] = False

    @abstractmethod
    def prepare(
        self,
        observed: ObservedGraph,
        teacher: Teacher,
        output: TeacherOutput,
        temperature: float,
        context: RunContext,
    ) -> LossTerm:
        """Return the loss term, on the CPU.

        Parameters
        ----------
        observed : ObservedGraph
            The graph that the student's rows come from.
        teacher : Teacher
            Fitted.
        output : TeacherOutput
            Its predictions for `observed`, with hidden states if `needs_teacher_hidden`.
        temperature : float
            Divides the logits of teacher and student.

        Raises
        ------
        ConfigError
            If the term cannot be computed with this teacher.
        """


class RegularizerConfig(ComponentConfig):
    """Base of the regularizers' configs.

    Attributes
    ----------
    module : type of Regularizer
        The regularizer's class; its keyword arguments are the config's options.
    """

    module: ClassVar[type[Regularizer]]

    @property
    def needs_perturbed_predictions(self) -> bool:
        """Whether the teacher predicts from perturbed features."""
        return self.module.needs_perturbed_predictions

    @property
    def needs_teacher_hidden(self) -> bool:
        """Whether the teacher's hidden states are read."""
        return self.module.needs_teacher_hidden

    def conflicts_with(self, teacher: TeacherConfig) -> list[tuple[str, str]]:
        """Return an error message and a hint for every prediction that the regularizer needs and the teacher lacks."""
        if self.needs_perturbed_predictions and not teacher.accepts_perturbed_features:
            return [
                (
                    f"regularizer: '{self.kind}' needs predictions from perturbed features, which the teacher "
                    f"'{teacher.kind}' does not make.",
                    "Use the regularizer 'none'.",
                )
            ]
        if self.needs_teacher_hidden and not teacher.has_predictions:
            return [
                (
                    f"regularizer: '{self.kind}' needs the hidden states of a teacher, and the teacher "
                    f"'{teacher.kind}' has none.",
                    f"Name a teacher, or leave '{self.kind}' out.",
                )
            ]
        return []

    def build(self) -> Regularizer:
        """Make the regularizer."""
        return self.module(**self.options())
