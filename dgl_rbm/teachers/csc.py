"""Graph in compressed sparse columns as torch tensors, for devices that DGL's kernels do not support."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from dgl_rbm.data.dgl_compat import dgl
from dgl_rbm.data.structure import WEIGHT
from dgl_rbm.precision import in_float32
from dgl_rbm.rows.sparse import as_divisor

__all__ = ["CSCGraph", "edges_of"]

# Maximum number of values, one per edge and column, that a maximum gathers at a time (128 MiB).
_MESSAGES_AT_ONCE = 2**25


class CSCGraph:
    """Edges of a graph or a block by destination node, as torch tensors for aggregation.

    Parallel edges are merged into one entry with a count, since kernels for sparse products require distinct pairs of
    row and column; their weights are added up. Built by `from_dgl` or `from_edges`.

    Parameters
    ----------
    indptr : Tensor
        Start of each destination's entries, and the end of the last, int ``[D + 1]``.
    indices : Tensor
        The source of each entry, ascending for each destination, int ``[M]``.
    counts : Tensor
        Number of parallel edges of each entry, int64 ``[M]``.
    num_src : int
        S. The sources of a graph are its nodes; the first D sources of a block are its destinations.
    weights : Tensor, optional
        Weight of each entry in sums and means, float32 ``[M]``; its count by default.

    Attributes
    ----------
    srcdata, dstdata : dict of str to Tensor
        Values per source and per destination, such as those that `LayeredGNN.annotate` writes.
    """

    def __init__(
        self, indptr: Tensor, indices: Tensor, counts: Tensor, num_src: int, weights: Tensor | None = None
    ) -> None:
        self.indptr, self.indices, self.counts, self.weights = indptr, indices, counts, weights
        self._num_src = num_src
        self.srcdata: dict[str, Tensor] = {}
        self.dstdata: dict[str, Tensor] = {}
        self._matrix: Tensor | None = None
        self._in_degrees: Tensor | None = None
        self._in_weights: Tensor | None = None
        self._by_source: tuple[Tensor, Tensor] | None = None
        self._transposed: Tensor | None = None

    @classmethod
    def from_edges(
        cls, source: Tensor, destination: Tensor, num_src: int, num_dst: int, weights: Tensor | None = None
    ) -> CSCGraph:
        """Build one from edges in any order, two int ``[E]``, and their weights, float32 ``[E]``, on their device."""
        keys = destination.long() * num_src + source.long()
        if weights is not None:
            keys, order = keys.sort(stable=True)
            weights = weights[order]
        keys, counts = torch.unique(keys, sorted=True, return_counts=True)
        if weights is not None and len(keys):
            weights = torch.segment_reduce(weights, "sum", lengths=counts)
        rows = torch.div(keys, max(1, num_src), rounding_mode="floor")
        # int32 halves the memory and is faster.
        small = max(len(keys), num_src, num_dst) < 2**31
        kind = torch.int32 if small else torch.int64
        return cls(_pointers(rows, num_dst).to(kind), (keys - rows * num_src).to(kind), counts, num_src, weights)

    @classmethod
    def from_dgl(
        cls,
        graph: Any,
        *,
        annotate: Callable[[Any, Any], None] | None = None,
        device: torch.device | str | None = None,
    ) -> CSCGraph:
        """Build one from a DGL graph or block with one edge type, node data and edge weights included.

        Parameters
        ----------
        graph : dgl.DGLGraph
        annotate : callable, optional
            Called first, with the graph and a local copy of it; see `LayeredGNN.annotate`.
        device : torch.device, optional
            Device of the result; the graph's by default.
        """
        if annotate is not None:
            local = graph.local_var()
            annotate(graph, local)
            graph = local
        device = graph.device if device is None else device
        ends = edges_of(graph, device)
        made = cls.from_edges(ends[0], ends[1], graph.num_src_nodes(), graph.num_dst_nodes(), ends[2])
        for name, column in graph.srcdata.items():
            if name != dgl.NID:
                made.srcdata[name] = column.to(device)
        for name, column in graph.dstdata.items():
            if name != dgl.NID:
                made.dstdata[name] = column.to(device)
        return made

    @property
    def device(self) -> torch.device:
        """Device of the edges."""
        return self.indptr.device

    def to(self, device: torch.device | str) -> CSCGraph:
        """Return the graph on `device`."""
        if torch.device(device) == self.device:
            return self
        indptr, indices, counts = (part.to(device) for part in (self.indptr, self.indices, self.counts))
        weights = None if self.weights is None else self.weights.to(device)
        moved = CSCGraph(indptr, indices, counts, self._num_src, weights)
        moved.srcdata = {name: column.to(device) for name, column in self.srcdata.items()}
        moved.dstdata = {name: column.to(device) for name, column in self.dstdata.items()}
        return moved

    def num_src_nodes(self) -> int:
        """Return S."""
        return self._num_src

    def num_dst_nodes(self) -> int:
        """Return D."""
        return len(self.indptr) - 1

    def num_nodes(self) -> int:
        """Return the number of nodes of a graph, or of destinations of a block."""
        return self.num_dst_nodes()

    def num_edges(self) -> int:
        """Return the number of edges, parallel ones included."""
        return int(self.counts.sum())

    def in_degrees(self) -> Tensor:
        """Return the number of edges into each destination, int64 ``[D]``."""
        if self._in_degrees is None:
            self._in_degrees = _sums_between(self.counts, self.indptr)
        return self._in_degrees

    def in_weights(self) -> Tensor:
        """Return the sum of the weights of the edges into each destination, float32 ``[D]``; its degree by default."""
        if self.weights is None:
            return self.in_degrees().float()
        if self._in_weights is None:
            self._in_weights = _sums_between(self.weights.double(), self.indptr).clamp(min=0).float()
        return self._in_weights

    def out_degrees(self) -> Tensor:
        """Return the number of edges out of each source, int64 ``[S]``."""
        pointers, order = self._entries_by_source()
        return _sums_between(self.counts[order], pointers)

    def sum(self, x: Tensor) -> Tensor:
        """Return the sum of the source rows of each destination, by weight; zeros if it has no source.

        Parameters
        ----------
        x : Tensor
            float32 ``[S, K]``.

        Returns
        -------
        Tensor
            float32 ``[D, K]``; gradients flow to `x`.
        """
        return _Sum.apply(x, self)

    def mean(self, x: Tensor) -> Tensor:
        """Return the mean in place of the sum, by weight; see `sum`."""
        return self.sum(x) / as_divisor(self.in_weights()).to(x).unsqueeze(1)

    def max(self, x: Tensor) -> Tensor:
        """Return the maximum of each column, without weights, in place of the sum; see `sum`.

        Tied sources share the gradient equally; DGL passes it to one of them.
        """
        return _Max.apply(x, self)

    def _values(self) -> Tensor:
        return self.counts if self.weights is None else self.weights

    def _adjacency(self) -> Tensor:
        """Return the entries' weights as a CSR matrix, float32 ``[D, S]``."""
        if self._matrix is None:
            shape = (self.num_dst_nodes(), self._num_src)
            self._matrix = _csr(self.indptr, self.indices, self._values(), shape)
        return self._matrix

    def _adjacency_transposed(self) -> Tensor:
        # Cached: the product with a transposed view would sort the entries in every backward pass and, on a GPU, sum
        # them in an order that differs from run to run.
        if self._transposed is None:
            pointers, order = self._entries_by_source()
            rows = self._destinations()[order].to(self.indices.dtype)
            shape = (self._num_src, self.num_dst_nodes())
            self._transposed = _csr(pointers.to(self.indptr.dtype), rows, self._values()[order], shape)
        return self._transposed

    def _entries_by_source(self) -> tuple[Tensor, Tensor]:
        """Return the start of each source's entries, int64 ``[S + 1]``, and the entries in that order."""
        if self._by_source is None:
            sources, order = torch.sort(self.indices, stable=True)
            self._by_source = _pointers(sources, self._num_src), order
        return self._by_source

    def _destinations(self) -> Tensor:
        """Return the destination of each entry, int64 ``[M]``."""
        each = torch.arange(self.num_dst_nodes(), device=self.device)
        return torch.repeat_interleave(each, self.indptr.diff().long(), output_size=len(self.indices))


