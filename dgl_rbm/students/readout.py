"""Readout of class scores: a student without parameters, for encodings that already are predictions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from dgl_rbm.config import ComponentConfig
from dgl_rbm.errors import ConfigError
from dgl_rbm.registry import students
from dgl_rbm.rows.sparse import Rows
from dgl_rbm.rows.stacked import StackedRows
from dgl_rbm.students.base import Student, StudentConfig

__all__ = ["Readout", "ReadoutConfig"]

_SMALLEST = 1e-9


class Readout(Student):
    """Logarithm of a row's last C columns, scaled to sum to one.

    Negative scores count as zero, and a row without a score above zero has equal probabilities.

    Parameters
    ----------
    in_dim, num_classes : int
        F + P, and C.
    encoding_dim : int
        P; must be C.

    Raises
    ------
    ConfigError
        If P is not C.
    """

    kind = "readout"

    def __init__(self, in_dim: int, num_classes: int, *, encoding_dim: int | None = None) -> None:
        super().__init__(in_dim, num_classes)
        if encoding_dim != num_classes:
            raise ConfigError(
                f"The student 'readout' reads one score per class from the encodings; these have {encoding_dim or 0} "
                f"columns for {num_classes} classes.",
                hint="Use one encoder of class scores: label_propagation, correct_and_smooth or soft_labels.",
            )
        # Marks the device, as the parameters of other students do.
        self.register_buffer("smallest", torch.tensor(_SMALLEST))
        self.smallest: Tensor

    def forward(self, x: Rows) -> Tensor:
        scores = _last_columns(x, self.num_classes).clamp_min(0) + self.smallest
        return (scores / scores.sum(dim=1, keepdim=True)).log()

    def multiply_adds(self, column_shares: Tensor) -> float:
        return 0.0


def _last_columns(x: Rows, count: int) -> Tensor:
    if isinstance(x, StackedRows) and x.widths[-1] == count:
        x = x.parts[-1]
    dense = x if isinstance(x, Tensor) else x.to_dense()
    return dense[:, -count:]


@students.register
class ReadoutConfig(StudentConfig):
    """Options of the readout."""

    module: ClassVar[Any] = Readout
    trains: ClassVar[bool] = False

    kind: Literal["readout"] = Field(
        default="readout", description="The class scores of an encoding as they are; nothing is trained."
    )
    encoding_dim: int | None = Field(
        default=None, ge=0, description="Number of encoding columns, the last ones; set by the run."
    )

    def with_encoding_dim(self, encoding_dim: int) -> ReadoutConfig:
        return self.model_copy(update={"encoding_dim": encoding_dim})

    def build(
        self, in_dim: int, num_classes: int, *, hidden_dim: int | None = None, num_layers: int | None = None
    ) -> Readout:
        """Return a new readout; sizes have no effect."""
        return Readout(in_dim, num_classes, encoding_dim=self.encoding_dim)

    def conflicts_with_encoders(self, encoders: Sequence[ComponentConfig]) -> list[tuple[str, str]]:
        if len(encoders) != 1 or not getattr(encoders[0], "class_scores", False):
            names = ", ".join(f"'{encoder.kind}'" for encoder in encoders) or "none"
            return [
                (
                    f"encoder: the student 'readout' reads the class scores of one encoder, not those of {names}.",
                    "Use label_propagation, correct_and_smooth or soft_labels, with standardize: false.",
                )
            ]
        if getattr(encoders[0], "standardize", False):
            return [
                (
                    "encoder: the student 'readout' reads class scores, and standardised columns are none.",
                    "Set encoder.0.standardize to false.",
                )
            ]
        return []
