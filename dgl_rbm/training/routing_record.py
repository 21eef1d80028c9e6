"""Records what routing does from epoch to epoch: how evenly and how steadily rows are sent to the experts."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

from dgl_rbm.rows.sparse import Rows, take
from dgl_rbm.students.base import Student

__all__ = [
    "NoRoutingRecord",
    "RoutingRecord",
    "RoutingRecorder",
    "expert_utilisation",
    "routing_recorder",
    "routing_stability",
    "top_experts",
]

# Rows that an epoch's routing is recorded of; more of them would change the shares by less than the curves show.
_MOST_ROWS = 20_000


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
        passes = student.routings(self._x)
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
