"""Base of the students: torch modules from rows to class logits, usable without DGL."""

from __future__ import annotations

import itertools
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from typing_extensions import Self

from dgl_rbm.config import ComponentConfig
from dgl_rbm.errors import ConfigError, DataError
from dgl_rbm.norms import NormName
from dgl_rbm.registry import DEFAULT_DEPTH, DEFAULT_WIDTH
from dgl_rbm.rows.convert import as_rows
from dgl_rbm.rows.sparse import Rows, rows_not_finite, take
from dgl_rbm.runtime.process_state import inference
from dgl_rbm.students.layers.cache import CachingModule
from dgl_rbm.students.layers.routing import Routing, TopKRouter
from dgl_rbm.tasks.multiclass import predictions, probabilities

__all__ = ["Student", "StudentConfig", "StudentOutput"]

_CHUNK_ROWS = 65_536


@dataclass
class StudentOutput:
    """Output of a student's forward pass in training.

    Attributes
    ----------
    heads : list of Tensor
        Logits ``[B, C]``, each trained on the targets: one for most students, one per member of an ensemble.
    penalties : dict of str to Tensor
        Weighted scalars to add to the loss, by name.
    hidden : list of Tensor
        Inputs ``[B, H]`` of each head's last layer, before dropout; empty if the student has a single layer or exposes
        no hidden states.
    """

    heads: list[Tensor]
    penalties: dict[str, Tensor] = field(default_factory=dict)
    hidden: list[Tensor] = field(default_factory=list)


class Student(nn.Module):
    """Base of the students.

    The training loop calls `training_forward`, and `after_step` after each step of the optimiser. After
    `pretrain_epochs` epochs it calls `finish_pretraining` and starts a new optimiser.

    Everything but `forward` has a default here. Training, evaluation and studies use these methods alone and never
    test the class of a student.

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
        """Return logits ``[B, C]`` of rows ``[B, F + P]``; their ``softmax`` is the predicted probabilities."""

    def training_forward(self, x: Rows) -> StudentOutput:
        """Return the inputs of the loss; students with penalties or several heads override this."""
        return StudentOutput([self(x)])

    def after_step(self) -> None:
        """Update state that no gradient trains, such as memories; called after the optimiser's step."""

    def start_epoch(self, epoch: int) -> None:
        """Start `epoch`, counted from 0 after any pre-training."""

    @property
    def patience_starts_at(self) -> int:
        """The epoch, pre-training included, from which patience counts at the earliest."""
        return self.pretrain_epochs

    @property
    def pretraining(self) -> bool:
        """Whether the student is in its pre-training phase."""
        return False

    def finish_pretraining(self, x: Rows) -> None:
        """Leave the pre-training phase; `x` are the table's inputs ``[N, F + P]``."""

    def skip_pretraining(self) -> None:
        """Leave the pre-training phase without data, with random weights: for sizes and latencies alone."""

    def routers(self) -> list[TopKRouter]:
        """Return the router of each layer; empty for students that do not route."""
        return []

    def routings(self, x: Rows) -> list[tuple[Rows, Routing]]:
        """Return the inputs and the routing of each layer's router in evaluation mode.

        Parameters
        ----------
        x : Tensor or StructuredRows
            float32 ``[B, F + P]``, on the student's device.

        Returns
        -------
        list of (rows, Routing)
            Per layer the columns that its router reads, ``[B, D]``, with scores and gates ``[B, E]``. Empty for
            students that do not route, and in the pre-training phase.
        """
        return []

    def serve(self) -> Self:
        """Switch to evaluation mode, cache values derived from the parameters, and return the student.

        Students of loaded runs are in this mode; training mode ends it. Call it again after a write that torch does
        not count, such as one through ``parameter.data``.
        """
        self.eval()
        for module in self.modules():
            if isinstance(module, CachingModule):
                module.serve()
        return self

    @property
    def device(self) -> torch.device:
        """Device of the parameters, or of the buffers of a student without any."""
        return next(itertools.chain(self.parameters(), self.buffers())).device

    def trained_parameters(self) -> list[nn.Parameter]:
        """Return the parameters of the optimiser; `after_step` may update others."""
        return list(self.parameters())

    def num_parameters(self) -> int:
        """Return the number of parameters, memories included."""
        return sum(parameter.numel() for parameter in self.parameters())

    def num_active_parameters(self) -> int:
        """Return the number of parameters that the prediction of one row uses."""
        return self.num_parameters()

    def multiply_adds(self, column_shares: Tensor) -> float:
        """Return the multiply-adds of the matrix products of one row's prediction.

        Parameters
        ----------
        column_shares : Tensor
            Share of the rows in which each column is multiplied, float64 ``[F + P]``: 1 for dense columns, the share
            of stored entries for sparse ones.

        Raises
        ------
        ConfigError
            If the class does not count them.
        """
        raise ConfigError(
            f"'{type(self).__qualname__}' does not count its multiply-adds.",
            hint="Override `dgl_rbm.students.base.Student.multiply_adds`.",
        )

    @inference
    def logits(self, x: Any) -> Tensor:
        """Return the logits of any number of rows in evaluation mode, in bounded memory.

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
            If `x` has another number of columns, or contains NaN or infinity; names the rows.
        """
        rows = as_rows(x, what="rows to predict")
        if rows.shape[1] != self.in_dim:
            raise DataError(
                f"The rows to predict have {rows.shape[1]} columns; this student reads {self.in_dim} "
                "(features, then encodings)."
            )
        _check_finite(rows)
        return self._logits(rows).cpu()

    @torch.no_grad()
    def _logits(self, rows: Rows) -> Tensor:
        """Return the logits of validated rows, on the student's device, as training needs them in each epoch."""
        device = self.device
        was_training = self.training
        self.eval()
        try:
            parts = [self(part.to(device)) for part in _chunks(rows)]
        finally:
            self.train(was_training)
        return torch.cat(parts) if parts else torch.empty(0, self.num_classes, dtype=torch.float32, device=device)

    @inference
    def predict_proba(self, x: Any) -> Tensor:
        """Return class probabilities, float32 ``[B, C]``; `x` as for `logits`."""
        return probabilities(self.logits(x))

    @inference
    def predict(self, x: Any) -> Tensor:
        """Return the most probable class of each row, int64 ``[B]``; `x` as for `logits`."""
        return predictions(self.logits(x))


