"""What a student is asked to match: the options of its loss, and the loss of one batch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from pydantic import Field
from torch import Tensor, nn

from dgl_rbm.config import StrictConfig
from dgl_rbm.objectives import distillation_loss, hard_label_loss
from dgl_rbm.rows.sparse import Rows
from dgl_rbm.students.base import Student, StudentOutput
from dgl_rbm.training.pseudo_labels import PseudoLabelConfig, PseudoLabels
from dgl_rbm.training.table import DistillationTable
from dgl_rbm.training.terms import AdversarialConfig, AdversarialTerm, SimilarityConfig, SimilarityTerm

__all__ = ["ObjectiveConfig", "StudentObjective", "distillation_objective"]


class ObjectiveConfig(StrictConfig):
    """What the student is asked to match (paper, equations 9 and 12)."""

    hard_label_weight: float = Field(
        default=0.3, ge=0, le=1, description="Share of the loss on training labels, ν; the rest is on teacher targets."
    )
    temperature: float = Field(default=1.0, gt=0, description="Divides the logits of teacher and student, τ.")
    similarity: SimilarityConfig = Field(
        default=SimilarityConfig(), description="Match of the hidden states' similarities with the teacher's."
    )
    adversarial: AdversarialConfig = Field(
        default=AdversarialConfig(), description="Loss on rows that are moved to mislead the student."
    )
    pseudo_labels: PseudoLabelConfig = Field(
        default=PseudoLabelConfig(), description="Labels that the student gives itself where it is sure."
    )

    @property
    def reads_neighbors(self) -> bool:
        """Whether the table must say who the neighbours are."""
        return self.pseudo_labels.rounds > 0 and self.pseudo_labels.smooth


def distillation_objective(
    output: StudentOutput, table: DistillationTable, rows: Tensor, objective: ObjectiveConfig
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the loss of one batch and its parts.

    The parts are the means of equations 9 and 12 of the paper over all rows and over the labelled rows,
    estimated from the batch; with several heads each learns as if it were alone. Without a teacher the labels and the
    neighbour targets both count fully.

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
    label_scale = len(table.taught_idx) / (len(rows) * max(1, len(table.train_idx)))
    hard_weight, soft_weight = objective.hard_label_weight, 1 - objective.hard_label_weight
    if table.teacher_logits is None:
        hard_weight = soft_weight = 1.0
    parts: dict[str, Tensor] = {}

    def add(name: str, value: Tensor) -> None:
        parts[name] = parts[name] + value if name in parts else value

    for logits in output.heads:
        log_probs = torch.log_softmax(logits[labelled], dim=1)
        add("hard_label", hard_weight * label_scale * hard_label_loss(log_probs, labels[labelled]))
        if table.teacher_logits is not None:
            divergence = distillation_loss(logits, table.teacher_logits[rows], objective.temperature)
            add("distillation", soft_weight * divergence.mean())
        if table.neighbor_targets is not None:
            tempered = torch.log_softmax(logits / objective.temperature, dim=1)
            add("neighbor", soft_weight * table.neighbor_targets.loss(tempered, rows) / len(rows))
    loss = torch.stack([*parts.values(), *output.penalties.values()]).sum()
    shown = {name: value.detach() / len(output.heads) for name, value in parts.items()}
    return loss, shown | {name: value.detach() for name, value in output.penalties.items()}


class StudentObjective(nn.Module):
    """The whole loss of a student: `distillation_objective`, and the parts that the configuration switches on.

    Its parameters are trained beside the student's, and its state is part of a run's checkpoints.

    Parameters
    ----------
    config : ObjectiveConfig
    student : Student
        The student that is trained.
    table : DistillationTable
        What it is trained on.

    Raises
    ------
    ConfigError
        Where a part cannot be computed for this student and table.
    """

    def __init__(self, config: ObjectiveConfig, student: Student, table: DistillationTable) -> None:
        super().__init__()
        self.config, self.table = config, table
        self._plain_table = replace(table, neighbor_targets=None)
        self.similarity = SimilarityTerm(config.similarity, student, table) if config.similarity.weight else None
        self.adversarial = AdversarialTerm(config.adversarial, student) if config.adversarial.weight else None
        self.pseudo_labels = PseudoLabels(config.pseudo_labels, table) if config.pseudo_labels.rounds else None

    def forward(
        self, run: Callable[[Rows], StudentOutput], inputs: Rows, rows: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss of one batch and its parts, as `distillation_objective` does.

        Parameters
        ----------
        run : callable
            The student's training pass over rows.
        inputs : Tensor or StructuredRows
            ``table.inputs[rows]``, ``[B, F + P]``.
        rows : Tensor
            int64 ``[B]``.
        """
        extra: dict[str, Tensor] = {}
        # Before the pass over the true rows, the one that a student takes note of.
        if self.adversarial is not None:
            extra["adversarial"] = self.adversarial(run, inputs, lambda output, some: self._targets(output, rows, some))
        output = run(inputs)
        loss, parts = distillation_objective(output, self.table, rows, self.config)
        if self.similarity is not None and self.table.teacher_hidden is not None:
            extra["similarity"] = self.similarity(output.hidden, self.table.teacher_hidden[rows])
        if self.pseudo_labels is not None:
            extra["pseudo_label"] = self.pseudo_labels(output.heads, rows)
        for value in extra.values():
            loss = loss + value
        shown = {name: value.detach() / len(output.heads) for name, value in extra.items()}
        return loss, parts | shown

    def settled_after(self, epochs: int) -> int:
        """Return the epoch of `epochs`, counted from 1 after any pre-training, after which no more labels are given."""
        return 0 if self.pseudo_labels is None else self.pseudo_labels.last_epoch(epochs)

    def end_epoch(self, epoch: int, student: Student) -> dict[str, float]:
        """Do what comes after `epoch`, counted from 1 after any pre-training; return values worth recording."""
        if self.pseudo_labels is None or not self.pseudo_labels.due(epoch):
            return {}
        return {"pseudo_labels": float(self.pseudo_labels.assign(student._logits(self.table.inputs)))}

    def _targets(self, output: StudentOutput, rows: Tensor, some: Tensor | None) -> Tensor:
        """Return the loss on labels and the teacher's targets alone."""
        picked = rows if some is None else rows[some]
        return distillation_objective(StudentOutput(output.heads), self._plain_table, picked, self.config)[0]
