"""Sums, means and maxima over neighbours, by DGL's kernels or by torch alone.

A layer that calls `aggregate`, and reads nothing of a graph but what `CSCGraph` has too, runs on both. So a
teacher can be trained on a GPU beside a DGL that is built for CPUs only, as the one from the package index is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
from torch import Tensor

from dgl_rbm.data.dgl_compat import dgl
from dgl_rbm.precision import in_float32
from dgl_rbm.teachers.csc import CSCGraph

__all__ = ["Aggregation", "Reduction", "aggregate", "laid_out"]

Reduction = Literal["sum", "mean", "max"]
Aggregation = Literal["dgl", "torch"]


def aggregate(graph: Any, x: Tensor, reduction: Reduction) -> Tensor:
    """Return for each destination node the sum, mean or maximum of its sources' rows; zeros where it has none.

    In float32 under autocast too: small terms are lost where many are added up in bfloat16.

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
        float32 ``[D, K]``; gradients flow to `x`.
    """
    with in_float32(x.device):
        x = x.float()
        if isinstance(graph, CSCGraph):
            return {"sum": graph.sum, "mean": graph.mean, "max": graph.max}[reduction](x)
        if reduction == "max":
            # Minus infinity, of destinations without sources, is nobody's maximum.
            found = dgl.ops.copy_u_max(graph, x)
            return found.masked_fill(graph.in_degrees().eq(0).unsqueeze(1), 0.0)
        return (dgl.ops.copy_u_sum if reduction == "sum" else dgl.ops.copy_u_mean)(graph, x)


def laid_out(
    graph: Any,
    device: torch.device,
    aggregation: Aggregation,
    annotate: Callable[[Any, Any], None] | None = None,
) -> Any:
    """Return a DGL graph or block on `device`, as a `CSCGraph` where torch is to aggregate.

    Parameters
    ----------
    graph : dgl.DGLGraph
    device : torch.device
    aggregation : {"dgl", "torch"}
    annotate : callable, optional
        For `CSCGraph.from_dgl`; DGL's graphs are annotated where they are used.
    """
    if aggregation == "torch":
        return CSCGraph.from_dgl(graph, annotate=annotate, device=device)
    return graph.to(device)
