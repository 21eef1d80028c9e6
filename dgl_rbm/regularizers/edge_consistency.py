r"""Edge consistency: a node is predicted as its neighbours are, as in CoHOp, without a teacher.

With :math:`w_{vu} = 1/\deg(v)` for each edge u → v, or its share in the weights of the edges into v, the loss of a
node is

.. math::
    -\sum_u w_{vu} \, \hat y_v \cdot \log \hat y_u = -\hat y_v \cdot \ell_v, \quad
    \ell_v = \sum_u w_{vu} \log \hat y_u,

so one sparse product takes the place of a term for each edge. Both sides get a gradient, as in the published code
(github.com/dani3lwinter/CoHOp): the loss is small if neighbours agree with high confidence.
"""

from __future__ import annotations

import copy
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional
from typing_extensions import Self

from dgl_rbm.data.neighbors import in_neighbors
from dgl_rbm.data.task import ObservedGraph
from dgl_rbm.registry import regularizers
from dgl_rbm.regularizers.base import Regularizer, RegularizerConfig
from dgl_rbm.rows.sparse import SparseRows, as_divisor, matmul
from dgl_rbm.runtime.context import RunContext
from dgl_rbm.students.base import Student
from dgl_rbm.tasks.multiclass import soft_cross_entropy
from dgl_rbm.teachers.base import Teacher, TeacherOutput
from dgl_rbm.training.objective import ObjectiveConfig
from dgl_rbm.training.table import DistillationTable
from dgl_rbm.training.terms import SoftTargetTerm

__all__ = ["EdgeConsistencyConfig", "EdgeConsistencyRegularizer", "EdgeConsistencyTerm"]

# A batch of more than this share of all rows takes one product over all edges.
_FROM_SHARE = 0.5


class EdgeConsistencyTerm(SoftTargetTerm):
    """The neighbours' predictions as targets.

    In full batches these are the predictions of the same pass. In smaller batches, a neighbour outside of the batch
    counts with its most recent prediction, without gradient, and not at all before its first. The members of an
    ensemble, whose predictions come one after the other, then all follow the last member.

    Parameters
    ----------
    neighbors : SparseRows
        ``[N, N]``; entry ``[v, u]`` counts the edges u → v, u ≠ v, by weight.
    num_classes : int
        C.
    weight : float
        Multiplies the loss.
    """

    name = "edge_consistency"

    def __init__(self, neighbors: SparseRows, num_classes: int, *, weight: float = 1.0) -> None:
        self.weight = weight
        self._neighbors = neighbors
        # The last column is 1 for rows that have a prediction.
        self._predicted = torch.zeros(len(neighbors), num_classes + 1, device=neighbors.device)

    def bind(self, student: Student, table: DistillationTable, objective: ObjectiveConfig) -> None:
        """Begin a training, in which no row has a prediction yet."""
        super().bind(student, table, objective)
        self._predicted.zero_()

    def summed_loss(self, log_probs: Tensor, rows: Tensor) -> Tensor:
        """Return the weighted cross-entropy of the rows' predictions with their neighbours', summed over rows.

        The rows' predictions are kept for their neighbours. Rows without neighbours add nothing.
        """
        rows, order = rows.sort()
        log_probs = log_probs.to(self._predicted).index_select(0, order)
        with torch.no_grad():
            self._predicted[rows, :-1] = log_probs
            self._predicted[rows, -1] = 1.0
        sums, counts = self._sums(log_probs, rows).tensor_split([-1], dim=1)
        return self.weight * soft_cross_entropy(sums / as_divisor(counts), log_probs.exp())

    def _sums(self, log_probs: Tensor, rows: Tensor) -> Tensor:
        """Return sums over the rows' neighbours: log-probabilities, and the count of predictions, ``[B, C + 1]``."""
        if len(rows) > _FROM_SHARE * len(self._predicted):
            # This computes the sums of all rows, but it transposes the matrix once for all steps.
            predicted = self._predicted.index_copy(0, rows, functional.pad(log_probs, (0, 1), value=1.0))
            return matmul(self._neighbors, predicted).index_select(0, rows)
        neighbors = self._neighbors.take(rows)
        of_batch = matmul(neighbors.columns(rows), log_probs)
        # The first summand holds the values; the second, 0, adds the gradient of the rows in the batch.
        return matmul(neighbors, self._predicted) + functional.pad(of_batch - of_batch.detach(), (0, 1))

    def to(self, device: torch.device) -> Self:
        """Return the term on `device`."""
        moved = copy.copy(self)
        moved._neighbors = self._neighbors.to(device)
        # Always a copy: two runs must not write to the same predictions.
        moved._predicted = self._predicted.to(device, copy=True)
        return moved

    def state_dict(self) -> dict[str, Tensor]:
        """Return the most recent predictions."""
        return {"predicted": self._predicted}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what `state_dict` returned."""
        self._predicted = state["predicted"].to(self._predicted, copy=True)


class EdgeConsistencyRegularizer(Regularizer):
    """Regularizer for which neighbours are predicted alike.

    Parameters
    ----------
    weight : float
        Scale of the loss.
    """

    kind = "edge_consistency"

    def __init__(self, *, weight: float = 0.03) -> None:
        self.weight = weight

    def prepare(
        self,
        observed: ObservedGraph,
        teacher: Teacher,
        output: TeacherOutput,
        temperature: float,
        context: RunContext,
    ) -> EdgeConsistencyTerm:
        """Return the loss term; the teacher is not read."""
        return EdgeConsistencyTerm(in_neighbors(observed.graph), observed.num_classes, weight=self.weight)


@regularizers.register
class EdgeConsistencyConfig(RegularizerConfig):
    """Predictions of neighbours as targets."""

    module: ClassVar[Any] = EdgeConsistencyRegularizer

    kind: Literal["edge_consistency"] = "edge_consistency"
    weight: float = Field(
        default=0.03,
        ge=0,
        description="Scale of the loss on the neighbours' predictions; a large one can make all predictions alike.",
    )
