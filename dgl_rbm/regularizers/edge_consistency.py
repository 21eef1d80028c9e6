r"""Edge consistency: a node is to be predicted as its neighbours are, as in CoHOp; no teacher is asked.

With :math:`w_{vu} = 1/\deg(v)` for each edge u → v, the loss of a node is

.. math::
    -\sum_u w_{vu} \, \hat y_v \cdot \log \hat y_u = -\hat y_v \cdot \ell_v, \quad
    \ell_v = \sum_u w_{vu} \log \hat y_u,

so one sparse product takes the place of a term for each edge. Both sides get a gradient, as in the published code
(github.com/dani3lwinter/CoHOp): the loss is small where neighbours agree and are sure of it.
"""

from __future__ import annotations

import copy
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from dgl_rbm.data.neighbors import in_neighbors
from dgl_rbm.data.task import ObservedGraph
from dgl_rbm.objectives import soft_cross_entropy
from dgl_rbm.registry import regularizers
from dgl_rbm.regularizers.base import Regularizer, RegularizerConfig
from dgl_rbm.rows.sparse import SparseRows, matmul
from dgl_rbm.runtime.context import RunContext
from dgl_rbm.teachers.base import Teacher, TeacherOutput

__all__ = ["EdgeConsistencyConfig", "EdgeConsistencyRegularizer", "EdgeConsistencyTargets"]

# A step of more than this share of all rows takes one product over all edges.
_FROM_SHARE = 0.5


class EdgeConsistencyTargets:
    """The neighbours' predictions as targets; see `dgl_rbm.training.table.NeighborTargets`.

    In full batches these are the predictions of the same pass. In smaller ones, those of neighbours that are not in
    the batch are the ones that they had when they last were, and get no gradient; neighbours that never were do not
    count. There the members of an ensemble, which hand in their predictions one after the other, all follow those of
    the last one.

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
        self._predicted = torch.zeros(len(neighbors), num_classes + 1, device=neighbors.device)

    def loss(self, log_probs: Tensor, rows: Tensor) -> Tensor:
        """Return the weighted cross-entropy of the rows' predictions with their neighbours', summed over rows.

        The rows' predictions are kept for their neighbours. Rows without neighbours add nothing.
        """
        rows, order = rows.sort()
        log_probs = log_probs.to(self._predicted).index_select(0, order)
        with torch.no_grad():
            self._predicted[rows, :-1] = log_probs
            self._predicted[rows, -1] = 1.0
        sums, counts = self._sums(log_probs, rows).tensor_split([-1], dim=1)
        return self.weight * soft_cross_entropy(sums / counts.clamp(min=1), log_probs.exp())

    def _sums(self, log_probs: Tensor, rows: Tensor) -> Tensor:
        """Return the sums of the rows' neighbours' log-probabilities and how many have any, ``[B, C + 1]``."""
        if len(rows) > _FROM_SHARE * len(self._predicted):
            # Beyond the rows' own sums all others' are computed too; but the transpose is made once for all steps.
            predicted = self._predicted.index_copy(0, rows, functional.pad(log_probs, (0, 1), value=1.0))
            return matmul(self._neighbors, predicted).index_select(0, rows)
        neighbors = self._neighbors.take(rows)
        of_batch = matmul(neighbors.columns(rows), log_probs)
        # The values are in the sums of all; this adds the gradient of those in the batch.
        return matmul(neighbors, self._predicted) + functional.pad(of_batch - of_batch.detach(), (0, 1))

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

    def __init__(self, *, weight: float = 0.03) -> None:
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
    weight: float = Field(
        default=0.03,
        ge=0,
        description="Scale of the loss on the neighbours' predictions; a large one can make all predictions alike.",
    )

    def build(self) -> EdgeConsistencyRegularizer:
        """Make the regularizer."""
        return EdgeConsistencyRegularizer(weight=self.weight)
