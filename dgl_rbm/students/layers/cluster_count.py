"""Number of experts of each layer: as configured, or chosen by the silhouette of the clusters of its inputs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from sklearn.metrics import silhouette_score
from torch import Tensor

from dgl_rbm.errors import ConfigError
from dgl_rbm.rows.sparse import Rows, norms, take
from dgl_rbm.students.layers.kmeans import kmeans_centres, subsample

__all__ = ["MAX_EXPERTS", "candidate_counts", "centres_by_silhouette", "initial_counts", "silhouette"]

# The range that the paper searches.
_MIN_EXPERTS, MAX_EXPERTS = 3, 8

# Rows of the silhouette, which needs the distances of all pairs: 4 million.
_MAX_ROWS = 2000


def initial_counts(num_experts: int | Sequence[int] | str, num_layers: int, pretrain_epochs: int) -> list[int]:
    """Return the initial number of experts of each layer.

    Parameters
    ----------
    num_experts : int, sequence of int, or "auto"
        Of all layers or of each; "auto" starts with the largest candidate.
    num_layers, pretrain_epochs : int
        Layers, and epochs before "auto" chooses.

    Raises
    ------
    ConfigError
        If the number of entries differs from the number of layers, or "auto" has no pre-training to choose after.
    """
    if isinstance(num_experts, int):
        return [num_experts] * num_layers
    if isinstance(num_experts, str):
        if not pretrain_epochs:
            raise ConfigError(
                "num_experts is 'auto', which is chosen at the end of pre-training, but pretrain_epochs is 0.",
                hint="Set student.pretrain_epochs to 1 or more, or student.num_experts to a number.",
            )
        return [MAX_EXPERTS] * num_layers
    if len(num_experts) != num_layers:
        raise ConfigError(
            f"num_experts has {len(num_experts)} numbers, {list(num_experts)}, for {num_layers} layers.",
            hint="Give one number for each layer, or a single one for all.",
        )
    return list(num_experts)


def candidate_counts(top_k: int) -> range:
    """Return the numbers of experts that "auto" tries if the router sends each row to `top_k` experts."""
    return range(max(_MIN_EXPERTS, min(top_k, MAX_EXPERTS)), MAX_EXPERTS + 1)


def silhouette(distances: Tensor, labels: Tensor) -> float:
    """Return the mean silhouette of a clustering (Rousseeuw, 1987), also for the cases that scikit-learn refuses.

    Parameters
    ----------
    distances : Tensor
        Distances of all pairs of rows, float ``[B, B]``, with zeros on the diagonal.
    labels : Tensor
        Cluster of each row, int64 ``[B]``.

    Returns
    -------
    float
        In ``[-1, 1]``; -1 for a single cluster, 0 if every row is a cluster of its own.
    """
    clusters = len(np.unique(labels.numpy()))
    if clusters < 2:
        return -1.0
    if clusters == len(labels):
        return 0.0
    return float(silhouette_score(distances.numpy(), labels.numpy(), metric="precomputed"))


def centres_by_silhouette(x: Rows, candidates: Sequence[int], *, spherical: bool = True) -> Tensor:
    """Return k-means centres with the number of clusters of the largest silhouette.

    The silhouette of large inputs is that of a random subsample.

    Parameters
    ----------
    x : Tensor, SparseRows or StackedRows
        float32 ``[B, D]``.
    candidates : sequence of int
        Numbers of clusters to try; ties go to the first.
    spherical : bool
        Whether rows are scaled to length one, as for `kmeans_centres`.

    Returns
    -------
    Tensor
        float32 ``[E, D]`` on the CPU, with E one of the `candidates`.
    """
    sample = subsample(x, _MAX_ROWS)
    if spherical:
        sample = take(sample, norms(sample).gt(0).nonzero().squeeze(1))
    points = (sample if isinstance(sample, Tensor) else sample.to_dense()).detach().cpu()
    if spherical:
        points = torch.nn.functional.normalize(points)
    distances = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist") if len(points) else None
    best, largest = None, -torch.inf
    for candidate in candidates:
        centres = kmeans_centres(x, candidate, spherical=spherical)
        score = -1.0 if distances is None else silhouette(distances, torch.cdist(points, centres).argmin(dim=1))
        if best is None or score > largest:
            best, largest = centres, score
    assert best is not None, "there are candidates"
    return best
