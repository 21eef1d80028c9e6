"""What routing learned: what routers see and decide, and how much the top experts know of the labels."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from dgl_rbm.errors import DataError
from dgl_rbm.rows.sparse import Rows, StructuredRows, linear
from dgl_rbm.students.base import Student
from dgl_rbm.students.layers.routing import LearnedRouter
from dgl_rbm.students.mixture import MixtureStudent

__all__ = ["RoutedRows", "expert_label_information", "plane", "routed_rows"]

_FEWEST_POINTS = 4


def expert_label_information(experts: Tensor, labels: Tensor) -> float:
    """Return the normalised mutual information of top expert and label: how well the expert predicts the class.

    2·I(expert; label) / (H(expert) + H(label)), also known as the V-measure (Rosenberg and Hirschberg, 2007): 1 where
    each determines the other, 0 where they are independent. It compares students of the same number of experts; more
    experts than classes lower it.

    Parameters
    ----------
    experts, labels : Tensor
        int64 ``[B]``.

    Raises
    ------
    DataError
        Where the two are not of the same length, or are empty.
    """
    if experts.shape != labels.shape or not len(labels):
        raise DataError(
            f"There are {len(experts)} top experts and {len(labels)} labels; expected as many of both, and some."
        )
    # scikit-learn takes longer to load than all else here.
    from sklearn.metrics import normalized_mutual_info_score

    return float(normalized_mutual_info_score(labels.cpu().numpy(), experts.cpu().numpy()))


class RoutedRows(NamedTuple):
    """Rows as one router sees them.

    Attributes
    ----------
    points : Tensor
        The rows in the space in which they are compared with the experts' embeddings, float32 ``[B, D]``: h for RbM
        (paper, equation 3), its projection W·h for MoE (equation 2).
    gates : Tensor
        float32 ``[B, E]``.
    directions : bool
        Whether the router compares directions alone, whatever the lengths.
    """

    points: Tensor
    gates: Tensor
    directions: bool = True


@torch.no_grad()
def routed_rows(student: Student, x: Rows, *, layer: int = -1) -> RoutedRows:
    """Return what the router of a layer sees and decides.

    Parameters
    ----------
    student : Student
        One that routes, such as RbM or MoE, past its pre-training.
    x : Tensor or StructuredRows
        float32 ``[B, F + P]``.
    layer : int
        Which layer; the last one by default, as in Figure 4 of the RbM paper.

    Raises
    ------
    DataError
        Where the student does not route.
    """
    passes = student.routings(x) if isinstance(student, MixtureStudent) else []
    if not passes:
        raise DataError(
            f"The student '{student.kind}' does not route its rows.",
            hint="Students that do: rbm, moe; after pre-training.",
        )
    assert isinstance(student, MixtureStudent)
    rows, routing = passes[layer]
    router: Any = list(student.layers)[layer].router
    points = router.seen(rows)
    if isinstance(router, LearnedRouter):
        points = linear(points, router.projection.weight)
    return RoutedRows(
        points.to_dense() if isinstance(points, StructuredRows) else points,
        routing.gates,
        directions=getattr(router, "metric", "cosine") == "cosine",
    )


def plane(points: Tensor, *, directions: bool = True, seed: int = 0) -> Any:
    """Return the points in a plane by t-SNE, with a perplexity of 30 from a start by PCA (RbM paper, section 5.5).

    Parameters
    ----------
    points : Tensor
        float32 ``[B, D]``.
    directions : bool
        Whether points are scaled to length one first, where lengths mean nothing and would hide the directions.
    seed : int
        Of t-SNE.

    Returns
    -------
    numpy.ndarray
        float32 ``[B, 2]``.

    Raises
    ------
    DataError
        Where there are fewer than four points.
    """
    if len(points) < _FEWEST_POINTS:
        raise DataError(f"t-SNE of {len(points)} points shows nothing; expected at least {_FEWEST_POINTS}.")
    from sklearn.manifold import TSNE

    points = torch.nn.functional.normalize(points) if directions else points
    # It must be below the number of points; a third of them is the largest that means something.
    perplexity = min(30.0, (len(points) - 1) / 3)
    init = "pca" if points.shape[1] >= 2 else "random"
    return TSNE(perplexity=perplexity, init=init, random_state=seed).fit_transform(points.cpu().numpy())
