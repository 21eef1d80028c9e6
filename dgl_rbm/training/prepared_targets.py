"""Targets that a run makes once and hands to one student's training after another."""

from __future__ import annotations

import copy

from torch import Tensor

from dgl_rbm.training.table import NeighborTargets

__all__ = ["PreparedTargets"]


class PreparedTargets:
    """A regularizer's targets, which every training finds as they were prepared, whatever another made of them.

    Parameters
    ----------
    targets : NeighborTargets or None
        As `Regularizer.prepare` returned them, on the device of the training.
    """

    def __init__(self, targets: NeighborTargets | None) -> None:
        self._targets = targets
        self._start: dict[str, Tensor] = {} if targets is None else copy.deepcopy(targets.state_dict())
        self._handed_out = False

    def restarted(self) -> NeighborTargets | None:
        """Return the targets in the state in which they were prepared."""
        # Loading a state may cost a product over all edges, and is for nothing before anyone has changed it.
        if self._targets is not None and self._handed_out:
            self._targets.load_state_dict(copy.deepcopy(self._start))
        self._handed_out = True
        return self._targets
