"""k-means in torch for rows on a GPU: greedy k-means++ and Lloyd's algorithm by matrix products alone.

Copying the rows to the CPU and running scikit-learn there would take 0.1 to 1 s per layer, as long as a whole training
of RbM on a small graph (1.2 s on Amazon-Photo). For rows on the CPU neither is twice as fast in general, so these use
scikit-learn. Times on one CPU thread (``benchmarks/kmeans.py``):

=====================  =  ============  ===========
rows                   E  scikit-learn  this module
=====================  =  ============  ===========
20,000 × 128, dense    3  238 ms        168 ms
20,000 × 128, dense    5  326 ms        171 ms
20,000 × 128, dense    8  979 ms        1552 ms
2,485 × 1,433, sparse  3  91 ms         69 ms
2,485 × 1,433, sparse  5  138 ms        105 ms
2,485 × 1,433, sparse  8  208 ms        141 ms
=====================  =  ============  ===========
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from dgl_rbm.rows.sparse import Rows, matmul, norms, take, transpose_matmul

__all__ = ["lloyd_centres"]


def lloyd_centres(
    x: Rows,
    num_clusters: int,
    rng: np.random.Generator,
    *,
    n_init: int = 3,
    max_iter: int = 100,
    spherical: bool = True,
) -> Tensor:
    """Return the k-means centres of the rows after scaling each to length one, the best of several initialisations.

    As in scikit-learn, greedy k-means++ (Arthur and Vassilvitskii, 2007) draws the initial centres, an empty cluster is
    moved to the row farthest from its centre, and iterations stop when no row changes its cluster. The rows are
    multiplied and never copied, and no sum depends on the order of a GPU's threads.

    Parameters
    ----------
    x : Tensor, SparseRows or StackedRows
        float32 ``[B, D]``, at least as many rows as clusters; no row of zeros if `spherical`.
    num_clusters : int
        E.
    rng : numpy.random.Generator
        Draws the initial centres.
    n_init, max_iter : int
        Number of initialisations, and the most iterations of each.
    spherical : bool
        Whether rows are scaled.

    Returns
    -------
    Tensor
        float32 ``[E, D]``, on the rows' device; some are equal if there are fewer distinct rows than clusters.
    """
    rows = _UnitRows(x) if spherical else _PlainRows(x)
    best, least = None, math.inf
    for _ in range(n_init):
        centres, inertia = _run_lloyd(rows, _kmeans_plus_plus(rows, num_clusters, rng), max_iter)
        if best is None or inertia < least:
            best, least = centres, inertia
    assert best is not None
    return best


class _UnitRows:
    """Rows scaled to length one; the factors are applied to the products."""

    def __init__(self, x: Rows) -> None:
        self.x = x
        self.inverse = norms(x).reciprocal().unsqueeze(1)
        self.squares = torch.ones_like(self.inverse)

    def __len__(self) -> int:
        return self.x.shape[0]

    def dense(self, index: Tensor) -> Tensor:
        """Return some rows as a dense tensor."""
        picked = take(self.x, index)
        return (picked if isinstance(picked, Tensor) else picked.to_dense()) * self.inverse[index]

    def squared_distances(self, centres: Tensor) -> Tensor:
        """Return the squared distance of each row to each centre, ``[B, E]``."""
        products = matmul(self.x, centres.t()) * self.inverse
        return (self.squares + centres.square().sum(dim=1) - 2 * products).clamp_(min=0)

    def sums(self, members: Tensor) -> Tensor:
        """Return the sum of each cluster's rows, ``[E, D]``; `members` is one-hot, ``[B, E]``."""
        return transpose_matmul(self.x, members * self.inverse).t()


class _PlainRows(_UnitRows):
    """Rows without scaling."""

    def __init__(self, x: Rows) -> None:
        self.x = x
        self.squares = norms(x).square().unsqueeze(1)
        self.inverse = torch.ones_like(self.squares)


def _kmeans_plus_plus(rows: _UnitRows, num_clusters: int, rng: np.random.Generator) -> Tensor:
    """Return initial centres by greedy k-means++: each the best of a few rows drawn by squared distance."""
    device, trials = rows.inverse.device, 2 + int(math.log(num_clusters))
    centres = rows.dense(torch.as_tensor([int(rng.integers(len(rows)))], device=device))
    nearest = rows.squared_distances(centres)[:, 0]
    for _ in range(1, num_clusters):
        # On the CPU: a cumulative sum on a GPU differs in its last digits between runs.
        running = np.cumsum(nearest.cpu().numpy(), dtype=np.float64)
        drawn = np.searchsorted(running, rng.random(trials) * running[-1], side="right")
        candidates = rows.dense(torch.as_tensor(drawn.clip(max=len(rows) - 1), device=device))
        distances = torch.minimum(rows.squared_distances(candidates), nearest.unsqueeze(1))
        chosen = distances.sum(dim=0).argmin()
        centres, nearest = torch.cat([centres, candidates[chosen, None]]), distances[:, chosen]
    return centres


def _run_lloyd(rows: _UnitRows, centres: Tensor, max_iter: int) -> tuple[Tensor, float]:
    """Return the centres after Lloyd's iterations, and their inertia."""
    before: Tensor | None = None
    for _ in range(max_iter):
        distances, labels = rows.squared_distances(centres).min(dim=1)
        if before is not None and torch.equal(labels, before):
            return centres, float(distances.double().sum())
        before, centres = labels, _step(rows, centres, distances, labels)
    return centres, float(rows.squared_distances(centres).min(dim=1).values.double().sum())


def _step(rows: _UnitRows, centres: Tensor, distances: Tensor, labels: Tensor) -> Tensor:
    """Return the mean of each cluster's rows; empty clusters take the farthest rows of the others."""
    empty = torch.bincount(labels, minlength=len(centres)).eq(0).nonzero().squeeze(1)
    if len(empty):
        farthest = distances.topk(len(empty)).indices
        labels = labels.index_copy(0, farthest, empty)
    members = torch.nn.functional.one_hot(labels, len(centres)).to(centres.dtype)
    counts = members.sum(dim=0).unsqueeze(1)
    # A cluster that lost its only row keeps its centre.
    return torch.where(counts > 0, rows.sums(members) / counts.clamp(min=1), centres)
