"""What a student is asked to match: the options of its loss, and the loss of one batch."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor

from dgl_rbm.config import StrictConfig
from dgl_rbm.objectives import distillation_loss, hard_label_loss
from dgl_rbm.students.base import StudentOutput
from dgl_rbm.table import DistillationTable

__all__ = ["ObjectiveConfig", "distillation_objective"]


class ObjectiveConfig(StrictConfig):
    """What the student is asked to match (paper, equations 9 and 12)."""

    hard_label_weight: float = Field(
        default=0.3, ge=0, le=1, description="Share of the loss on training labels, ν; the rest is on teacher targets."
    )
    temperature: float = Field(default=1.0, gt=0, description="Divides the logits of teacher and student, τ.")


def distillation_objective(
    output: StudentOutput, table: DistillationTable, rows: Tensor, objective: ObjectiveConfig
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the loss of one batch and its parts.

    The parts are the means of equations 9 and 12 of the paper over all rows and over the labelled rows,
    estimated from the batch; with several heads each learns as if it were alone.

    Parameters
    ----------
    output : StudentOutput
        The student's forward pass on ``table.inputs[rows]``.
    table : DistillationTable
        The targets.
    rows : Tensor
        int64 ``[B]``.
    objective : ObjectiveConfig
        Weights.

    Returns
    -------
    loss : Tensor
        Scalar.
    parts : dict of str to Tensor
        Detached values, averaged over heads.
    """
    labels = table.labels[rows]
    labelled = table.is_train[rows]
    # Every batch estimates the mean over all labelled rows, also where it holds few or none of them.
    label_scale = len(table) / (len(rows) * max(1, len(table.train_idx)))
    hard_weight = objective.hard_label_weight if table.teacher_logits is not None else 1.0
    parts: dict[str, Tensor] = {}

    def add(name: str, value: Tensor) -> None:
        parts[name] = parts[name] + value if name in parts else value

    for logits in output.heads:
        log_probs = torch.log_softmax(logits[labelled], dim=1)
        add("hard_label", hard_weight * label_scale * hard_label_loss(log_probs, labels[labelled]))
        if table.teacher_logits is not None:
            divergence = distillation_loss(logits, table.teacher_logits[rows], objective.temperature)
            add("distillation", (1 - hard_weight) * divergence.mean())
        if table.neighbor_targets is not None:
            tempered = torch.log_softmax(logits / objective.temperature, dim=1)
            add("neighbor", (1 - hard_weight) * table.neighbor_targets.loss(tempered, rows) / len(rows))
    loss = torch.stack([*parts.values(), *output.penalties.values()]).sum()
    shown = {name: value.detach() / len(output.heads) for name, value in parts.items()}
    return loss, shown | {name: value.detach() for name, value in output.penalties.items()}
