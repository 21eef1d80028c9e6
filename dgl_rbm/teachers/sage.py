"""GraphSAGE (Hamilton, Ying and Leskovec, Inductive Representation Learning on Large Graphs, NeurIPS 2017)."""

from __future__ import annotations

from typing import Any, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from dgl_rbm._dgl import dgl
from dgl_rbm.norms import NormName
from dgl_rbm.registry import teachers
from dgl_rbm.sparse import Rows, SparseRows, linear
from dgl_rbm.teachers.gnn import LayeredGNN, layer_widths
from dgl_rbm.teachers.training import GNNConfig

__all__ = ["SAGE", "Aggregator", "SAGELayer", "SageConfig"]

Aggregator = Literal["gcn", "mean", "pool"]


class SAGELayer(nn.Module):
    """`dgl.nn.SAGEConv` that also reads sparse features.

    "gcn" averages a node and its neighbours and projects; "mean" adds a projection of the node to one of its
    neighbours' mean; "pool" takes the maximum over the neighbours of a learned function in place of the mean.
    Sparse rows are projected before they are aggregated, which is the same by linearity; "pool" is not
    linear and makes them dense. On sampled blocks the averages are over the sampled neighbours.
    """

    def __init__(self, in_dim: int, out_dim: int, aggregator: Aggregator = "gcn") -> None:
        super().__init__()
        self.aggregator = aggregator
        self.out_dim = out_dim
        self.conv = dgl.nn.SAGEConv(in_dim, out_dim, aggregator)
        # Without a weight of its own it is the sum, or the mean, over the neighbours.
        self.aggregate = dgl.nn.GraphConv(
            out_dim,
            out_dim,
            norm="none" if aggregator == "gcn" else "right",
            weight=False,
            bias=False,
            allow_zero_in_degree=True,
        )

    def forward(self, graph: Any, x: Rows) -> Tensor:
        """Return one row ``[out_dim]`` per destination node; `x` has one row per source node."""
        if not isinstance(x, SparseRows):
            return self.conv(graph, x)
        if self.aggregator == "pool":
            return self.conv(graph, x.to_dense())
        count = graph.num_dst_nodes()
        if self.aggregator == "gcn":
            h = linear(x, self.conv.fc_neigh.weight)
            degrees = graph.in_degrees().to(h)[:, None]
            return (self.aggregate(graph, h) + h[:count]) / (degrees + 1) + self.conv.bias
        both = linear(x, torch.cat([self.conv.fc_self.weight, self.conv.fc_neigh.weight]))
        own, neighbors = both.split(self.out_dim, dim=1)
        return own[:count] + self.aggregate(graph, neighbors) + self.conv.fc_self.bias


class SAGE(LayeredGNN):
    """GraphSAGE of `num_layers` layers."""

    def __init__(
        self,
        in_dim: int,
        num_classes: int,
        *,
        hidden_dim: int = 128,
        num_layers: int = 2,
        dropout: float = 0.5,
        norm: NormName = "none",
        aggregator: Aggregator = "gcn",
    ) -> None:
        widths = layer_widths(in_dim, hidden_dim, num_layers, num_classes)
        super().__init__(
            [SAGELayer(i, o, aggregator) for i, o in widths], hidden_dim=hidden_dim, dropout=dropout, norm=norm
        )


@teachers.register
class SageConfig(GNNConfig):
    """GraphSAGE."""

    kind: Literal["sage"] = Field("sage", description="GraphSAGE.")
    aggregator: Aggregator = Field(
        default="gcn",
        description="How neighbours are combined: 'gcn' averages them with the node itself, 'mean' and 'pool' "
        "(maximum) keep the node apart.",
    )

    def module(self, in_dim: int, num_classes: int) -> SAGE:
        """Make the network."""
        return SAGE(
            in_dim,
            num_classes,
            hidden_dim=self.hidden_dim,
            num_layers=self.num_layers,
            dropout=self.dropout,
            norm=self.norm,
            aggregator=self.aggregator,
        )
