"""By what the epoch to keep is chosen on the validation nodes."""

from __future__ import annotations

from typing import Literal

__all__ = ["SelectBy", "selection_score"]

SelectBy = Literal["accuracy", "loss", "both"]

_ACCURACY_PER_NAT = 0.3


def selection_score(accuracy: float, loss: float, select_by: SelectBy) -> float:
    """Return what is to be as large as possible.

    A few hundred validation nodes put the accuracy on a coarse grid, on which many epochs are equal by luck; the loss
    tells them apart. It alone would keep a cautious epoch before a better one. ``"both"`` takes 30 % points of
    accuracy for one nat of loss.

    Parameters
    ----------
    accuracy : float
        On the validation nodes, in ``[0, 1]``.
    loss : float
        Mean cross-entropy there, in nats.
    select_by : {"accuracy", "loss", "both"}
    """
    if select_by == "accuracy":
        return accuracy
    if select_by == "loss":
        return -loss
    return accuracy - _ACCURACY_PER_NAT * loss
