"""What routing learned: top experts, how much they know of the labels, how evenly and how steadily rows are sent."""

from __future__ import annotations

from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from dgl_rbm.errors import DataError
from dgl_rbm.sparse import Rows, StructuredRows, linear, take
from dgl_rbm.students.base import Student
from dgl_rbm.students.layers.routing import LearnedRouter
from dgl_rbm.students.mixture import MixtureStudent

__all__ = [
    "NoRoutingRecord",
    "RoutedRows",
    "RoutingRecord",
    "RoutingRecorder",
    "expert_label_information",
    "expert_utilisation",
    "plane",
    "routed_rows",
    "routing_recorder",
    "routing_stability",
    "top_experts",
]

# Rows that an epoch's routing is recorded of; more of them would change the shares by less than the curves show.
_MOST_ROWS = 20_000
_FEWEST_POINTS = 4


def top_experts(gates: Tensor) -> Tensor:
    """Return the expert with the largest gate of each row; of equal ones the first.

    Parameters
    ----------
    gates : Tensor
        float32 ``[B, E]``.

    Returns
    -------
    Tensor
        int64 ``[B]``.
    """
    # A stable sort, since `argmax` leaves the choice among equal gates open.
    return gates.sort(dim=1, descending=True, stable=True).indices[:, 0]


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


def expert_utilisation(gates: Tensor) -> Tensor:
    """Return the share of the gates that each expert gets, over all rows.

    Parameters
    ----------
    gates : Tensor
        float32 ``[B, E]``, B ≥ 1; each row sums to one.

    Returns
    -------
    Tensor
        float32 ``[E]``, which sums to one; 1/E everywhere under perfect balance.
    """
    return gates.mean(dim=0)


def routing_stability(before: Tensor, after: Tensor) -> float:
    """Return the share of rows that have the same top expert before and after, in ``[0, 1]``; both int64 ``[B]``."""
    return float((before == after).double().mean())


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


class RoutingRecorder(Protocol):
    """Records the routing of a student epoch by epoch."""

    def end_epoch(self, student: Student) -> dict[str, float]:
        """Return values to record of the student as it is after an epoch."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return what a checkpoint must hold."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        ...


class NoRoutingRecord:
    """Records nothing, and costs nothing."""

    def end_epoch(self, student: Student) -> dict[str, float]:
        """Return nothing."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Do nothing."""


class RoutingRecord:
    """Records utilisation and stability of every layer's experts after each epoch past pre-training.

    Layers and experts are counted from 1 and 0: ``utilisation_2_0`` is the share of the second layer's gates that its
    first expert gets, and ``stability_2`` the share of rows whose top expert there is the one of the epoch before.
    Draws no random numbers, so that a run with it trains the same student as one without.

    Parameters
    ----------
    x : Tensor or StructuredRows
        The table's inputs, float32 ``[N, F + P]``; of more than 20,000 rows that many are taken, evenly spaced.
    """

    def __init__(self, x: Rows) -> None:
        count = x.shape[0]
        if count > _MOST_ROWS:
            spaced = torch.arange(_MOST_ROWS, device=x.device) * count // _MOST_ROWS
            x = take(x, spaced)
        self._x = x
        self._before: list[Tensor] = []

    @torch.no_grad()
    def end_epoch(self, student: Student) -> dict[str, float]:
        """Return the values of the student as it is; nothing while it does not route."""
        passes = student.routings(self._x) if isinstance(student, MixtureStudent) else []
        values: dict[str, float] = {}
        now = [top_experts(routing.gates) for _, routing in passes]
        for depth, (_, routing) in enumerate(passes, 1):
            for expert, share in enumerate(expert_utilisation(routing.gates).tolist()):
                values[f"utilisation_{depth}_{expert}"] = share
        for depth, (before, after) in enumerate(zip(self._before, now, strict=False), 1):
            values[f"stability_{depth}"] = routing_stability(before, after)
        self._before = now
        return values

    def state_dict(self) -> dict[str, Any]:
        """Return the last epoch's top experts."""
        return {"before": self._before}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take back what `state_dict` returned."""
        self._before = [experts.to(self._x.device) for experts in state["before"]]


def routing_recorder(x: Rows, *, enabled: bool) -> RoutingRecorder:
    """Return a recorder of the routing of rows ``[N, F + P]``, or one that records nothing."""
    return RoutingRecord(x) if enabled else NoRoutingRecord()
