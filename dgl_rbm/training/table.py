"""The distillation table: all that a student is trained on, as plain tensors without a graph."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from dgl_rbm.rows.sparse import Rows, SparseRows

__all__ = ["DistillationTable", "NeighborTargets"]


class NeighborTargets(Protocol):
    """What a regularizer adds to the table: targets from each node's neighbourhood."""

    def loss(self, log_probs: Tensor, rows: Tensor) -> Tensor:
        """Return the summed loss of the rows.

        Parameters
        ----------
        log_probs : Tensor
            The student's tempered log-probabilities, float32 ``[B, C]``.
        rows : Tensor
            Table rows that they belong to, int64 ``[B]``.
        """
        ...

    def to(self, device: torch.device) -> NeighborTargets:
        """Return the targets on `device`."""
        ...

    def reads_labels_of(self, epoch: int) -> bool:
        """Whether `end_epoch` is to be called after `epoch`, which costs a prediction of every row."""
        ...

    def end_epoch(self, epoch: int, student_labels: Tensor) -> dict[str, float]:
        """Adapt to the student's predictions ``[N]`` after an epoch; return values worth recording."""
        ...

    def state_dict(self) -> dict[str, Tensor]:
        """Return what a checkpoint must hold."""
        ...

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Take back what `state_dict` returned."""
        ...


@dataclass(frozen=True)
class DistillationTable:
    """One row per observed node; every tensor lies on the same device.

    Attributes
    ----------
    inputs : Tensor or SparseRows
        Student inputs, features beside encodings, float32 ``[N, F + P]``.
    labels : Tensor
        int64 ``[N]``; −1 wherever the node is neither a training nor a validation node.
    train_idx, val_idx : Tensor
        Rows with a label to learn from and to select on, int64.
    teacher_logits : Tensor or None
        float32 ``[N, C]``; None where the method has no teacher.
    teacher_hidden : Tensor or None
        The teacher's last hidden states, float32 ``[N, H]``, where it has any.
    neighbor_targets : NeighborTargets or None
        Targets from the neighbourhood, where a regularizer gives them.
    num_classes : int
        C.
    neighbors : SparseRows or None
        ``[N, N]``: entry ``[v, u]`` counts the edges from the node of row u to that of row v, no row being its own
        neighbour; where the objective reads it.
    teaches_validation : bool
        Whether the student also learns from the targets of the validation rows.
    """

    inputs: Rows
    labels: Tensor
    train_idx: Tensor
    val_idx: Tensor
    num_classes: int
    teacher_logits: Tensor | None = None
    teacher_hidden: Tensor | None = None
    neighbor_targets: NeighborTargets | None = None
    neighbors: SparseRows | None = None
    teaches_validation: bool = True

    def __len__(self) -> int:
        return self.inputs.shape[0]

    @cached_property
    def is_train(self) -> Tensor:
        """Whether each row is a training row, bool ``[N]``."""
        mask = torch.zeros(len(self), dtype=torch.bool, device=self.device)
        mask[self.train_idx] = True
        return mask

    @cached_property
    def taught_idx(self) -> Tensor:
        """The rows that a student is trained on, int64, ascending."""
        taught = torch.ones(len(self), dtype=torch.bool, device=self.device)
        if not self.teaches_validation:
            taught[self.val_idx] = False
        return taught.nonzero().squeeze(1)

    @property
    def device(self) -> torch.device:
        """Where the table lies."""
        return self.inputs.device
