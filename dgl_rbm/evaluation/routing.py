"""Analysis of routing: router inputs and gates, mutual information of top experts and labels, and t-SNE embeddings."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from dgl_rbm.errors import DataError
from dgl_rbm.rows.sparse import Rows
from dgl_rbm.runtime.process_state import inference
from dgl_rbm.students.base import Student

__all__ = ["RoutedRows", "expert_label_nmi", "routed_rows", "tsne_embedding"]

_FEWEST_POINTS = 4


def expert_label_nmi(experts: Tensor, labels: Tensor) -> float:
    """Return the normalised mutual information (NMI) of top experts and labels.

    2·I(expert; label) / (H(expert) + H(label)), also known as the V-measure (Rosenberg and Hirschberg, 2007): 1 if
    expert and label determine each other, 0 if they are independent. Compare only students with the same number of
    experts: more experts than classes lower the NMI.

    Parameters
    ----------
    experts, labels : Tensor
        int64 ``[B]``.

    Raises
    ------
    DataError
        If the lengths differ or are zero.
    """
    if experts.shape != labels.shape or not len(labels):
        raise DataError(
            f"There are {len(experts)} top experts and {len(labels)} labels; expected equal numbers, at least one each."
        )
    # Importing scikit-learn takes longer than importing the rest of this module.
    from sklearn.metrics import normalized_mutual_info_score

    return float(normalized_mutual_info_score(labels.cpu().numpy(), experts.cpu().numpy()))


class RoutedRows(NamedTuple):
    """Router inputs of a layer and their gates.

    Attributes
    ----------
    points : Tensor
        Rows in the space in which the router compares them with the expert embeddings, float32 ``[B, D]``: h for RbM
        (RbM paper, eq. 3), its projection W·h for MoE (eq. 2).
    gates : Tensor
        float32 ``[B, E]``.
    spherical : bool
        Whether the router compares directions only and ignores lengths.
    """

    points: Tensor
    gates: Tensor
    spherical: bool = True


@inference
def routed_rows(student: Student, x: Rows, *, layer: int = -1) -> RoutedRows:
    """Return the router inputs and gates of a layer in evaluation mode.

    Parameters
    ----------
    student : Student
        A mixture, such as RbM or MoE, after its pre-training.
    x : Tensor or StructuredRows
        float32 ``[B, F + P]``.
    layer : int
        Index of the layer; the last one by default, as in Figure 4 of the RbM paper.

    Raises
    ------
    DataError
        If the student has no routing.
    """
    routings = student.routings(x)
    if not routings:
        raise DataError(
            f"The student '{student.kind}' does not route its rows.",
            hint="Students that do: rbm, moe; after pre-training.",
        )
    rows, routing = routings[layer]
    router = student.routers()[layer]
    return RoutedRows(router.embed(rows), routing.gates, spherical=router.spherical)


def tsne_embedding(points: Tensor, *, spherical: bool = True, seed: int = 0) -> Any:
    """Embed points in two dimensions by t-SNE with perplexity 30 and PCA initialisation (RbM paper, section 5.5).

    Parameters
    ----------
    points : Tensor
        float32 ``[B, D]``.
    spherical : bool
        Whether to normalise points to unit length first, for routers that ignore lengths.
    seed : int
        Random state of t-SNE.

    Returns
    -------
    numpy.ndarray
        float32 ``[B, 2]``.

    Raises
    ------
    DataError
        If there are fewer than four points.
    """
    if len(points) < _FEWEST_POINTS:
        raise DataError(f"t-SNE needs at least {_FEWEST_POINTS} points, got {len(points)} points.")
    from sklearn.manifold import TSNE

    points = torch.nn.functional.normalize(points) if spherical else points
    # The perplexity must be below the number of points; a third of it is the largest meaningful value.
    perplexity = min(30.0, (len(points) - 1) / 3)
    init = "pca" if points.shape[1] >= 2 else "random"
    return TSNE(perplexity=perplexity, init=init, random_state=seed).fit_transform(points.cpu().numpy())
