"""Inference from full neighbourhoods: all nodes at once, layer by layer, or a few nodes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from dgl_rbm.data.dgl_compat import dgl
from dgl_rbm.data.task import GraphView
from dgl_rbm.errors import ConfigError
from dgl_rbm.rows.sparse import Rows, SparseRows
from dgl_rbm.runtime.process_state import inference
from dgl_rbm.teachers.base import TeacherOutput
from dgl_rbm.teachers.gnn import LayeredGNN, annotation
from dgl_rbm.teachers.layerwise import layerwise_output
from dgl_rbm.teachers.message_passing import Aggregation, laid_out
from dgl_rbm.teachers.sampling import gather
from dgl_rbm.teachers.traits import ModuleTraits

__all__ = ["full_graph_output", "layerwise_output", "predict_nodes", "readable"]


def readable(module: nn.Module, features: Rows) -> Rows:
    """Return the features in a form that `module` accepts; see `ModuleTraits.reads_sparse`."""
    if isinstance(features, SparseRows) and not ModuleTraits.of(module).reads_sparse:
        return features.to_dense()
    return features


@inference
def full_graph_output(
    module: nn.Module,
    graph: Any,
    features: Rows,
    device: torch.device,
    aggregation: Aggregation = "dgl",
    *,
    return_hidden: bool = True,
) -> TeacherOutput:
    """Run `module` once, in evaluation mode, on all nodes on `device`; return the results on the CPU.

    Parameters
    ----------
    module : nn.Module
        Called as ``module(graph, x)``.
    graph : dgl.DGLGraph
        Of N nodes.
    features : Tensor or SparseRows
        float32 ``[N, F]``.
    device : torch.device
        The module's.
    aggregation : {"dgl", "torch"}
        Library whose kernels aggregate; see `Placement`.
    return_hidden : bool
        Whether to keep the inputs of the last layer of a `LayeredGNN`.
    """
    module.eval()
    graph = laid_out(graph, device, aggregation, annotation(module))
    x = readable(module, features).to(device)
    if not (return_hidden and isinstance(module, LayeredGNN)):
        return TeacherOutput(module(graph, x).cpu())
    logits, hidden = module(graph, x, return_hidden=True)
    return TeacherOutput(logits.cpu(), None if hidden is None else hidden.cpu())


@inference
def predict_nodes(
    module: nn.Module, view: GraphView, node_ids: Tensor, aggregation: Aggregation = "dgl"
) -> tuple[Tensor, int]:
    """Predict a few nodes from their complete neighbourhoods, as a server would.

    Parameters
    ----------
    module : nn.Module
        Called as ``module(blocks, x)``; its `num_layers` is the number of hops.
    view : GraphView
        The graph, in host memory.
    node_ids : Tensor
        Local node ids, int64 ``[B]``.
    aggregation : {"dgl", "torch"}
        Library whose kernels aggregate; see `Placement`.

    Returns
    -------
    logits : Tensor
        float32 ``[B, C]``, on the CPU.
    fetched : int
        Number of distinct feature rows read.

    Raises
    ------
    ConfigError
        If the module has no attribute `num_layers`.
    """
    num_layers = ModuleTraits.of(module).num_layers
    if num_layers is None:
        raise ConfigError(
            f"{type(module).__name__} has no known number of layers, so its neighbourhoods cannot be sampled.",
            hint="Set its attribute `num_layers`.",
        )
    module.eval()
    device = next(module.parameters()).device
    # DGL's own sampler: ordering the nodes takes time proportional to the size of the graph, too slow for a server.
    sampler = dgl.dataloading.NeighborSampler([-1] * num_layers, fused=False)
    distinct, position = torch.unique(node_ids, return_inverse=True)
    inputs, _, blocks = sampler.sample_blocks(view.graph, distinct)
    if isinstance(module, LayeredGNN):
        for block in blocks:
            module.annotate(view.graph, block)
    x = readable(module, gather(view.features, inputs, device))
    logits = module([laid_out(block, device, aggregation) for block in blocks], x).cpu()
    return logits[position], len(inputs)
