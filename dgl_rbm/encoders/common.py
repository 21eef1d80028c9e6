"""Who a node's neighbours are, and the mean over them: the formula that known and unseen nodes share."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from torch import Tensor

from dgl_rbm.data.structure import compressed, row_windows
from dgl_rbm.encoders.base import EncoderOutput
from dgl_rbm.rows.sparse import SparseRows, matmul, take, transpose_matmul

__all__ = ["NeighborMean", "encoder_output", "in_neighbors"]


def in_neighbors(graph: Any) -> SparseRows:
    """Return how many edges lead from each node to each other one.

    Parameters
    ----------
    graph : dgl.DGLGraph
        Homogeneous, N nodes; it is left as it is.

    Returns
    -------
    SparseRows
        ``[N, N]`` on the CPU: entry ``[v, u]`` counts the edges u → v. Self-loops are left out, so that a
        node is never its own neighbour.
    """
    count = graph.num_nodes()
    indptr, sources = compressed(graph)
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
        indptr = np.concatenate([[0], degrees.cumsum()])
    ones = np.ones(len(sources), dtype=np.float32)
    return SparseRows.from_scipy(sp.csr_matrix((ones, sources, indptr), shape=(count, count)))


class NeighborMean:
    """Takes means over the in-neighbours of every node, one sparse product for all of them.

    Repeated edges count as often as they occur, self-loops not at all.

    Parameters
    ----------
    graph : dgl.DGLGraph
        Homogeneous, N nodes.
    """

    def __init__(self, graph: Any) -> None:
        self.neighbors = in_neighbors(graph)
        counts = matmul(self.neighbors, torch.ones(graph.num_nodes(), 1))
        # A node without neighbours has the sum 0, which divided by 1 stays 0.
        self._divisor = counts.clamp(min=1)

    def __call__(self, vectors: Tensor) -> Tensor:
        """Return ``M @ vectors``, M being the matrix that takes means; zeros for nodes without neighbours.

        Parameters
        ----------
        vectors : Tensor
            float32 ``[N, P]``.

        Returns
        -------
        Tensor
            float32 ``[N, P]``.
        """
        return matmul(self.neighbors, vectors).div_(self._divisor)

    def among(self, ids: Tensor, vectors: Tensor, present: Tensor) -> Tensor:
        """Return the means over those neighbours alone that are present; zeros where none is.

        Parameters
        ----------
        ids : Tensor
            Nodes whose neighbours are asked for, int64 ``[B]``.
        vectors : Tensor
            float32 ``[N, P]``; zero for every node that is not present.
        present : Tensor
            bool ``[N]``.

        Returns
        -------
        Tensor
            float32 ``[B, P]``.
        """
        neighbors = take(self.neighbors, ids)
        return matmul(neighbors, vectors).div_(matmul(neighbors, present[:, None].float()).clamp(min=1))

    def transposed(self, vectors: Tensor) -> Tensor:
        """Return ``M.T @ vectors``, float32 ``[N, P]``."""
        return transpose_matmul(self.neighbors, vectors / self._divisor)


def encoder_output(mean: NeighborMean, vectors: Tensor, *, consistent: bool) -> EncoderOutput:
    """Return `vectors` beside what the student is trained on: their means if `consistent`, else themselves."""
    return EncoderOutput(vectors=vectors, encodings=mean(vectors) if consistent else vectors)