def _chunks(rows: Rows) -> Iterator[Rows]:
    count = rows.shape[0]
    if count <= _CHUNK_ROWS:
        if count:
            yield rows
        return
    for start in range(0, count, _CHUNK_ROWS):
        yield take(rows, torch.arange(start, min(start + _CHUNK_ROWS, count), device=rows.device))


def _check_finite(rows: Rows) -> None:
    bad = rows_not_finite(rows)
    if len(bad):
        shown = ", ".join(str(i) for i in bad[:5].tolist()) + (", …" if len(bad) > 5 else "")
        raise DataError(f"{len(bad)} of the rows to predict contain NaN or infinity: rows {shown}.")


class StudentConfig(ComponentConfig):
    """Options that all students share.

    A student's config class sets `module`; the options of both have the same names.
    """

    module: ClassVar[type[Student]]
    # Whether the student has anything to train.
    trains: ClassVar[bool] = True

    hidden_dim: int | None = Field(
        default=None,
        ge=1,
        description=f"Width of the hidden layers; null takes the teacher's, or {DEFAULT_WIDTH} if it has none.",
    )
    width_factor: int = Field(
        default=1, ge=1, description="Multiplies the width of the hidden layers, also one taken from the teacher."
    )
    num_layers: int | None = Field(
        default=None,
        ge=1,
        le=200,
        description="Number of layers, the output layer included; null takes the teacher's, or "
        f"{DEFAULT_DEPTH} if it has none.",
    )
    dropout: float = Field(default=0.3, ge=0, lt=1, description="Share of hidden values dropped in training.")
    norm: NormName = Field(default="none", description="Normalisation of the hidden layers.")

    def sized(self, hidden_dim: int | None, num_layers: int | None) -> StudentConfig:
        """Return a copy with all sizes set: the config's own, else those given, else the defaults.

        Its ``hidden_dim`` is the width of the student's hidden layers, with `width_factor` multiplied in.
        """
        sizes = {
            "hidden_dim": self.width_factor * (self.hidden_dim or hidden_dim or DEFAULT_WIDTH),
            "width_factor": 1,
            "num_layers": self.num_layers or num_layers or DEFAULT_DEPTH,
        }
        return self.model_copy(update=sizes)

    def with_encoding_dim(self, encoding_dim: int) -> StudentConfig:
        """Return a copy with the number of encoding columns, if the student depends on it; they come last."""
        return self

    def conflicts_with_encoders(self, encoders: Sequence[ComponentConfig]) -> list[tuple[str, str]]:
        """Return what stands against these encoders: messages, each with what to do about it."""
        return []

    def build(
        self, in_dim: int, num_classes: int, *, hidden_dim: int | None = None, num_layers: int | None = None
    ) -> Student:
        """Return a new student: `module` with the options as keyword arguments.

        Parameters
        ----------
        in_dim, num_classes : int
            F + P, and C.
        hidden_dim, num_layers : int, optional
            As for `sized`.
        """
        options = self.sized(hidden_dim, num_layers).options(without={"width_factor"})
        return self.module(in_dim, num_classes, **options)
