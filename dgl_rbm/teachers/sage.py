"""GraphSAGE (Hamilton, Ying and Leskovec, Inductive Representation Learning on Large Graphs, NeurIPS 2017)."""

from __future__ import annotations

from typing import Any, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from dgl_rbm.data.dgl_compat import dgl
from dgl_rbm.norms import NormName
from dgl_rbm.registry import teachers
from dgl_rbm.rows.sparse import Rows, linear
from dgl_rbm.teachers.gnn import LayeredGNN, layer_widths
from dgl_rbm.teachers.message_passing import aggregate, in_weights
from dgl_rbm.teachers.training import GNNConfig

__all__ = ["SAGE", "Aggregator", "SAGELayer", "SageConfig"]

Aggregator = Literal["gcn", "mean", "pool"]


class SAGELayer(nn.Module):
    """Equivalent of `dgl.nn.SAGEConv` that also accepts sparse features and a `CSCGraph`.

    "gcn" averages a node and its neighbours and projects the mean; "mean" adds a projection of the node to a projection
    of its neighbours' mean; "pool" replaces that mean by the maximum of a learned function over the neighbours. By
    linearity, rows may be projected before they are aggregated; this is done if it makes them narrower, and always if
    they are sparse. "pool" is not linear and makes sparse rows dense. On sampled blocks the aggregates are over the
    sampled neighbours. Edge weights make the means weighted, with the weight 1 for the node itself; the maximum ignores
    them.
    """

    reads_csc = True

    def __init__(self, in_dim: int, out_dim: int, aggregator: Aggregator = "gcn") -> None:
        super().__init__()
        self.aggregator = aggregator
        self.in_dim, self.out_dim = in_dim, out_dim
        # Holds the parameters, with DGL's names and initialisation.
        self.conv = dgl.nn.SAGEConv(in_dim, out_dim, aggregator)

    def forward(self, graph: Any, x: Rows) -> Tensor:
        """Return one row ``[out_dim]`` per destination node; `x` has one row per source node."""
        count = graph.num_dst_nodes()
        if self.aggregator == "pool":
            dense = x if isinstance(x, Tensor) else x.to_dense()
            largest = aggregate(graph, torch.relu(self.conv.fc_pool(dense)), "max")
            return self.conv.fc_self(dense[:count]) + self.conv.fc_neigh(largest)
        weight = self.conv.fc_neigh.weight
        if self.aggregator == "mean":
            if not isinstance(x, Tensor):
                # One product for both avoids slicing the rows of the block's own nodes.
                both = linear(x, torch.cat([self.conv.fc_self.weight, weight]))
                own, neighbors = both.split(self.out_dim, dim=1)
                return own[:count] + aggregate(graph, neighbors, "mean") + self.conv.fc_self.bias
            own = self.conv.fc_self(x[:count])
            if self.in_dim > self.out_dim:
                return own + aggregate(graph, linear(x, weight), "mean")
            return own + linear(aggregate(graph, x, "mean"), weight)
        project_first = not isinstance(x, Tensor) or self.in_dim > self.out_dim
        h = linear(x, weight) if project_first else cast(Tensor, x)
        degrees = in_weights(graph).unsqueeze(1)
        h = (aggregate(graph, h, "sum") + h[:count]) / (degrees + 1)
        return (h if project_first else linear(h, weight)) + self.conv.bias


class SAGE(LayeredGNN):
    """GraphSAGE with `num_layers` layers."""

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
        """Build the network."""
        return SAGE(in_dim, num_classes, **self.options(without=["training"]))
