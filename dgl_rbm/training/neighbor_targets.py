"""Targets from each node's neighbourhood, weighted by reliability (KRD; paper, eqs. 11 and 12): torch without a graph.

A neighbour u of v has the weight :math:`p_u = 1 - (\\rho_u / \\rho_{max})^\\alpha`. Equation 12 takes the
expectation of :math:`\\mathrm{KL}(y'_u \\| \\hat y_v)` over u sampled in proportion to p. It is linear in y' up to a
constant, so it has a closed form:

.. math::
    E_u[\\mathrm{KL}(y'_u \\| \\hat y_v)] = -t_v \\cdot \\log \\hat y_v - \\bar H_v, \\quad
    t_v = \\frac{\\sum_u p_u y'_u}{\\sum_u p_u}, \\; \\bar H_v = \\frac{\\sum_u p_u H(y'_u)}{\\sum_u p_u}

`ExpectedNeighborTargets` computes t for all nodes by one sparse product whenever α changes;
`SampledNeighborTargets` samples neighbours in every step, as published, and has the same gradient on average.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from typing import Any

import numpy as np
import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from typing_extensions import Self

from dgl_rbm.rows.sparse import SparseRows, matmul
from dgl_rbm.students.base import Student
from dgl_rbm.tasks.multiclass import predictions, probabilities, soft_cross_entropy
from dgl_rbm.training.objective import ObjectiveConfig
from dgl_rbm.training.table import DistillationTable
from dgl_rbm.training.terms import SoftTargetTerm

__all__ = [
    "ExpectedNeighborTargets",
    "ReliableNeighborTargets",
    "SampledNeighborTargets",
    "entropy",
    "fit_power",
    "predicted_entropy",
]

_POWER_BOUNDS = (1e-2, 1e2)
_ROWS_AT_ONCE = 65_536
_COLUMNS_AT_ONCE = 16


def entropy(probs: Tensor) -> Tensor:
    """Return the entropy of each row of probabilities ``[N, C]`` in nats, ``[N]``."""
    return torch.cat([torch.special.entr(part).sum(dim=1) for part in probs.split(_ROWS_AT_ONCE)])


def predicted_entropy(logits: Tensor) -> Tensor:
    """Return the entropy of the softmax of each row ``[N, C]`` in nats, ``[N]``."""
    return torch.cat([entropy(probabilities(part)) for part in logits.split(_ROWS_AT_ONCE)])


def fit_power(ratio: Tensor, agrees: Tensor, bins: int) -> float | None:
    r"""Fit :math:`1 - x^\alpha` to the agreement of student and teacher; return α.

    Nodes are binned by x into bins of equal width. The share of nodes on which student and teacher agree, scaled to
    [0, 1] over the bins with any node, is fitted by least squares at the bins' centres.

    Parameters
    ----------
    ratio : Tensor
        :math:`x = \rho / \rho_{max}` in [0, 1], ``[N]``.
    agrees : Tensor
        bool ``[N]``.
    bins : int
        Number of bins.

    Returns
    -------
    float or None
        In [0.01, 100]; None if there is no curve to fit, since all nodes are in one bin or all shares are equal.
    """
    position = (ratio * bins).long().clamp(max=bins - 1)
    total = torch.bincount(position, minlength=bins).cpu().numpy()
    agreed = torch.bincount(position[agrees], minlength=bins).cpu().numpy()
    used = total > 0
    share = agreed[used] / total[used]
    if len(share) == 0 or share.max() == share.min():
        return None
    scaled = (share - share.min()) / (share.max() - share.min())
    centers = ((np.arange(bins) + 0.5) / bins)[used]

    def squared_error(log_power: float) -> float:
        return float(np.square(1 - centers ** np.exp(log_power) - scaled).sum())

    bounds = tuple(np.log(_POWER_BOUNDS))
    return float(np.exp(minimize_scalar(squared_error, bounds=bounds, method="bounded").x))


class ReliableNeighborTargets(SoftTargetTerm):
    """Base of the two estimators: reliabilities, and their power α, which is fitted to the student.

    Parameters
    ----------
    neighbors : SparseRows
        ``[N, N]``; entry ``[v, u]`` counts the edges u → v, u ≠ v.
    probs : Tensor
        The teacher's tempered probabilities y', float32 ``[N, C]``.
    reliability : Tensor
        ρ ≥ 0, smaller for more reliable nodes, float32 ``[N]``. If all are 0, all neighbours have equal weight.
    initial_power : float
        Initial α.
    warmup_epochs : int
        Epochs before α is fitted.
    momentum : float
        Share of its value that α keeps per epoch.
    bins : int
        Bins of the histogram to which α is fitted.
    weight : float
        Multiplies the loss.
    """

    name = "krd"

    def __init__(
        self,
        neighbors: SparseRows,
        probs: Tensor,
        reliability: Tensor,
        *,
        initial_power: float = 1.0,
        warmup_epochs: int = 50,
        momentum: float = 0.99,
        bins: int = 50,
        weight: float = 1.0,
    ) -> None:
        self.warmup_epochs, self.momentum, self.bins, self.weight = warmup_epochs, momentum, bins, weight
        self._initial_power = self._power = initial_power
        self._neighbors = neighbors
        self._probs = probs
        self._entropies = entropy(probs)
        self._ratio = reliability / reliability.max() if bool((reliability > 0).any()) else None
        self._update()

    @property
    def power(self) -> float:
        """α."""
        return self._power

    def bind(self, student: Student, table: DistillationTable, objective: ObjectiveConfig) -> None:
        """Begin a training with the initial α."""
        super().bind(student, table, objective)
        # An update may cost a product over all edges.
        if self._power != self._initial_power:
            self._power = self._initial_power
            self._update()

    def summed_loss(self, log_probs: Tensor, rows: Tensor) -> Tensor:
        """Return the weighted divergence from the neighbours' targets, summed over rows; see `SoftTargetTerm`.

        Rows without neighbours, or with neighbours of weight 0 alone, add nothing.
        """
        targets, entropies = self._targets(rows)
        return self.weight * (soft_cross_entropy(log_probs, targets) - entropies.sum())

    def to(self, device: torch.device) -> Self:
        """Return the targets on `device`."""
        moved = copy.copy(self)
        if device == self._probs.device:
            return moved
        moved._neighbors = self._neighbors.to(device)
        moved._probs = self._probs.to(device)
        moved._entropies = self._entropies.to(device)
        moved._ratio = None if self._ratio is None else self._ratio.to(device)
        moved._update()
        return moved

    def needs_predictions(self, epoch: int) -> bool:
        """Whether α is fitted after this epoch: after the warm-up, unless all nodes are equally reliable."""
        return epoch > self.warmup_epochs and self._ratio is not None

    def end_epoch(self, epoch: int, logits: Tensor) -> dict[str, float]:
        """Move α towards the best fit once the warm-up is over; return ``{"krd_power": α}``."""
        if self.needs_predictions(epoch) and self._ratio is not None:
            fitted = fit_power(self._ratio, predictions(logits) == predictions(self._probs), self.bins)
            if fitted is not None:
                self._power = self.momentum * self._power + (1 - self.momentum) * fitted
                self._update()
        return {"krd_power": self._power}

    def state_dict(self) -> dict[str, Tensor]:
        """Return α; everything else follows from graph and teacher."""
        return {"power": torch.tensor(self._power, dtype=torch.float64)}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Restore what `state_dict` returned."""
        self._power = float(state["power"])
        self._update()

    def _sampling_weights(self) -> Tensor:
        """Return p, float32 ``[N]`` (paper, eq. 11)."""
        return torch.ones_like(self._entropies) if self._ratio is None else 1 - self._ratio**self._power

    @abstractmethod
    def _update(self) -> None:
        """Recompute the values that depend on α."""

    @abstractmethod
    def _targets(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Return the mean targets ``[B, C]`` of `rows` and the mean entropies ``[B]`` of the targets' summands."""


class ExpectedNeighborTargets(ReliableNeighborTargets):
    """Expectation over neighbours in closed form: one sparse product for all nodes whenever α changes."""

    def _update(self) -> None:
        weights = self._sampling_weights()[:, None]
        sums = matmul(self._neighbors, torch.cat([weights * self._entropies[:, None], weights], dim=1))
        # If the weights sum to 0, so do the products with them, and the row's targets are zeros.
        total = sums[:, 1:].clamp(min=torch.finfo(sums.dtype).tiny)
        self._mean_entropies = sums[:, 0] / total[:, 0]
        # Frees the former targets first, unless another term shares them after `to`.
        self.__dict__.pop("_mean_probs", None)
        means = self._mean_probs = torch.empty_like(self._probs)
        # A few columns at a time, to bound the memory of large graphs.
        for into, probs in zip(means.split(_COLUMNS_AT_ONCE, 1), self._probs.split(_COLUMNS_AT_ONCE, 1), strict=True):
            torch.div(matmul(self._neighbors, weights * probs), total, out=into)

    def _targets(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        return self._mean_probs[rows], self._mean_entropies[rows]


class SampledNeighborTargets(ReliableNeighborTargets):
    """Neighbours sampled with replacement, in proportion to p, in every call of the loss.

    Parameters
    ----------
    samples : int
        Number of neighbours sampled for each row.
    neighbors, probs, reliability, **options
        See `ReliableNeighborTargets`.
    """

    def __init__(
        self, neighbors: SparseRows, probs: Tensor, reliability: Tensor, *, samples: int = 1, **options: Any
    ) -> None:
        self.samples = samples
        super().__init__(neighbors, probs, reliability, **options)

    def _update(self) -> None:
        csr = self._neighbors.csr
        edge_weights = csr.values() * self._sampling_weights()[csr.col_indices()]
        # With a cumulative sum over all edges, every draw is one binary search. Float64 resolves small weights.
        start = torch.zeros(1, dtype=torch.float64, device=edge_weights.device)
        self._running = torch.cat([start, edge_weights.double().cumsum(0)])

    def _targets(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        pointers, sources = self._neighbors.csr.crow_indices(), self._neighbors.csr.col_indices()
        low, high = self._running[pointers[rows]], self._running[pointers[rows + 1]]
        drawn = torch.rand(len(rows), self.samples, dtype=torch.float64).to(low.device)
        points = low[:, None] + drawn * (high - low)[:, None]
        # Rounding may put a point on the upper bound, which belongs to the next row.
        points = torch.minimum(points, torch.nextafter(high, low)[:, None])
        present = high > low
        edges = torch.searchsorted(self._running[1:], points[present], right=True)
        picked = sources[edges]
        targets = self._probs.new_zeros(len(rows), self._probs.shape[1])
        targets[present] = self._probs[picked].mean(dim=1)
        entropies = self._probs.new_zeros(len(rows))
        entropies[present] = self._entropies[picked].mean(dim=1)
        return targets, entropies
