"""How many experts a layer has: as many as are given, or as the clusters that its rows fall into."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import one_hot

from dgl_rbm.errors import ConfigError
from dgl_rbm.rows.sparse import Rows, norms, take
from dgl_rbm.students.layers.kmeans import kmeans_centres, subsample

__all__ = ["MOST_EXPERTS", "best_centres", "candidate_counts", "silhouette", "starting_counts"]

# The numbers that the paper tries.
_FEWEST_EXPERTS, MOST_EXPERTS = 3, 8

# Rows whose distances from each other are compared: 4 million of them.
_MAX_ROWS = 2000


def starting_counts(num_experts: int | Sequence[int] | str, num_layers: int, pretrain_epochs: int) -> list[int]:
    """Return the number of experts that each layer starts with.

    Parameters
    ----------
    num_experts : int, sequence of int, or "auto"
        Of all layers or of each; of "auto" the most there may be.
    num_layers, pretrain_epochs : int
        Layers, and epochs before "auto" chooses.

    Raises
    ------
    ConfigError
        Where there are not as many numbers as layers, or "auto" has no pre-training to choose after.
    """
    if isinstance(num_experts, int):
        return [num_experts] * num_layers
    if isinstance(num_experts, str):
        if not pretrain_epochs:
            raise ConfigError(
                "num_experts is 'auto', which is chosen when pre-training ends, but pretrain_epochs is 0.",
                hint="Set student.pretrain_epochs to 1 or more, or student.num_experts to a number.",
            )
        return [MOST_EXPERTS] * num_layers
    if len(num_experts) != num_layers:
        raise ConfigError(
            f"num_experts has {len(num_experts)} numbers, {list(num_experts)}, for {num_layers} layers.",
            hint="Give one number for each layer, or a single one for all.",
        )
    return list(num_experts)


def candidate_counts(top_k: int) -> range:
    """Return the numbers of experts that "auto" tries for a router that sends each row to `top_k` of them."""
    return range(max(_FEWEST_EXPERTS, min(top_k, MOST_EXPERTS)), MOST_EXPERTS + 1)


def silhouette(distances: Tensor, labels: Tensor) -> float:
    """Return the mean silhouette of a clustering (Rousseeuw, 1987): the more, the better apart its clusters are.

    A row's is (b − a) / max(a, b), with its mean distance a from the others of its cluster and the least mean
    distance b from those of another cluster; 0 for a row that is alone.

    Parameters
    ----------
    distances : Tensor
        Between all rows, float ``[B, B]``.
    labels : Tensor
        The cluster of each row, int64 ``[B]``.

    Returns
    -------
    float
        In ``[-1, 1]``; −1 where there is only one cluster.
    """
    _, labels = torch.unique(labels, return_inverse=True)
    members = one_hot(labels).to(distances)
    counts = members.sum(dim=0)
    if len(counts) < 2:
        return -1.0
    sums = distances @ members
    own = members.bool()
    others = (counts - members).clamp(min=1)
    means = sums / others
    inside = means[own]
    outside = means.masked_fill(own, torch.inf).min(dim=1).values
    values = (outside - inside) / torch.maximum(inside, outside).clamp(min=torch.finfo(distances.dtype).tiny)
    return float(torch.where(counts[labels] > 1, values, 0.0).mean())


def best_centres(x: Rows, candidates: Sequence[int], *, directions: bool = True) -> Tensor:
    """Return k-means centres of the number of clusters whose silhouette is largest.

    Of very many rows the silhouette is that of a random part.

    Parameters
    ----------
    x : Tensor, SparseRows or StackedRows
        float32 ``[B, D]``.
    candidates : sequence of int
        Numbers of clusters to try; of equal ones the first is taken.
    directions : bool
        Whether rows are scaled to length one, as for `kmeans_centres`.

    Returns
    -------
    Tensor
        float32 ``[E, D]`` on the CPU, with E one of the `candidates`.
    """
    sample = subsample(x, _MAX_ROWS)
    if directions:
        sample = take(sample, norms(sample).gt(0).nonzero().squeeze(1))
    points = (sample if isinstance(sample, Tensor) else sample.to_dense()).detach().cpu()
    if directions:
        points = torch.nn.functional.normalize(points)
    distances = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist") if len(points) else None
    best, most = None, -torch.inf
    for candidate in candidates:
        centres = kmeans_centres(x, candidate, directions=directions)
        score = -1.0 if distances is None else silhouette(distances, torch.cdist(points, centres).argmin(dim=1))
        if best is None or score > most:
            best, most = centres, score
    assert best is not None, "there are candidates"
    return best
