r"""Edge consistency: a node's prediction is to be that of its neighbours, as in CoHOp; no teacher is asked.

With :math:`w_{vu} = 1/\deg(v)` for each edge u → v, the loss of a node is

.. math::
    \sum_u w_{vu} \, \mathrm{KL}(\mathrm{sg}[\hat y_u] \,\|\, \hat y_v)
    = -\bar y_v \cdot \log \hat y_v + \mathrm{const}, \quad \bar y_v = \sum_u w_{vu} \mathrm{sg}[\hat y_u],

so one sparse product takes the place of a term for each edge. Each node pulls at the others in turn, since edges of
undirected graphs lead both ways.
"""

from __future__ import annotations

import copy
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from dgl_rbm.data.task import ObservedGraph
from dgl_rbm.encoders.common import in_neighbors
from dgl_rbm.objectives import soft_cross_entropy
from dgl_rbm.registry import regularizers
from dgl_rbm.regularizers.base import Regularizer, RegularizerConfig
from dgl_rbm.sparse import SparseRows, matmul, take
from dgl_rbm.teachers.base import Teacher, TeacherOutput
from dgl_rbm.training.context import RunContext

__all__ = ["EdgeConsistencyConfig", "EdgeConsistencyRegularizer", "EdgeConsistencyTargets"]


class EdgeConsistencyTargets:
    """The neighbours' last predictions as targets; see `dgl_rbm.table.NeighborTargets`.

    In full batches these are the predictions of the same pass. In smaller ones, those of neighbours that are not in
    the batch are the ones that they had when they last were; neighbours that never were do not count. There the members
    of an ensemble, which hand in their predictions one after the other, all follow those of the last one.

    Parameters
    ----------
    neighbors : SparseRows
        ``[N, N]``; entry ``[v, u]`` counts the edges u → v, u ≠ v.
    num_classes : int
        C.
    weight : float
        Multiplies the loss.
    """

    def __init__(self, neighbors: SparseRows, num_classes: int, *, weight: float = 1.0) -> None:
        self.weight = weight
        self._neighbors = neighbors
        # The last column says who has a prediction.
        self._predicted = torch.zeros(len(neighbors), num_classes + 1)

    def loss(self, log_probs: Tensor, rows: Tensor) -> Tensor:
        """Return the weighted divergence from the neighbours' mean prediction, summed over rows.

        The rows' predictions are kept for their neighbours. Rows without neighbours add nothing.
        """
        with torch.no_grad():
            self._predicted[rows, :-1] = log_probs.detach().exp().to(self._predicted)
            self._predicted[rows, -1] = 1.0
            if len(rows) == len(self._predicted):
                sums = matmul(self._neighbors, self._predicted)[rows]
            else:
                sums = matmul(take(self._neighbors, rows), self._predicted)
            means = sums[:, :-1] / sums[:, -1:].clamp(min=1)
            entropy = torch.special.entr(means).sum()
        return self.weight * (soft_cross_entropy(log_probs, means) - entropy)

    def to(self, device: torch.device) -> EdgeConsistencyTargets:
        """Return the targets on `device`."""
        moved = copy.copy(self)
        moved._neighbors = self._neighbors.to(device)
        # A copy in any case: two runs must not write to the same predictions.
        moved._predicted = self._predicted.to(device, copy=True)
        return moved

    def reads_labels_of(self, epoch: int) -> bool:
        """Return False: nothing follows the student's labels."""
        return False

    def end_epoch(self, epoch: int, student_labels: Tensor) -> dict[str, float]:
        """Return nothing to record."""
        return {}

    def state_dict(self) -> dict[str, Tensor]:
        """Return the predictions that are kept."""
        return {"predicted": self._predicted}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take back what `state_dict` returned."""
        self._predicted = state["predicted"].to(self._predicted, copy=True)


class EdgeConsistencyRegularizer(Regularizer):
    """Asks neighbours to be predicted alike.

    Parameters
    ----------
    weight : float
        Scale of the loss.
    """

    kind = "edge_consistency"

    def __init__(self, *, weight: float = 1.0) -> None:
        self.weight = weight

    def prepare(
        self,
        observed: ObservedGraph,
        teacher: Teacher,
        output: TeacherOutput,
        temperature: float,
        context: RunContext,
    ) -> EdgeConsistencyTargets:
        """Return the targets; nothing of the teacher is read."""
        return EdgeConsistencyTargets(in_neighbors(observed.graph), observed.num_classes, weight=self.weight)


@regularizers.register
class EdgeConsistencyConfig(RegularizerConfig):
    """Predictions of neighbours as targets."""

    kind: Literal["edge_consistency"] = "edge_consistency"
    weight: float = Field(default=1.0, ge=0, description="Scale of the loss on the neighbours' predictions.")

    def build(self) -> EdgeConsistencyRegularizer:
        """Make the regularizer."""
        return EdgeConsistencyRegularizer(weight=self.weight)
