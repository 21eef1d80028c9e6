"""The distillation table: all that a student is trained on, as plain tensors without a graph."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from dgl_rbm.rows.sparse import Rows

__all__ = ["DistillationTable"]


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
    num_classes : int
        C.
    distill_on_validation : bool
        Whether the student also learns from the targets of the validation rows.
    """

    inputs: Rows
    labels: Tensor
    train_idx: Tensor
    val_idx: Tensor
    num_classes: int
    teacher_logits: Tensor | None = None
    distill_on_validation: bool = True

    def __len__(self) -> int:
        return self.inputs.shape[0]

    @cached_property
    def is_train(self) -> Tensor:
        """Whether each row is a training row, bool ``[N]``."""
        mask = torch.zeros(len(self), dtype=torch.bool, device=self.device)
        mask[self.train_idx] = True
        return mask

    @cached_property
    def distilled_rows(self) -> Tensor:
        """The rows that a student is trained on, int64, ascending."""
        taught = torch.ones(len(self), dtype=torch.bool, device=self.device)
        if not self.distill_on_validation:
            taught[self.val_idx] = False
        return taught.nonzero().squeeze(1)

    @property
    def device(self) -> torch.device:
        """Where the table lies."""
        return self.inputs.device
