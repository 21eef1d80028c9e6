"""Options of the student's objective, and its two parts that every run has: labels and the teacher's predictions."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from dgl_rbm.config import StrictConfig
from dgl_rbm.tasks.multiclass import distillation_loss, hard_label_loss
from dgl_rbm.training.table import DistillationTable

__all__ = ["ObjectiveConfig", "distillation_parts"]


class ObjectiveConfig(StrictConfig):
    """Weights and temperature of the student's objective (paper, equations 9 and 12)."""

    hard_label_weight: float = Field(
        default=0.3, ge=0, le=1, description="Share of the loss on training labels, ν; the rest is on teacher targets."
    )
    temperature: float = Field(default=1.0, gt=0, description="Divides the logits of teacher and student, τ.")

    def shares(self, table: DistillationTable) -> tuple[float, float]:
        """Return the weights of labels and of soft targets; without a teacher both count fully."""
        if table.teacher_logits is None:
            return 1.0, 1.0
        return self.hard_label_weight, 1 - self.hard_label_weight


def distillation_parts(
    heads: list[Tensor],
    table: DistillationTable,
    rows: Tensor,
    objective: ObjectiveConfig,
    class_weights: Tensor | None = None,
) -> dict[str, Tensor]:
    """Return the losses of one batch on labels and on the teacher's predictions (paper, equation 9).

    They estimate from the batch the mean over all labelled rows and the mean over all rows.

    Parameters
    ----------
    heads : list of Tensor
        The student's logits on ``table.inputs[rows]``, ``[B, C]`` each; every head learns as if it were alone.
    table : DistillationTable
        The targets.
    rows : Tensor
        int64 ``[B]``.
    objective : ObjectiveConfig
        Weights and temperature.
    class_weights : Tensor, optional
        Weight of each class in the loss on labels, ``[C]``, on the table's device.

    Returns
    -------
    dict of str to Tensor
        ``"hard_label"`` and, if there is a teacher, ``"distillation"``: scalars, summed over heads.
    """
    labels = table.labels[rows]
    labelled = table.is_train[rows]
    # Every batch estimates the mean over all labelled rows, also if it has few or none of them.
    label_scale = len(table.distilled_rows) / (len(rows) * max(1, len(table.train_idx)))
    hard_weight, soft_weight = objective.shares(table)
    parts: dict[str, Tensor] = {}

    def add(name: str, value: Tensor) -> None:
        parts[name] = parts[name] + value if name in parts else value

    for logits in heads:
        log_probs = torch.log_softmax(logits[labelled], dim=1)
        add("hard_label", hard_weight * label_scale * hard_label_loss(log_probs, labels[labelled], class_weights))
        if table.teacher_logits is not None:
            divergence = distillation_loss(logits, table.teacher_logits[rows], objective.temperature)
            add("distillation", soft_weight * divergence.mean())
    return parts
