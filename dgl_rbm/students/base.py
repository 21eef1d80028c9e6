"""What every student is: a torch module from rows to class scores, usable without DGL."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from pydantic import Field
from torch import Tensor, nn
from typing_extensions import Self

from dgl_rbm.config import ComponentConfig
from dgl_rbm.errors import DataError
from dgl_rbm.registry import DEFAULT_DEPTH, DEFAULT_WIDTH
from dgl_rbm.rows.convert import as_rows
from dgl_rbm.rows.sparse import Rows, rows_not_finite, take
from dgl_rbm.students.layers.derived import Serving

__all__ = ["Student", "StudentConfig", "StudentOutput"]

_ROWS_AT_ONCE = 65_536


@dataclass
class StudentOutput:
    """One forward pass of a student in training.

    Attributes
    ----------
    heads : list of Tensor
        Logits ``[B, C]`` that each learn from the targets: one for most students, one per member of an ensemble.
    penalties : dict of str to Tensor
        Weighted scalars to add to the loss, by name.
    hidden : list of Tensor
        What the last layer reads for each head, before any dropout, ``[B, H]``; empty where a student has a single
        layer or shows none.
    """

    heads: list[Tensor]
    penalties: dict[str, Tensor] = field(default_factory=dict)
    hidden: list[Tensor] = field(default_factory=list)


class Student(nn.Module):
    """Base of the students.

    The training loop calls `training_forward`, then after each optimiser step `after_step`; once
    `pretrain_epochs` epochs are over it calls `finish_pretraining` and starts a new optimiser.

    Parameters
    ----------
    in_dim : int
        F + P: columns of the features and of the encodings.
    num_classes : int
        C.
    """

    kind: str = "custom"
    pretrain_epochs: int = 0

    def __init__(self, in_dim: int, num_classes: int) -> None:
        super().__init__()
        self.in_dim = in_dim
        self.num_classes = num_classes

    @abstractmethod
    def forward(self, x: Rows) -> Tensor:
        """Return logits ``[B, C]`` of rows ``[B, F + P]``; ``softmax`` of them are the predicted probabilities."""

    def training_forward(self, x: Rows) -> StudentOutput:
        """Return what the loss is computed from; students with penalties or several heads override this."""
        return StudentOutput([self(x)])

    def after_step(self) -> None:
        """Update state that is not trained by gradient, such as memories; called after the optimiser's step."""

    def start_epoch(self, epoch: int) -> None:
        """Note that `epoch`, counted from 0 after any pre-training, begins."""

    @property
    def pretraining(self) -> bool:
        """Whether the student is still in its pre-training phase."""
        return False

    def finish_pretraining(self, x: Rows) -> None:
        """Leave the pre-training phase; `x` are the table's inputs ``[N, F + P]``."""

    def serve(self) -> Self:
        """Switch to evaluation mode and keep what predictions derive from the parameters; return the student.

        Saved runs come back so. Training mode ends it. After a write that torch does not count, such as one through
        ``parameter.data``, call it again.
        """
        self.eval()
        for module in self.modules():
            if isinstance(module, Serving):
                module.serve()
        return self

    def trained_parameters(self) -> list[nn.Parameter]:
        """Return the parameters that the optimiser steps; a student may keep some for its own `after_step`."""
        return list(self.parameters())

    def num_parameters(self) -> int:
        """Return the number of parameters that a prediction may use, memories included."""
        return sum(parameter.numel() for parameter in self.parameters())

    def num_active_parameters(self) -> int:
        """Return the number of parameters that the prediction of one row does use."""
        return self.num_parameters()

    def logits(self, x: Any) -> Tensor:
        """Predict any number of rows in evaluation mode, in bounded memory.

        Parameters
        ----------
        x : array_like
            NumPy array, SciPy sparse matrix, tensor or `SparseRows`, shape ``[B, F + P]``.

        Returns
        -------
        Tensor
            float32 ``[B, C]`` on the CPU.

        Raises
        ------
        DataError
            Where `x` has another number of columns, or holds NaN or infinity (the rows are named).
        """
        rows = as_rows(x, what="rows to predict")
        if rows.shape[1] != self.in_dim:
            raise DataError(
                f"The rows to predict have {rows.shape[1]} columns; this student reads {self.in_dim} "
                "(features, then encodings)."
            )
        _check_finite(rows)
        return self.scores(rows).cpu()

    @torch.no_grad()
    def scores(self, rows: Rows) -> Tensor:
        """Return what `logits` does, of rows that are known to be sound and on the student's device.

        Training asks so in every epoch.
        """
        device = next(self.parameters()).device
        was_training = self.training
        self.eval()
        try:
            parts = [self(part.to(device)) for part in _chunks(rows)]
        finally:
            self.train(was_training)
        return torch.cat(parts) if parts else torch.empty(0, self.num_classes, device=device)

    def predict_proba(self, x: Any) -> Tensor:
        """Return class probabilities, float32 ``[B, C]``; `x` as for `logits`."""
        return torch.softmax(self.logits(x), dim=1)

    def predict(self, x: Any) -> Tensor:
        """Return the most probable class of each row, int64 ``[B]``; `x` as for `logits`."""
        return self.logits(x).argmax(dim=1)


