"""GCN (Kipf and Welling, Semi-Supervised Classification with Graph Convolutional Networks, ICLR 2017)."""

from __future__ import annotations

from typing import Any, Literal, cast
from weakref import WeakKeyDictionary

import torch
from pydantic import Field
from torch import Tensor, nn

from dgl_rbm.data.dgl_compat import dgl
from dgl_rbm.norms import NormName
from dgl_rbm.registry import teachers
from dgl_rbm.rows.sparse import Rows, matmul
from dgl_rbm.teachers.csc import edges_of
from dgl_rbm.teachers.gnn import LayeredGNN, layer_widths
from dgl_rbm.teachers.message_passing import aggregate, has_weights
from dgl_rbm.teachers.training import GNNConfig

__all__ = ["GCN", "GCNLayer", "GcnConfig", "normalized_sum"]

_SOURCE_SCALE, _SCALE, _DEGREE, _MISSING_LOOP = "_gcn_source_scale", "_gcn_scale", "_gcn_degree", "_gcn_missing_loop"


def normalized_sum(graph: Any, h: Tensor) -> Tensor:
    """Return ``Σ_{u ∈ N(v) ∪ {v}} h_u / √(d_u d_v)`` for each destination node v; see `GCNLayer`.

    Parameters
    ----------
    graph : dgl.DGLGraph or CSCGraph
        Annotated by `GCN.annotate`, of S source and D destination nodes.
    h : Tensor
        Floating point ``[S, K]``.

    Returns
    -------
    Tensor
        ``[D, K]``.
    """
    h = h * graph.srcdata[_SOURCE_SCALE]
    own = h[: graph.num_dst_nodes()] * graph.dstdata[_MISSING_LOOP]
    if has_weights(graph):
        # As below, a mean over the sampled edges times the number of all edges, here of the weighted rows.
        sampled = graph.in_degrees().clamp(min=1).unsqueeze(1)
        around = aggregate(graph, h, "sum") * (graph.dstdata[_DEGREE] / sampled)
    else:
        around = aggregate(graph, h, "mean") * graph.dstdata[_DEGREE]
    return (around + own) * graph.dstdata[_SCALE]


class GCNLayer(nn.Module):
    """Symmetrically normalised convolution with self-loops.

    ``h_v = Σ_{u ∈ N(v) ∪ {v}} W x_u / √(d_u d_v) + b``, where degrees count the self-loop. A self-loop that
    the graph lacks is added in this sum, not in the graph. With edge weights w, the terms are
    ``w_uv W x_u / √(d_u d_v)`` and degrees are sums of weights; an added self-loop has the weight 1.

    On blocks that `GCN.annotate` has annotated, the degrees are those of the whole graph and the sum over sampled
    neighbours is scaled up to the whole neighbourhood: unbiased, and exact if all neighbours are sampled. On other
    blocks the degrees are the block's own. A `CSCGraph` must be annotated.
    """

    reads_csc = True

    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.project_first = in_dim > out_dim
        self.weight = nn.Parameter(torch.empty(in_dim, out_dim))
        self.bias = nn.Parameter(torch.zeros(out_dim))
        nn.init.xavier_uniform_(self.weight)

    def forward(self, graph: Any, x: Rows) -> Tensor:
        """Return one row ``[out_dim]`` per destination node; `x` has one row per source node."""
        if _SOURCE_SCALE not in graph.srcdata:
            graph = graph.local_var()
            GCN.annotate(graph, graph)
        project_first = self.project_first or not isinstance(x, Tensor)
        h = matmul(x, self.weight) if project_first else cast(Tensor, x)
        h = normalized_sum(graph, h)
        return (h if project_first else matmul(h, self.weight)) + self.bias


class GCN(LayeredGNN):
    """GCN with `num_layers` layers."""

    def __init__(
        self,
        in_dim: int,
        num_classes: int,
        *,
        hidden_dim: int = 128,
        num_layers: int = 2,
        dropout: float = 0.5,
        norm: NormName = "none",
    ) -> None:
        widths = layer_widths(in_dim, hidden_dim, num_layers, num_classes)
        super().__init__([GCNLayer(i, o) for i, o in widths], hidden_dim=hidden_dim, dropout=dropout, norm=norm)

    @staticmethod
    def annotate(graph: Any, target: Any) -> None:
        """Write the degrees of the whole graph to `target`, a local copy or a block of it."""
        if target is not graph and target.is_block:
            sources = target.srcdata[dgl.NID].to(graph.device)
        else:
            sources = torch.arange(target.num_src_nodes(), dtype=target.idtype, device=graph.device)
        destinations = sources[: target.num_dst_nodes()]
        lacking = torch.ones(len(sources), 1, device=graph.device)
        # In a block, only the destination nodes, which are its first source nodes, can have self-loops.
        nodes = destinations if graph.is_block else sources
        lacking[: len(nodes), 0] = (~graph.has_edges_between(nodes, nodes)).float()

        def scale(sums: Tensor) -> Tensor:
            return (sums + lacking[: len(sums)]).rsqrt()

        degrees = graph.in_degrees(destinations).float()[:, None]
        if has_weights(graph):
            into, out_of = _weight_sums(graph)
            into, out_of = into[destinations.long()], out_of[sources.long()]
        else:
            into, out_of = degrees, graph.out_degrees(sources).float()[:, None]
        columns = {_SCALE: scale(into), _DEGREE: degrees, _MISSING_LOOP: lacking[: len(degrees)]}
        target.srcdata[_SOURCE_SCALE] = scale(out_of).to(target.device)
        for name, values in columns.items():
            target.dstdata[name] = values.to(target.device)


# Sums over all edges, computed once per graph and not once per block.
_sums_of: WeakKeyDictionary[Any, tuple[Tensor, Tensor]] = WeakKeyDictionary()


def _weight_sums(graph: Any) -> tuple[Tensor, Tensor]:
    """Return the sums of the weights into each destination and out of each source, float32 ``[D, 1]``, ``[S, 1]``."""
    if graph not in _sums_of:
        source, destination, weights = edges_of(graph, "cpu")
        assert weights is not None, "the graph has weights"
        counts = (graph.num_dst_nodes(), graph.num_src_nodes())
        sums = [
            torch.bincount(ends.long(), weights.double(), minlength=count).float()[:, None].to(graph.device)
            for ends, count in zip((destination, source), counts, strict=True)
        ]
        _sums_of[graph] = (sums[0], sums[1])
    return _sums_of[graph]


@teachers.register
class GcnConfig(GNNConfig):
    """Graph convolutional network."""

    kind: Literal["gcn"] = Field("gcn", description="Graph convolutional network.")

    def module(self, in_dim: int, num_classes: int) -> GCN:
        """Build the network."""
        return GCN(in_dim, num_classes, **self.options(without=["training"]))
