"""Labels that the student gives itself, as in CoHOp: a part of the objective that any student can have."""

from __future__ import annotations

import torch
from pydantic import Field
from torch import Tensor, nn

from dgl_rbm.config import StrictConfig
from dgl_rbm.errors import ConfigError
from dgl_rbm.objectives import hard_label_loss
from dgl_rbm.rows.sparse import matmul
from dgl_rbm.training.table import DistillationTable

__all__ = ["PseudoLabelConfig", "PseudoLabels", "smooth_over_neighbors"]

_SHARES = 100


class PseudoLabelConfig(StrictConfig):
    """Rows that the student is sure of become training rows with its own labels (CoHOp)."""

    rounds: int = Field(
        default=0,
        ge=0,
        description="How often labels are given, epochs permitting; 0 gives none. Patience counts from the last round.",
    )
    every: int = Field(default=50, ge=1, description="Epochs between two rounds, after any pre-training.")
    confidence: float = Field(default=0.9, ge=0, le=1, description="Least probability of a label that is given.")
    weight: float = Field(default=1.0, ge=0, description="Weight of the loss on given labels.")
    smooth: bool = Field(
        default=False,
        description="Whether labels are those of predictions mixed with their means over the neighbours, by the share "
        "that gets most validation nodes right, training nodes being predicted by their labels.",
    )


class PseudoLabels(nn.Module):
    """Labels that the student gives to rows without one, in rounds.

    Validation rows get none, so that no epoch is judged by what it was trained on. With `smooth` their labels choose
    one number in each round, the share of the means.

    Parameters
    ----------
    config : PseudoLabelConfig
    table : DistillationTable

    Raises
    ------
    ConfigError
        Where predictions are to be smoothed and the table has no neighbours.
    """

    labels: Tensor
    rounds_done: Tensor
    given: Tensor

    def __init__(self, config: PseudoLabelConfig, table: DistillationTable) -> None:
        super().__init__()
        if config.smooth and table.neighbors is None:
            raise ConfigError(
                "objective.pseudo_labels.smooth: the table does not say who the neighbours are.",
                hint="Give DistillationTable `neighbors`, or set objective.pseudo_labels.smooth to false.",
            )
        self.config, self._table = config, table
        free = ~table.is_train
        free[table.val_idx] = False
        self.register_buffer("free", free, persistent=False)
        self.register_buffer("labels", torch.full((len(table),), -1, dtype=torch.int64, device=table.device))
        # On the CPU, where reading them waits for nothing.
        self.register_buffer("rounds_done", torch.zeros((), dtype=torch.int64, device="cpu"))
        self.register_buffer("given", torch.zeros((), dtype=torch.int64, device="cpu"))

    def due(self, epoch: int) -> bool:
        """Whether a round comes after `epoch`, counted from 1 after any pre-training."""
        return epoch > 0 and epoch % self.config.every == 0 and int(self.rounds_done) < self.config.rounds

    def last_epoch(self, epochs: int) -> int:
        """Return the epoch after which the last round comes that `epochs` have room for, counted as in `due`."""
        return min(self.config.rounds, epochs // self.config.every) * self.config.every

    @torch.no_grad()
    def assign(self, logits: Tensor) -> int:
        """Give labels by the student's logits ``[N, C]`` in place of those of the round before; return how many."""
        probs = torch.softmax(logits, dim=1).to(self.labels.device)
        if self.config.smooth:
            smooth_over_neighbors(probs, self._table)
        best = probs.max(dim=1)
        sure = (best.values >= self.config.confidence) & self.get_buffer("free")
        self.labels.copy_(torch.where(sure, best.indices, -1))
        self.rounds_done += 1
        self.given.fill_(int(sure.sum()))
        return int(self.given)

    def forward(self, heads: list[Tensor], rows: Tensor) -> Tensor:
        """Return the weighted cross-entropy with given labels, the mean over all rows that have one, summed over heads.

        Parameters
        ----------
        heads : list of Tensor
            Logits ``[B, C]``.
        rows : Tensor
            Table rows that they belong to, int64 ``[B]``.
        """
        labels = self.labels[rows]
        labelled = labels >= 0
        scale = len(self._table.taught_idx) / (len(rows) * max(1, int(self.given)))
        losses = [hard_label_loss(torch.log_softmax(logits[labelled], dim=1), labels[labelled]) for logits in heads]
        return self.config.weight * scale * torch.stack(losses).sum()


def smooth_over_neighbors(probs: Tensor, table: DistillationTable) -> None:
    """Mix predictions, in place, with their means over neighbours, by the share that suits the validation rows best.

    Before that, training rows are predicted by their labels. A row without neighbours is its own mean. Of the means'
    shares 0, 0.01 and so on up to 1, it is the largest of those with which most validation rows are right.

    Parameters
    ----------
    probs : Tensor
        Predictions, float32 ``[N, C]``, on the device of the table.
    table : DistillationTable
        With `neighbors`.
    """
    assert table.neighbors is not None
    train, val = table.train_idx, table.val_idx
    probs[train] = nn.functional.one_hot(table.labels[train], table.num_classes).to(probs)
    counts = matmul(table.neighbors, probs.new_ones(len(table), 1))
    means = matmul(table.neighbors, probs).div_(counts.clamp(min=1))
    alone = (counts == 0).squeeze(1)
    means[alone] = probs[alone]
    truth, own, around = table.labels[val], probs[val], means[val]
    shares = [step / _SHARES for step in range(_SHARES, -1, -1)]
    right = torch.stack([(torch.lerp(own, around, share).argmax(dim=1) == truth).sum() for share in shares]).tolist()
    probs.lerp_(means, shares[right.index(max(right))])
