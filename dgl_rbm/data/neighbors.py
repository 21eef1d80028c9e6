"""In-neighbours of nodes, and means over them."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from dgl_rbm.data.structure import compressed_with_weights, row_windows
from dgl_rbm.rows.sparse import SparseRows, as_divisor, matmul, take, transpose_matmul

__all__ = ["NeighborMean", "gather_in_neighbors", "in_neighbors"]


def in_neighbors(graph: Any) -> SparseRows:
    """Return the adjacency matrix by destination, without self-loops.

    Parameters
    ----------
    graph : dgl.DGLGraph
        Homogeneous, N nodes; not changed.

    Returns
    -------
    SparseRows
        ``[N, N]`` on the CPU: entry ``[v, u]`` counts the edges u → v, or is the sum of their weights.
    """
    count = graph.num_nodes()
    indptr, sources, weights = compressed_with_weights(graph)
    degrees = np.diff(indptr)
    looped = []
    for first, last in row_windows(indptr):
        part = slice(indptr[first], indptr[last])
        rows = np.repeat(np.arange(first, last, dtype=sources.dtype), degrees[first:last])
        looped.append(part.start + (sources[part] == rows).nonzero()[0])
    loops = np.concatenate([np.empty(0, dtype=np.int64), *looped])
    if len(loops):
        degrees -= np.bincount(np.searchsorted(indptr, loops, side="right") - 1, minlength=count)
        sources = np.delete(sources, loops)
        weights = None if weights is None else np.delete(weights, loops)
        indptr = np.concatenate([[0], degrees.cumsum()])
    values = np.ones(len(sources), dtype=np.float32) if weights is None else weights
    return SparseRows.from_scipy(sp.csr_matrix((values, sources, indptr), shape=(count, count)))


def gather_in_neighbors(
    indptr: Tensor, sources: Tensor, node_ids: Tensor, weights: Tensor | None = None
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the in-neighbours of some nodes as a flat list.

    Parameters
    ----------
    indptr, sources : Tensor
        Edges compressed by destination, int64 ``[N + 1]`` and ``[E]``.
    node_ids : Tensor
        int64 ``[B]``.
    weights : Tensor, optional
        Weights of the edges, float32 ``[E]``.

    Returns
    -------
    rows, neighbor_ids : Tensor
        For each in-edge, self-loops included, the position of its destination in `node_ids`, ascending, and its
        source; int64 ``[M]``.
    neighbor_weights : Tensor or None
        The weights of these edges, float32 ``[M]``.
    """
    starts, degrees = indptr[node_ids], indptr[node_ids + 1] - indptr[node_ids]
    rows = torch.repeat_interleave(torch.arange(len(node_ids)), degrees)
    within = torch.arange(len(rows)) - torch.repeat_interleave(degrees.cumsum(0) - degrees, degrees)
    edges = torch.repeat_interleave(starts, degrees) + within
    return rows, sources[edges], None if weights is None else weights[edges]


class NeighborMean:
    """Mean over the in-neighbours of every node, by edge weight, computed as one sparse product.

    Parallel edges count separately; self-loops are ignored.

    Parameters
    ----------
    graph : dgl.DGLGraph
        Homogeneous, N nodes.
    """

    def __init__(self, graph: Any) -> None:
        self.neighbors = in_neighbors(graph)
        counts = matmul(self.neighbors, torch.ones(graph.num_nodes(), 1))
        # The sum over no neighbours is 0, and stays 0 if divided by 1.
        self._divisor = as_divisor(counts)

    def __call__(self, vectors: Tensor) -> Tensor:
        """Return ``M @ vectors``, where M is the row-normalised adjacency matrix.

        Parameters
        ----------
        vectors : Tensor
            float32 ``[N, P]``.

        Returns
        -------
        Tensor
            float32 ``[N, P]``; zeros for nodes without neighbours.
        """
        return matmul(self.neighbors, vectors).div_(self._divisor)

    def among(self, ids: Tensor, vectors: Tensor, present: Tensor) -> Tensor:
        """Return the means of some nodes over those of their neighbours that are present.

        Parameters
        ----------
        ids : Tensor
            Node ids, int64 ``[B]``.
        vectors : Tensor
            float32 ``[N, P]``; zeros for absent nodes.
        present : Tensor
            bool ``[N]``.

        Returns
        -------
        Tensor
            float32 ``[B, P]``; zeros for nodes without a present neighbour.
        """
        neighbors = take(self.neighbors, ids)
        return matmul(neighbors, vectors).div_(as_divisor(matmul(neighbors, present[:, None].float())))

    def transposed(self, vectors: Tensor) -> Tensor:
        """Return ``M.T @ vectors``, float32 ``[N, P]``."""
        return transpose_matmul(self.neighbors, vectors / self._divisor)
