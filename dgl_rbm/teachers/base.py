"""Base classes of teachers and of their configs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from dgl_rbm.config import ComponentConfig
from dgl_rbm.data.task import GraphView, ObservedGraph
from dgl_rbm.rows.sparse import Rows
from dgl_rbm.runtime.context import RunContext

__all__ = ["Teacher", "TeacherConfig", "TeacherOutput"]


@dataclass(frozen=True)
class TeacherOutput:
    """A teacher's predictions for the nodes of a `GraphView`, on the CPU.

    Attributes
    ----------
    logits : Tensor
        float32 ``[N, C]``; ``[N, 0]`` if there is no teacher.
    hidden : Tensor or None
        Inputs of the teacher's last layer, float32 ``[N, H]``; None if the teacher has none or they were not requested.
    """

    logits: Tensor
    hidden: Tensor | None = None

    @property
    def targets(self) -> Tensor | None:
        """The logits, or None if they have no columns, that is, if there is no teacher."""
        return self.logits if self.logits.shape[1] else None


class Teacher(ABC):
    """A model that is fitted to an observed graph and predicts the nodes of any graph.

    Attributes
    ----------
    kind : str
        The registry name.
    hidden_dim, num_layers : int or None
        Width and depth, the defaults of students.
    predicts_single_nodes : bool
        Whether `predict_nodes` is implemented, so that its latency can be measured.
    """

    kind: str = "custom"
    hidden_dim: int | None = None
    num_layers: int | None = None
    predicts_single_nodes: bool = False

    @abstractmethod
    def fit(self, observed: ObservedGraph, context: RunContext) -> None:
        """Train on the observed graph inside the stage ``"teacher"`` and keep the best validation epoch."""

    @abstractmethod
    def predict(
        self, view: GraphView, context: RunContext, *, features: Rows | None = None, return_hidden: bool = False
    ) -> TeacherOutput:
        """Predict every node of `view` from full neighbourhoods, without sampling.

        Parameters
        ----------
        view : GraphView
            The graph.
        features : Tensor or SparseRows, optional
            Used in place of the view's own features, of the same shape; KRD perturbs them.
        return_hidden : bool
            Whether to keep the inputs of the last layer, if the teacher has any. Only the similarity loss needs them;
            on a large graph they take as much memory as the features.
        """

    def predict_nodes(self, view: GraphView, node_ids: Tensor) -> tuple[Tensor, int]:
        """Predict a few nodes from their neighbourhoods alone, as a server would.

        Implemented if `predicts_single_nodes` is true.

        Parameters
        ----------
        view : GraphView
            The graph.
        node_ids : Tensor
            Local node ids, int64 ``[B]``.

        Returns
        -------
        logits : Tensor
            float32 ``[B, C]``.
        fetched : int
            Number of distinct feature rows read.
        """
        raise NotImplementedError(f"The teacher '{self.kind}' predicts whole graphs only.")

    def num_parameters(self) -> int:
        """Return the number of trained parameters."""
        return 0

    def state_dict(self) -> dict[str, Any]:
        """Return the state for `load_state_dict` of a teacher built from the same config."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load a state that `state_dict` returned."""


class TeacherConfig(ComponentConfig):
    """Base class of the teachers' configs.

    A subclass overrides the properties below if they are false for it: with a `ClassVar`, or with a property of its
    own if they depend on its options.
    """

    @property
    def accepts_perturbed_features(self) -> bool:
        """Whether the teacher can predict from perturbed features, as the regularizer KRD requires."""
        return True

    @property
    def has_predictions(self) -> bool:
        """Whether the teacher predicts anything; ``none`` does not."""
        return True

    def build(self, in_dim: int, num_classes: int) -> Teacher:
        """Build the teacher; its random initial values is drawn from torch's generator."""
        raise NotImplementedError
