"""Multi-layer perceptron, the student of GLNN, KRD and NOSMOG."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, ClassVar, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import dropout, relu

from dgl_rbm.norms import NormName, make_norm
from dgl_rbm.registry import DEFAULT_DEPTH, DEFAULT_WIDTH, students
from dgl_rbm.rows.sparse import Rows, linear
from dgl_rbm.students.base import Student, StudentConfig, StudentOutput

__all__ = ["MLP", "MlpConfig"]


class MLP(Student):
    """Linear layers with ReLU; hidden layers with normalisation and dropout.

    Parameters
    ----------
    in_dim, num_classes : int
        F + P, and C.
    hidden_dim, num_layers : int
        Width of the hidden layers; number of layers, the output layer included.
    norm : {"none", "batch", "layer"}
        Normalisation before each ReLU.
    dropout : float
        Share of hidden values dropped in training; inputs are not dropped.
    """

    kind = "mlp"

    def __init__(
        self,
        in_dim: int,
        num_classes: int,
        *,
        hidden_dim: int = DEFAULT_WIDTH,
        num_layers: int = DEFAULT_DEPTH,
        norm: NormName = "none",
        dropout: float = 0.3,
    ) -> None:
        super().__init__(in_dim, num_classes)
        widths = [in_dim, *[hidden_dim] * (num_layers - 1), num_classes]
        self.layers = nn.ModuleList(nn.Linear(before, after) for before, after in pairwise(widths))
        self.norms = nn.ModuleList(make_norm(norm, hidden_dim) for _ in range(num_layers - 1))
        self.dropout = dropout

    def forward(self, x: Rows) -> Tensor:
        return self._run(x)[0]

    def training_forward(self, x: Rows) -> StudentOutput:
        logits, hidden = self._run(x)
        return StudentOutput([logits], hidden=[] if hidden is None else [hidden])

    def multiply_adds(self, column_shares: Tensor) -> float:
        total = 0.0
        for layer in cast("list[nn.Linear]", list(self.layers)):
            total += float(column_shares.sum()) * layer.out_features
            column_shares = torch.ones(layer.out_features, dtype=torch.float64)
        return total

    def _run(self, x: Rows) -> tuple[Tensor, Tensor | None]:
        """Return the logits, and the last layer's inputs before dropout."""
        output, hidden = linear(x, *self.layers[0].parameters()), None
        for norm, layer in zip(self.norms, self.layers[1:], strict=True):
            hidden = relu(norm(output))
            output = layer(dropout(hidden, self.dropout, self.training))
        return output, hidden


@students.register
class MlpConfig(StudentConfig):
    """Options of the multi-layer perceptron."""

    module: ClassVar[Any] = MLP

    kind: Literal["mlp"] = Field(default="mlp", description="Multi-layer perceptron.")
