"""Predictions from full neighbourhoods: of all nodes at once, layer by layer, or of a few nodes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from dgl_rbm._dgl import dgl
from dgl_rbm.data.task import GraphView
from dgl_rbm.errors import ConfigError
from dgl_rbm.sparse import Rows, SparseRows
from dgl_rbm.teachers.base import TeacherOutput
from dgl_rbm.teachers.gnn import LayeredGNN
from dgl_rbm.teachers.sampling import OrderedNeighborSampler, Placement, batches, gather, placed

__all__ = ["full_graph_output", "layerwise_output", "predict_nodes", "readable"]

_NODES_AT_ONCE = 4096


def readable(module: nn.Module, features: Rows) -> Rows:
    """Return the features in a form that `module` reads: sparse ones only if it says `reads_sparse`."""
    if isinstance(features, SparseRows) and not getattr(module, "reads_sparse", False):
        return features.to_dense()
    return features


@torch.no_grad()
def full_graph_output(module: nn.Module, graph: Any, features: Rows, device: torch.device) -> TeacherOutput:
    """Run `module` once, in evaluation mode, on all nodes on `device`; return the results on the CPU.

    Parameters
    ----------
    module : nn.Module
        Called as ``module(graph, x)``; a `LayeredGNN` gives its hidden states too.
    graph : dgl.DGLGraph
        Of N nodes.
    features : Tensor or SparseRows
        float32 ``[N, F]``.
    device : torch.device
        The module's.
    """
    module.eval()
    graph, x = graph.to(device), readable(module, features).to(device)
    if not isinstance(module, LayeredGNN):
        return TeacherOutput(module(graph, x).cpu())
    logits, hidden = module(graph, x, return_hidden=True)
    return TeacherOutput(logits.cpu(), None if hidden is None else hidden.cpu())


@torch.no_grad()
def layerwise_output(
    module: LayeredGNN,
    graph: Any,
    features: Rows,
    placement: Placement,
    *,
    nodes_at_once: int = _NODES_AT_ONCE,
) -> TeacherOutput:
    """Compute what `full_graph_output` does, layer after layer over batches of nodes.

    Each batch needs its nodes and their direct neighbours only, however deep the module is; what is held
    besides are one layer's inputs and outputs on the CPU.
    """
    module.eval()
    x, hidden = features, None
    sampler = OrderedNeighborSampler([-1], module.annotate)
    nodes = torch.arange(graph.num_nodes())
    with placed(graph, placement) as graph:
        for depth in range(module.num_layers):
            hidden = x if depth else None
            parts = [
                module.propagate(depth, block, gather(x, inputs, placement.device)).cpu()
                for inputs, _, (block,) in batches(graph, nodes, sampler, placement, batch_size=nodes_at_once)
            ]
            x = torch.cat(parts)
    return TeacherOutput(x, hidden)  # type: ignore[arg-type]


@torch.no_grad()
def predict_nodes(module: nn.Module, view: GraphView, node_ids: Tensor) -> tuple[Tensor, int]:
    """Predict a few nodes from their complete neighbourhoods, as a server would.

    Parameters
    ----------
    module : nn.Module
        Called as ``module(blocks, x)``; its `num_layers` says how far its neighbourhoods reach.
    view : GraphView
        The graph, in host memory.
    node_ids : Tensor
        Local node ids, int64 ``[B]``.

    Returns
    -------
    logits : Tensor
        float32 ``[B, C]``, on the CPU.
    fetched : int
        How many distinct feature rows were read.

    Raises
    ------
    ConfigError
        Where the module does not say how many layers it has.
    """
    num_layers = getattr(module, "num_layers", None)
    if num_layers is None:
        raise ConfigError(
            f"{type(module).__name__} does not say how far its neighbourhoods reach.",
            hint="Set its attribute `num_layers`.",
        )
    module.eval()
    device = next(module.parameters()).device
    # DGL's own sampler: ordering nodes costs time in proportion to the graph, which a server need not spend.
    sampler = dgl.dataloading.NeighborSampler([-1] * num_layers, fused=False)
    distinct, position = torch.unique(node_ids, return_inverse=True)
    inputs, _, blocks = sampler.sample_blocks(view.graph, distinct)
    if isinstance(module, LayeredGNN):
        for block in blocks:
            module.annotate(view.graph, block)
    x = readable(module, gather(view.features, inputs, device))
    logits = module([block.to(device) for block in blocks], x).cpu()
    return logits[position], len(inputs)