class _Sum(torch.autograd.Function):
    """``A @ x`` and its gradient ``A.T @ dy``; torch's own backward builds and sorts the transpose in every step."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, graph: CSCGraph) -> Tensor:
        ctx.graph = graph
        with in_float32(x.device):
            return graph._adjacency() @ x

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        with in_float32(gradient.device):
            return ctx.graph._adjacency_transposed() @ gradient, None


class _Max(torch.autograd.Function):
    """Maxima over segments of the gathered rows and their gradient, a few columns at a time."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, graph: CSCGraph) -> Tensor:
        pointers, found = graph.indptr.long(), x.new_zeros(graph.num_dst_nodes(), x.shape[1])
        if len(graph.indices):
            for columns in _column_blocks(x.shape[1], len(graph.indices)):
                rows = x[:, columns].index_select(0, graph.indices)
                found[:, columns] = torch.segment_reduce(rows, "max", offsets=pointers, unsafe=True)
            found.masked_fill_(pointers.diff().eq(0).unsqueeze(1), 0.0)
        ctx.graph = graph
        ctx.save_for_backward(x, found)
        return found

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        graph, (x, found) = ctx.graph, ctx.saved_tensors
        passed = torch.zeros_like(x)
        if not len(graph.indices):
            return passed, None
        into, (out_of, order), owner = graph.indptr.long(), graph._entries_by_source(), graph._destinations()
        for columns in _column_blocks(x.shape[1], len(graph.indices)):
            rows = x[:, columns].index_select(0, graph.indices)
            largest = (rows == found[:, columns].index_select(0, owner)).to(x)
            winners = torch.segment_reduce(largest, "sum", offsets=into, unsafe=True)
            share = gradient[:, columns] / winners.clamp(min=1)
            # Not `index_add_`, whose order of addition on a GPU differs from run to run.
            by_entry = (largest * share.index_select(0, owner)).index_select(0, order)
            passed[:, columns] = torch.segment_reduce(by_entry, "sum", offsets=out_of, unsafe=True)
        return passed, None


