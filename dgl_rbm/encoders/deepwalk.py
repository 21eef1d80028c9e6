"""DeepWalk: skip-gram vectors of nodes that co-occur on random walks (Perozzi et al., KDD 2014)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import scipy.sparse as sp
import torch
from pydantic import Field
from torch import Tensor

from dgl_rbm.data.neighbors import NeighborMean
from dgl_rbm.data.structure import compressed_with_weights
from dgl_rbm.data.task import ObservedGraph
from dgl_rbm.encoders.base import Encoder, EncoderConfig, EncoderOutput, EncodingWeight, encoder_output
from dgl_rbm.encoders.skipgram import SkipGram
from dgl_rbm.registry import encoders
from dgl_rbm.rows.sparse import SparseRows, as_divisor, matmul
from dgl_rbm.runtime.context import RunContext, Stage

__all__ = ["DeepWalkConfig", "DeepWalkEncoder", "Walks", "expected_visits"]

# Bounds the memory of a batch of walks, which is also one step of a progress bar.
_NODES_AT_ONCE = 1_000_000
# Learning rates of word2vec.
_FIRST_RATE, _LAST_RATE = 0.025, 0.0001


class Walks:
    """Random walks in batches, reproducible by seed instead of stored; edges are drawn in proportion to their weights.

    All walks of a batch advance together. On a graph larger than the CPU caches this is far faster than one walk at a
    time, since many memory reads overlap.

    Parameters
    ----------
    graph : dgl.DGLGraph
        Homogeneous, N nodes. Walks follow its edges, source to destination, and ignore self-loops; parallel edges count
        separately.
    walk_length : int
        Nodes on a walk.
    walks_per_node : int
        Walks from each node with outgoing edges.
    device : torch.device or str
        Device on which walks are sampled.

    Attributes
    ----------
    starts : Tensor
        Nodes with outgoing edges, int64 ``[S]``.
    """

    def __init__(self, graph: Any, walk_length: int, walks_per_node: int, device: torch.device | str = "cpu") -> None:
        # Edges by source, converted here because DGL would cache a second format of the graph.
        indptr, sources, weights = compressed_with_weights(graph)
        count = graph.num_nodes()
        by_source = sp.csr_matrix(
            (np.ones(len(sources), dtype=np.int8) if weights is None else weights, sources, indptr),
            shape=(count, count),
        ).T.tocsr()
        source = np.repeat(np.arange(count, dtype=by_source.indices.dtype), np.diff(by_source.indptr))
        leaving = source != by_source.indices
        neighbors = by_source.indices[leaving]
        exits = torch.from_numpy(np.bincount(source[leaving], minlength=count))
        self.device = torch.device(device)
        self._neighbors = torch.from_numpy(neighbors).to(self.device)
        self._exits, self._pointers = exits.to(self.device), (exits.cumsum(0) - exits).to(self.device)
        self._running: Tensor | None = None
        if weights is not None:
            # With a cumulative sum over all edges, every draw is one binary search.
            running = np.concatenate([[0.0], by_source.data[leaving].astype(np.float64).cumsum()])
            self._running = torch.from_numpy(running).to(self.device)
        self._has_ends = bool((exits.numpy()[neighbors] == 0).any())
        self.starts = exits.nonzero().squeeze(1).to(self.device)
        self.walk_length, self.walks_per_node = walk_length, walks_per_node
        self.batch_size = max(1, _NODES_AT_ONCE // walk_length)

    def __len__(self) -> int:
        return self.walks_per_node * -(-len(self.starts) // self.batch_size)

    def batches(self, seed: int) -> Iterator[Tensor]:
        """Yield node ids, int64 ``[B, walk_length]``, −1 after the end of a walk at a node without outgoing edges."""
        generator = torch.Generator(self.device).manual_seed(seed)
        for _ in range(self.walks_per_node):
            order = self.starts[torch.randperm(len(self.starts), generator=generator, device=self.device)]
            for batch in order.split(self.batch_size):
                yield self._walk(batch, generator)

    def _walk(self, nodes: Tensor, generator: torch.Generator) -> Tensor:
        walks = torch.empty(self.walk_length, len(nodes), dtype=torch.int64, device=self.device)
        walks[0] = nodes
        for step in range(1, self.walk_length):
            draws = torch.rand(len(nodes), generator=generator, dtype=torch.float64, device=self.device)
            at = nodes.clamp(min=0) if self._has_ends else nodes
            exits = self._exits.index_select(0, at)
            edge = self._edges(self._pointers.index_select(0, at), exits, draws)
            if self._has_ends:
                going = (nodes >= 0) & (exits > 0)
                nodes = torch.where(going, self._neighbors[torch.where(going, edge, 0)], -1).to(torch.int64)
            else:
                nodes = self._neighbors.index_select(0, edge).to(torch.int64)
            walks[step] = nodes
        return walks.t().contiguous()

    def _edges(self, first: Tensor, exits: Tensor, draws: Tensor) -> Tensor:
        """Return one of the `exits` edges from `first` on for each draw from [0, 1)."""
        if self._running is None:
            # The product is less than the number of exits under any rounding.
            return first + (draws * exits).to(torch.int64)
        low, high = self._running[first], self._running[first + exits]
        edge = torch.searchsorted(self._running[1:], low + draws * (high - low), right=True)
        # Rounding may put a point on the upper bound, which belongs to the next node.
        return torch.minimum(edge, first + exits - 1).clamp(min=0)


def expected_visits(neighbors: SparseRows, starts: Tensor, walk_length: int) -> Tensor:
    """Return the expected number of visits of each node by one walk from each start.

    Parameters
    ----------
    neighbors : SparseRows
        ``[N, N]``: entry ``[v, u]`` counts the edges u → v, by weight; see `in_neighbors`.
    starts : Tensor
        Node ids, int64 ``[S]``.
    walk_length : int
        Nodes on a walk; walks end at nodes without outgoing edges.

    Returns
    -------
    Tensor
        float32 ``[N]``.
    """
    counts = neighbors.csr
    exits = torch.bincount(counts.col_indices(), weights=counts.values(), minlength=len(neighbors))
    present = torch.zeros(len(neighbors), 1).index_fill_(0, starts, 1.0)
    visits = present
    for _ in range(walk_length - 1):
        present = matmul(neighbors, present / as_divisor(exits)[:, None])
        visits = visits + present
    return visits.squeeze(1)


class DeepWalkEncoder(Encoder):
    """Skip-gram vectors with negative sampling, trained on random walks in place of sentences.

    Walks are sampled and trained on in blocks on the run's device; they are never stored. Nodes that share no walk with
    another node get zeros. On a CPU the same seed and number of threads give the same bits; the order of addition on a
    GPU is not deterministic.

    Parameters
    ----------
    dim : int
        P.
    walk_length, walks_per_node : int
        Nodes per walk; walks per node.
    window : int
        Maximum distance between two co-occurring nodes of a walk.
    epochs : int
        Number of passes over the walks.
    negative : int
        Weight of the noise nodes per co-occurring pair.
    consistent : bool
        See `EncoderConfig`.
    """

    kind = "deepwalk"

    def __init__(
        self,
        *,
        dim: int = 64,
        walk_length: int = 50,
        walks_per_node: int = 5,
        window: int = 5,
        epochs: int = 1,
        negative: int = 5,
        consistent: bool = True,
    ) -> None:
        self.dim, self.window, self.epochs, self.negative = dim, window, epochs, negative
        self.walk_length, self.walks_per_node = walk_length, walks_per_node
        self.consistent = consistent

    def fit(self, observed: ObservedGraph, context: RunContext) -> EncoderOutput:
        """Sample walks on the observed graph and train one vector per node."""
        walks = Walks(observed.graph, self.walk_length, self.walks_per_node, context.device)
        with context.stage("encoder", self.epochs * len(walks), unit="walk batches") as stage:
            mean = NeighborMean(observed.graph)
            vectors = torch.zeros(len(observed), self.dim)
            if len(walks):
                vectors = self._skip_gram(walks, mean.neighbors, stage)
            return encoder_output(mean, vectors, consistent=self.consistent)

    def _skip_gram(self, walks: Walks, neighbors: SparseRows, stage: Stage) -> Tensor:
        seed = int(torch.randint(2**31 - 1, ()))
        visits = expected_visits(neighbors, walks.starts.cpu(), self.walk_length)
        model = SkipGram(
            visits,
            dim=self.dim,
            walk_length=self.walk_length,
            window=self.window,
            negative=self.negative,
            device=walks.device,
        )
        total = self.epochs * self.walks_per_node * len(walks.starts)
        walked = turn = done = 0
        for _ in range(self.epochs):
            for batch in walks.batches(seed):
                for block in batch.split(model.block_size):
                    model.step(block, _FIRST_RATE + (_LAST_RATE - _FIRST_RATE) * walked / total, turn)
                    walked, turn = walked + len(block), turn + 1
                done += 1
                stage.step(done)
        return torch.where(visits[:, None] > 0, model.vectors.cpu(), torch.zeros(()))


@encoders.register
class DeepWalkConfig(EncoderConfig):
    """Skip-gram vectors of nodes that co-occur on random walks."""

    kind: Literal["deepwalk"] = "deepwalk"
    weight: EncodingWeight = 0.3
    dim: int = Field(default=64, ge=1, description="Columns of the encoding.")
    walk_length: int = Field(default=50, ge=2, description="Nodes per random walk.")
    walks_per_node: int = Field(default=5, ge=1, description="Random walks from each node.")
    window: int = Field(default=5, ge=1, description="Maximum distance between two co-occurring nodes of a walk.")
    epochs: int = Field(default=1, ge=1, description="Number of passes over all walks.")
    negative: int = Field(default=5, ge=1, description="Weight of noise nodes per co-occurring pair.")

    def build(self) -> DeepWalkEncoder:
        """Build the encoder."""
        return DeepWalkEncoder(**self.options())
