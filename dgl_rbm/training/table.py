"""Distillation table: a student's training data as plain tensors, without a graph."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from dgl_rbm.rows.sparse import Rows

__all__ = ["DistillationTable"]


@dataclass(frozen=True)
class DistillationTable:
    """One row per observed node; all tensors are on the same device.

    Attributes
    ----------
    inputs : Tensor or SparseRows
        Student inputs, features beside encodings, float32 ``[N, F + P]``.
    labels : Tensor
        int64 ``[N]``; −1 for nodes that are neither training nor validation nodes.
    train_idx, val_idx : Tensor
        Training rows and validation rows, int64.
    teacher_logits : Tensor or None
        float32 ``[N, C]``; None without a teacher.
    num_classes : int
        C.
    distill_on_validation : bool
        Whether the student is also trained on the validation rows, without their labels.
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
        """Rows on which the student is trained, int64, ascending."""
        mask = torch.ones(len(self), dtype=torch.bool, device=self.device)
        if not self.distill_on_validation:
            mask[self.val_idx] = False
        return mask.nonzero().squeeze(1)

    @property
    def device(self) -> torch.device:
        """Device of the tensors."""
        return self.inputs.device
