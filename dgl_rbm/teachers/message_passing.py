"""Sums, means and maxima over neighbours, with DGL's kernels or with torch alone.

A layer that calls `aggregate`, and uses only what `CSCGraph` has too, runs with both. A teacher can then be trained on
a GPU with a DGL that is built for CPUs only, as the one that pip installs is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from dgl_rbm.data.dgl_compat import dgl
from dgl_rbm.data.structure import WEIGHT
from dgl_rbm.precision import in_float32
from dgl_rbm.rows.sparse import as_divisor
from dgl_rbm.teachers.csc import CSCGraph

__all__ = ["Aggregation", "Reduction", "aggregate", "has_weights", "in_weights", "laid_out"]

Reduction = Literal["sum", "mean", "max"]
Aggregation = Literal["dgl", "torch"]


def aggregate(graph: Any, x: Tensor, reduction: Reduction) -> Tensor:
    """Return the sum, mean or maximum of the source rows of each destination node.

    Sums and means are by edge weight if the graph has weights; maxima ignore them.
    Computed in float32 under autocast too: bfloat16 sums over many neighbours lose small terms.

    Parameters
    ----------
    graph : dgl.DGLGraph or CSCGraph
        A graph or a block of S sources and D destinations.
    x : Tensor
        Floating point ``[S, K]``.
    reduction : {"sum", "mean", "max"}

    Returns
    -------
    Tensor
        float32 ``[D, K]``, zeros for nodes without sources; gradients flow to `x`.
    """
    with in_float32(x.device):
        x = x.float()
        if isinstance(graph, CSCGraph):
            return {"sum": graph.sum, "mean": graph.mean, "max": graph.max}[reduction](x)
        if reduction == "max":
            # DGL returns minus infinity for destinations without sources.
            found = dgl.ops.copy_u_max(graph, x)
            return found.masked_fill(graph.in_degrees().eq(0).unsqueeze(1), 0.0)
        if WEIGHT in graph.edata:
            summed = dgl.ops.u_mul_e_sum(graph, x, graph.edata[WEIGHT].unsqueeze(1))
            return summed if reduction == "sum" else summed / as_divisor(in_weights(graph)).unsqueeze(1)
        return (dgl.ops.copy_u_sum if reduction == "sum" else dgl.ops.copy_u_mean)(graph, x)


def has_weights(graph: Any) -> bool:
    """Whether a DGL graph, a block or a `CSCGraph` has edge weights."""
    return graph.weights is not None if isinstance(graph, CSCGraph) else WEIGHT in graph.edata


def in_weights(graph: Any) -> Tensor:
    """Return the sum of the weights of the edges into each destination, float32 ``[D]``; its degree by default."""
    if isinstance(graph, CSCGraph):
        return graph.in_weights()
    if WEIGHT not in graph.edata:
        return graph.in_degrees().to(torch.float32)
    return dgl.ops.copy_e_sum(graph, graph.edata[WEIGHT].unsqueeze(1)).squeeze(1)


def laid_out(
    graph: Any,
    device: torch.device,
    aggregation: Aggregation,
    annotate: Callable[[Any, Any], None] | None = None,
) -> Any:
    """Return a DGL graph or block on `device`, as a `CSCGraph` if torch aggregates.

    Parameters
    ----------
    graph : dgl.DGLGraph
    device : torch.device
    aggregation : {"dgl", "torch"}
    annotate : callable, optional
        Passed to `CSCGraph.from_dgl`; DGL graphs are annotated by the forward pass.
    """
    if aggregation == "torch":
        return CSCGraph.from_dgl(graph, annotate=annotate, device=device)
    return graph.to(device)
