"""The multi-layer perceptron, student of GLNN, KRD and NOSMOG."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import dropout, relu

from dgl_rbm.norms import NormName, make_norm
from dgl_rbm.registry import DEFAULT_DEPTH, DEFAULT_WIDTH, students
from dgl_rbm.rows.sparse import Rows, linear
from dgl_rbm.students.base import Student, StudentConfig, StudentOutput

__all__ = ["MLP", "MlpConfig"]


class MLP(Student):
    """Linear layers with ReLU, and normalisation and dropout on the hidden ones.

    Parameters
    ----------
    in_dim, num_classes : int
        F + P, and C.
    hidden_dim, num_layers : int
        Width of the hidden layers; number of layers, the output layer included.
    norm : {"none", "batch", "layer"}
        Normalisation before each ReLU.
    dropout : float
        Share of hidden values dropped in training; the input is left whole.
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

    def _run(self, x: Rows) -> tuple[Tensor, Tensor | None]:
        """Return the logits, and what the last layer reads, before dropout."""
        output, hidden = linear(x, *self.layers[0].parameters()), None
        for norm, layer in zip(self.norms, self.layers[1:], strict=True):
            hidden = relu(norm(output))
            output = layer(dropout(hidden, self.dropout, self.training))
        return output, hidden


@students.register
class MlpConfig(StudentConfig):
    """Options of the multi-layer perceptron."""

    kind: Literal["mlp"] = Field(default="mlp", description="Multi-layer perceptron.")
    norm: NormName = Field(default="none", description="Normalisation of the hidden layers.")

    def build(
        self, in_dim: int, num_classes: int, *, hidden_dim: int = DEFAULT_WIDTH, num_layers: int = DEFAULT_DEPTH
    ) -> MLP:
        return MLP(
            in_dim,
            num_classes,
            hidden_dim=self.width(hidden_dim),
            num_layers=self.num_layers or num_layers,
            norm=self.norm,
            dropout=self.dropout,
        )