def _chunks(rows: Rows) -> Iterator[Rows]:
    count = rows.shape[0]
    if count <= _ROWS_AT_ONCE:
        if count:
            yield rows
        return
    for start in range(0, count, _ROWS_AT_ONCE):
        yield take(rows, torch.arange(start, min(start + _ROWS_AT_ONCE, count), device=rows.device))


def _check_finite(rows: Rows) -> None:
    bad = rows_not_finite(rows)
    if len(bad):
        shown = ", ".join(str(i) for i in bad[:5].tolist()) + (", …" if len(bad) > 5 else "")
        raise DataError(f"{len(bad)} of the rows to predict hold NaN or infinity: rows {shown}.")


class StudentConfig(ComponentConfig):
    """Options that all students share."""

    hidden_dim: int | None = Field(
        default=None,
        ge=1,
        description=f"Width of the hidden layers; null takes the teacher's, and {DEFAULT_WIDTH} where it shows none.",
    )
    width_factor: int = Field(
        default=1, ge=1, description="Multiplies the width of the hidden layers, the teacher's as well."
    )
    num_layers: int | None = Field(
        default=None,
        ge=1,
        description="Number of layers, the output layer included; null takes the teacher's, and "
        f"{DEFAULT_DEPTH} where it shows none.",
    )
    dropout: float = Field(default=0.3, ge=0, lt=1, description="Share of hidden values dropped in training.")

    def sized(self, hidden_dim: int | None, num_layers: int | None) -> StudentConfig:
        """Return a copy with these sizes, a teacher's, where this config leaves them null; defaults where both do.

        Its ``hidden_dim`` is the width that the student will have, `width_factor` counted in.
        """
        sizes = {
            "hidden_dim": self.width(hidden_dim or DEFAULT_WIDTH),
            "width_factor": 1,
            "num_layers": self.num_layers or num_layers or DEFAULT_DEPTH,
        }
        return self.model_copy(update=sizes)

    def width(self, hidden_dim: int) -> int:
        """Return the width of the hidden layers; `hidden_dim` is used where the config leaves it null."""
        return self.width_factor * (self.hidden_dim or hidden_dim)

    def for_columns(self, encoding_dim: int) -> StudentConfig:
        """Return a copy that knows how many columns, the last ones, are encodings, where the student needs to."""
        return self

    def build(
        self, in_dim: int, num_classes: int, *, hidden_dim: int = DEFAULT_WIDTH, num_layers: int = DEFAULT_DEPTH
    ) -> Student:
        """Make the student.

        Parameters
        ----------
        in_dim, num_classes : int
            Columns in, classes out.
        hidden_dim, num_layers : int
            Used where the config leaves them null.
        """
        raise NotImplementedError