def _column_blocks(columns: int, entries: int) -> Iterator[slice]:
    width = max(1, _MESSAGES_AT_ONCE // max(1, entries))
    for start in range(0, columns, width):
        yield slice(start, start + width)


def edges_of(graph: Any, device: torch.device | str) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return source, destination and weight of every edge of a DGL graph or block; None if it has no weights.

    They come from the stored format; DGL would cache any other one.
    """
    weights = graph.edata.get(WEIGHT)
    weights = None if weights is None else weights.to(device)
    created = graph.formats()["created"]
    if "coo" in created:
        source, destination = graph.edges()
        return source.to(device), destination.to(device), weights
    pointers, others, edge_ids = (part.to(device) for part in graph.adj_tensors("csc" if "csc" in created else "csr"))
    owners = torch.repeat_interleave(torch.arange(len(pointers) - 1, device=device), pointers.diff())
    if weights is not None and len(edge_ids):
        weights = weights[edge_ids]
    return (others, owners, weights) if "csc" in created else (owners, others, weights)


def _pointers(ascending: Tensor, count: int) -> Tensor:
    """Return the start of each of the numbers 0 to count − 1 in an ascending list, int64 ``[count + 1]``."""
    return torch.searchsorted(ascending, torch.arange(count + 1, dtype=ascending.dtype, device=ascending.device))


def _sums_between(values: Tensor, pointers: Tensor) -> Tensor:
    running = torch.cat([values.new_zeros(1), values.cumsum(0)])
    return running[pointers[1:].long()] - running[pointers[:-1].long()]


def _csr(pointers: Tensor, columns: Tensor, values: Tensor, shape: tuple[int, int]) -> Tensor:
    with warnings.catch_warnings():
        # torch warns once per process that its CSR support is in beta; the parts used here are tested.
        warnings.simplefilter("ignore", UserWarning)
        values = values.to(torch.float32)
        return torch.sparse_csr_tensor(pointers, columns, values, size=shape, device=values.device)
