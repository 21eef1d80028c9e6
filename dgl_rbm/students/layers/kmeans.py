"""k-means centres of rows, dense or sparse, reproducible from torch's generator."""

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

# More rows hardly move the centres, and k-means passes over them a hundred times.
_MAX_ROWS = 20_000


def subsample(x: Rows, limit: int = _MAX_ROWS) -> Rows:
    """Return `x`, or `limit` of its rows drawn with torch's generator where it has more."""
    if x.shape[0] <= limit:
        return x
    return take(x, torch.randperm(x.shape[0])[:limit].sort().values.to(x.device))


def kmeans_centres(x: Rows, num_clusters: int, *, directions: bool = True) -> Tensor:
    """Return k-means centres of the rows after scaling each to length one (RbM paper, section 4.3).

    Found by scikit-learn, and of rows on a GPU there, by `dgl_rbm.students.layers.lloyd.lloyd_centres`.

    Parameters
    ----------
    x : Tensor, SparseRows or StackedRows
        float32 ``[B, D]``; rows of zeros have no direction and are left out.
    num_clusters : int
        E.
    directions : bool
        Whether rows are scaled; where not, rows of zeros are rows like others.

    Returns
    -------
    Tensor
        float32 ``[E, D]`` on the CPU, no two rows the same, also where there are fewer distinct rows than
        clusters.
    """
    seed = int(torch.randint(2**31 - 1, (), device="cpu"))
    noise = np.random.default_rng(seed)
    if x.device.type != "cpu":
        return _centres_on_device(x, num_clusters, noise, directions)
    rows = _directions(x) if directions else _plain(x)
    if not rows.shape[0]:
        return _anywhere(num_clusters, x.shape[1], noise)
    if rows.shape[0] < num_clusters:
        rows = rows[np.arange(num_clusters) % rows.shape[0]]
    # On several threads the order of summation, and so the last digits, would differ from run to run.
    with warnings.catch_warnings(), threadpool_limits(1):
        # Fewer distinct rows than clusters: told apart below.
        warnings.simplefilter("ignore", ConvergenceWarning)
        fitted = KMeans(num_clusters, n_init=3, max_iter=100, random_state=seed).fit(rows)
    return torch.from_numpy(_told_apart(fitted.cluster_centers_.astype(np.float32), noise))


def _centres_on_device(x: Rows, num_clusters: int, noise: np.random.Generator, directions: bool = True) -> Tensor:
    lengths = norms(x)
    kept = (lengths.gt(0) if directions else torch.ones_like(lengths)).nonzero().squeeze(1)
    if not len(kept):
        return _anywhere(num_clusters, x.shape[1], noise)
    if len(kept) < num_clusters:
        kept = kept[torch.arange(num_clusters, device=kept.device) % len(kept)]
    if len(kept) != x.shape[0]:
        x = take(x, kept)
    centres = lloyd_centres(
        x if isinstance(x, StructuredRows) else x.detach(), num_clusters, noise, directions=directions
    )
    return torch.from_numpy(_told_apart(centres.cpu().numpy(), noise))


def _anywhere(num_clusters: int, dim: int, noise: np.random.Generator) -> Tensor:
    return torch.from_numpy(noise.standard_normal((num_clusters, dim), dtype=np.float32))


def _plain(x: Rows) -> Any:
    return x.to_scipy() if isinstance(x, StructuredRows) else x.detach().cpu().numpy()


def _directions(x: Rows) -> Any:
    if isinstance(x, StructuredRows):
        rows = x.to_scipy()
        lengths = np.sqrt(np.asarray(rows.multiply(rows).sum(axis=1)).ravel())
        kept = lengths > 0
        return sp.diags(1 / lengths[kept]).astype(np.float32) @ rows[kept]
    dense = x.detach().cpu().numpy()
    lengths = np.linalg.norm(dense, axis=1)
    kept = lengths > 0
    return dense[kept] / lengths[kept, None]


def _told_apart(centres: np.ndarray, noise: np.random.Generator) -> np.ndarray:
    """Nudge repeated centres: two equal memories would tie for every row and be moved alike for ever."""
    _, first = np.unique(centres, axis=0, return_index=True)
    repeated = np.ones(len(centres), dtype=bool)
    repeated[first] = False
    nudges = noise.standard_normal(centres.shape, dtype=np.float32) / np.sqrt(centres.shape[1])
    centres[repeated] += 0.05 * nudges[repeated]
    return centres
