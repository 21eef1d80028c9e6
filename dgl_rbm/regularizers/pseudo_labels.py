"""Pseudo-labels: rows that the student predicts with high confidence get its own labels, as in CoHOp."""

from __future__ import annotations

import copy
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor, nn
from typing_extensions import Self

from dgl_rbm.data.neighbors import in_neighbors
from dgl_rbm.data.task import ObservedGraph
from dgl_rbm.registry import regularizers
from dgl_rbm.regularizers.base import Regularizer, RegularizerConfig
from dgl_rbm.rows.sparse import SparseRows, as_divisor, matmul
from dgl_rbm.runtime.context import RunContext
from dgl_rbm.students.base import Student, StudentOutput
from dgl_rbm.tasks.multiclass import hard_label_loss, probabilities
from dgl_rbm.teachers.base import Teacher, TeacherOutput
from dgl_rbm.training.objective import ObjectiveConfig
from dgl_rbm.training.table import DistillationTable
from dgl_rbm.training.terms import Batch, LossTerm

__all__ = ["PseudoLabelConfig", "PseudoLabelRegularizer", "PseudoLabelTerm", "smooth_over_neighbors"]

_SHARES = 100


class PseudoLabelTerm(LossTerm):
    """The loss on pseudo-labels, which the student assigns to unlabelled rows in rounds.

    Validation rows get none, so that no epoch is judged by rows that it was trained on. With smoothing, their labels
    choose one number in each round, the share of the neighbours' means.

    Parameters
    ----------
    options : PseudoLabelRegularizer
    neighbors : SparseRows, optional
        ``[N, N]``; entry ``[v, u]`` counts the edges u → v, u ≠ v. If given, predictions are smoothed over them.
    """

    name = "pseudo_labels"

    def __init__(self, options: PseudoLabelRegularizer, neighbors: SparseRows | None = None) -> None:
        self.options, self._neighbors = options, neighbors

    def to(self, device: torch.device) -> Self:
        """Return the term on `device`."""
        moved = copy.copy(self)
        moved._neighbors = None if self._neighbors is None else self._neighbors.to(device)
        return moved

    def bind(self, student: Student, table: DistillationTable, objective: ObjectiveConfig) -> None:
        """Begin a training without pseudo-labels."""
        self._table, self._pretrain_epochs = table, student.pretrain_epochs
        self._unlabelled = ~table.is_train
        self._unlabelled[table.val_idx] = False
        self.labels = torch.full((len(table),), -1, dtype=torch.int64, device=table.device)
        self._rounds_done = self._count = 0

    def needs_predictions(self, epoch: int) -> bool:
        """Whether a round comes after `epoch`."""
        routed = epoch - self._pretrain_epochs
        return routed > 0 and routed % self.options.every == 0 and self._rounds_done < self.options.rounds

    def patience_starts_at(self, epochs: int) -> int:
        """Return the epoch of the last round for which `epochs` have room."""
        every = self.options.every
        return self._pretrain_epochs + min(self.options.rounds, (epochs - self._pretrain_epochs) // every) * every

    @torch.no_grad()
    def end_epoch(self, epoch: int, logits: Tensor) -> dict[str, float]:
        """Replace the labels of the previous round; return their number as ``pseudo_label_count``."""
        probs = probabilities(logits).to(self.labels.device)
        if self._neighbors is not None:
            smooth_over_neighbors(probs, self._table, self._neighbors)
        best = probs.max(dim=1)
        confident = (best.values >= self.options.confidence) & self._unlabelled
        self.labels = torch.where(confident, best.indices, -1)
        self._rounds_done += 1
        self._count = int(confident.sum())
        return {"pseudo_label_count": float(self._count)}

    def loss(self, batch: Batch, output: StudentOutput) -> Tensor:
        """Return the weighted cross-entropy with pseudo-labels, the mean over all rows that have one."""
        labels = self.labels[batch.rows]
        labelled = labels >= 0
        scale = len(self._table.distilled_rows) / (len(batch.rows) * max(1, self._count))
        losses = [
            hard_label_loss(torch.log_softmax(logits[labelled], dim=1), labels[labelled]) for logits in output.heads
        ]
        return self.options.weight * scale * torch.stack(losses).sum()

    def state_dict(self) -> dict[str, Any]:
        """Return the labels and the number of rounds."""
        return {"labels": self.labels, "rounds_done": self._rounds_done, "count": self._count}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.labels = state["labels"].to(self.labels.device, copy=True)
        self._rounds_done, self._count = state["rounds_done"], state["count"]


def smooth_over_neighbors(probs: Tensor, table: DistillationTable, neighbors: SparseRows) -> None:
    """Mix predictions, in place, with their means over neighbours, by the share that is best on the validation rows.

    Before that, training rows are predicted by their labels. The mean of a row without neighbours is its own
    prediction. Of the means' shares 0, 0.01 and so on up to 1, the one with the highest validation accuracy is taken;
    ties go to the largest.

    Parameters
    ----------
    probs : Tensor
        Predictions, float32 ``[N, C]``, on the device of the table.
    table : DistillationTable
    neighbors : SparseRows
        ``[N, N]``; entry ``[v, u]`` counts the edges u → v, u ≠ v.
    """
    train, val = table.train_idx, table.val_idx
    probs[train] = nn.functional.one_hot(table.labels[train], table.num_classes).to(probs)
    counts = matmul(neighbors, probs.new_ones(len(table), 1))
    means = matmul(neighbors, probs).div_(as_divisor(counts))
    alone = (counts == 0).squeeze(1)
    means[alone] = probs[alone]
    truth, own, around = table.labels[val], probs[val], means[val]
    shares = [step / _SHARES for step in range(_SHARES, -1, -1)]
    right = torch.stack([(torch.lerp(own, around, share).argmax(dim=1) == truth).sum() for share in shares]).tolist()
    probs.lerp_(means, shares[right.index(max(right))])


class PseudoLabelRegularizer(Regularizer):
    """Regularizer that trains on the student's own confident predictions.

    Parameters
    ----------
    rounds, every : int
        How many rounds assign labels, and how many epochs apart.
    confidence : float
        Least probability of a label that is assigned.
    weight : float
        Scale of the loss.
    smooth : bool
        Whether predictions are smoothed over neighbours first; see `smooth_over_neighbors`.
    """

    kind = "pseudo_labels"

    def __init__(
        self,
        *,
        rounds: int = 4,
        every: int = 50,
        confidence: float = 0.9,
        weight: float = 1.0,
        smooth: bool = False,
    ) -> None:
        self.rounds, self.every, self.confidence = rounds, every, confidence
        self.weight, self.smooth = weight, smooth

    def prepare(
        self,
        observed: ObservedGraph,
        teacher: Teacher,
        output: TeacherOutput,
        temperature: float,
        context: RunContext,
    ) -> PseudoLabelTerm:
        """Return the loss term; the teacher is not read."""
        return PseudoLabelTerm(self, in_neighbors(observed.graph) if self.smooth else None)


@regularizers.register
class PseudoLabelConfig(RegularizerConfig):
    """The student's own labels for rows that it predicts with high confidence (CoHOp)."""

    module: ClassVar[Any] = PseudoLabelRegularizer

    kind: Literal["pseudo_labels"] = "pseudo_labels"
    rounds: int = Field(
        default=4, ge=1, description="How often labels are assigned, epochs permitting. Patience counts from the last."
    )
    every: int = Field(default=50, ge=1, description="Epochs between two rounds, after any pre-training.")
    confidence: float = Field(default=0.9, ge=0, le=1, description="Least probability of a label that is assigned.")
    weight: float = Field(default=1.0, ge=0, description="Scale of the loss on assigned labels.")
    smooth: bool = Field(
        default=False,
        description="Mix predictions with their means over the neighbours before labels are assigned, by the share "
        "with the highest validation accuracy; training nodes are predicted by their labels.",
    )
