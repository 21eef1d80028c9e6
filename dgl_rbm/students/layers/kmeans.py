"""k-means centres of dense or sparse rows, reproducible from torch's generator."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from sklearn.cluster import KMeans
from sklearn.exceptions import ConvergenceWarning
from threadpoolctl import threadpool_limits
from torch import Tensor

from dgl_rbm.rows.sparse import Rows, StructuredRows, norms, take
from dgl_rbm.students.layers.lloyd import lloyd_centres

__all__ = ["kmeans_centres", "subsample"]

# More rows hardly change the centres, and k-means reads them up to a hundred times.
_MAX_ROWS = 20_000


def subsample(x: Rows, limit: int = _MAX_ROWS) -> Rows:
    """Return `x`, or `limit` random rows of it if it has more, drawn with torch's generator."""
    if x.shape[0] <= limit:
        return x
    return take(x, torch.randperm(x.shape[0])[:limit].sort().values.to(x.device))


def kmeans_centres(x: Rows, num_clusters: int, *, spherical: bool = True) -> Tensor:
    """Return k-means centres of the rows after scaling each to length one (RbM paper, section 4.3).

    Computed by scikit-learn on the CPU, and by `dgl_rbm.students.layers.lloyd.lloyd_centres` on a GPU.

    Parameters
    ----------
    x : Tensor, SparseRows or StackedRows
        float32 ``[B, D]``; rows of zeros have no direction and are left out if `spherical`.
    num_clusters : int
        E.
    spherical : bool
        Whether rows are scaled.

    Returns
    -------
    Tensor
        float32 ``[E, D]`` on the CPU, all rows distinct, also with fewer distinct rows than clusters.
    """
    seed = int(torch.randint(2**31 - 1, (), device="cpu"))
    rng = np.random.default_rng(seed)
    if x.device.type != "cpu":
        return _centres_on_device(x, num_clusters, rng, spherical)
    rows = _unit_rows(x) if spherical else _as_array(x)
    if not rows.shape[0]:
        return _random_centres(num_clusters, x.shape[1], rng)
    if rows.shape[0] < num_clusters:
        rows = rows[np.arange(num_clusters) % rows.shape[0]]
    # With several threads the order of additions, and so the last digits, would differ between runs.
    with warnings.catch_warnings(), threadpool_limits(1):
        # Raised for fewer distinct rows than clusters; duplicate centres are separated below.
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = KMeans(num_clusters, n_init=3, max_iter=100, random_state=seed).fit(rows)
    return torch.from_numpy(_separate_duplicates(fitted.cluster_centers_.astype(np.float32), rng))


def _centres_on_device(x: Rows, num_clusters: int, rng: np.random.Generator, spherical: bool = True) -> Tensor:
    lengths = norms(x)
    kept = (lengths.gt(0) if spherical else torch.ones_like(lengths)).nonzero().squeeze(1)
    if not len(kept):
        return _random_centres(num_clusters, x.shape[1], rng)
    if len(kept) < num_clusters:
        kept = kept[torch.arange(num_clusters, device=kept.device) % len(kept)]
    if len(kept) != x.shape[0]:
        x = take(x, kept)
    centres = lloyd_centres(x if isinstance(x, StructuredRows) else x.detach(), num_clusters, rng, spherical=spherical)
    return torch.from_numpy(_separate_duplicates(centres.cpu().numpy(), rng))


def _random_centres(num_clusters: int, dim: int, rng: np.random.Generator) -> Tensor:
    return torch.from_numpy(rng.standard_normal((num_clusters, dim), dtype=np.float32))


def _as_array(x: Rows) -> Any:
    return x.to_scipy() if isinstance(x, StructuredRows) else x.detach().cpu().numpy()


def _unit_rows(x: Rows) -> Any:
    if isinstance(x, StructuredRows):
        rows = x.to_scipy()
        lengths = np.sqrt(np.asarray(rows.multiply(rows).sum(axis=1)).ravel())
        kept = lengths > 0
        return sp.diags(1 / lengths[kept]).astype(np.float32) @ rows[kept]
    dense = x.detach().cpu().numpy()
    lengths = np.linalg.norm(dense, axis=1)
    kept = lengths > 0
    return dense[kept] / lengths[kept, None]


def _separate_duplicates(centres: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Perturb repeated centres: equal memories would tie for every row and get the same updates forever."""
    _, first = np.unique(centres, axis=0, return_index=True)
    repeated = np.ones(len(centres), dtype=bool)
    repeated[first] = False
    nudges = rng.standard_normal(centres.shape, dtype=np.float32) / np.sqrt(centres.shape[1])
    centres[repeated] += 0.05 * nudges[repeated]
    return centres
