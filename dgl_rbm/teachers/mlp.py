"""Multi-layer perceptron as a teacher: it reads a node's features alone, and is trained on labels."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field
from torch import Tensor, nn

from dgl_rbm.registry import teachers
from dgl_rbm.rows.sparse import Rows, linear
from dgl_rbm.teachers.gnn import LayeredGNN, layer_widths
from dgl_rbm.teachers.training import GNNConfig

__all__ = ["MlpTeacherConfig", "RowLayer"]


class RowLayer(nn.Module):
    """Linear map of each node's own row; edges have no influence."""

    reads_csc = True

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(in_dim, out_dim)

    def forward(self, graph: Any, x: Rows) -> Tensor:
        """Return one row ``[out_dim]`` per destination node; `x` has one row per source node."""
        return linear(x, self.linear.weight, self.linear.bias)[: graph.num_dst_nodes()]


@teachers.register
class MlpTeacherConfig(GNNConfig):
    """Perceptron on the features, the base predictor of `correct_and_smooth`."""

    kind: Literal["mlp"] = Field("mlp", description="Multi-layer perceptron on the features, without the graph.")

    def module(self, in_dim: int, num_classes: int) -> LayeredGNN:
        """Build the network."""
        widths = layer_widths(in_dim, self.hidden_dim, self.num_layers, num_classes)
        layers = [RowLayer(before, after) for before, after in widths]
        return LayeredGNN(layers, hidden_dim=self.hidden_dim, dropout=self.dropout, norm=self.norm)
