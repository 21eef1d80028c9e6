"""Records of routing by epoch: expert utilisation, and stability of each row's top expert."""

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

# Maximum number of rows for the record; more would change the shares by less than plots show.
_MOST_ROWS = 20_000


def top_experts(gates: Tensor) -> Tensor:
    """Return the expert with the largest gate of each row; ties go to the first.

    Parameters
    ----------
    gates : Tensor
        float32 ``[B, E]``.

    Returns
    -------
    Tensor
        int64 ``[B]``.
    """
    # A stable sort, since `argmax` does not specify its choice among equal gates.
    return gates.sort(dim=1, descending=True, stable=True).indices[:, 0]


def expert_utilisation(gates: Tensor) -> Tensor:
    """Return each expert's share of the gates over all rows.

    Parameters
    ----------
    gates : Tensor
        float32 ``[B, E]``, B ≥ 1; each row sums to one.

    Returns
    -------
    Tensor
        float32 ``[E]``; sums to one, and is 1/E for every expert under perfect balance.
    """
    return gates.mean(dim=0)


def routing_stability(before: Tensor, after: Tensor) -> float:
    """Return the share of rows with the same top expert in both, in ``[0, 1]``; both int64 ``[B]``."""
    return float((before == after).double().mean())


class RoutingRecorder(Protocol):
    """Recorder of a student's routing by epoch."""

    def end_epoch(self, student: Student) -> dict[str, float]:
        """Return the values to record of the student after an epoch."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """Return the state for a checkpoint."""
        ...

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        ...


class NoRoutingRecord:
    """Null object: records nothing."""

    def end_epoch(self, student: Student) -> dict[str, float]:
        """Return nothing."""
        return {}

    def state_dict(self) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Do nothing."""


class RoutingRecord:
    """Recorder of expert utilisation and routing stability of every layer after each epoch past pre-training.

    Layers are counted from 1 and experts from 0: ``utilisation_2_0`` is the first expert's share of the second layer's
    gates, and ``stability_2`` is the share of rows that keep their top expert of the previous epoch in that layer. No
    random numbers are drawn, so the record does not change the trained student.

    Parameters
    ----------
    x : Tensor or StructuredRows
        The table's inputs, float32 ``[N, F + P]``; beyond 20,000 rows they are subsampled at even spacing.
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
        """Return the student's values; none if it does not route."""
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
        """Return the top experts of the last epoch."""
        return {"before": self._before}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self._before = [experts.to(self._x.device) for experts in state["before"]]


def routing_recorder(x: Rows, *, enabled: bool) -> RoutingRecorder:
    """Return a recorder of the routing of rows ``[N, F + P]``, or the null object."""
    return RoutingRecord(x) if enabled else NoRoutingRecord()
