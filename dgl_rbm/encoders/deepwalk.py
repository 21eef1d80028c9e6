"""DeepWalk: skip-gram vectors of nodes that meet on random walks (Perozzi et al., KDD 2014)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from gensim.models import Word2Vec
from pydantic import Field
from torch import Tensor

from dgl_rbm._dgl import dgl
from dgl_rbm.data.task import ObservedGraph
from dgl_rbm.encoders.base import Encoder, EncoderConfig, EncoderOutput
from dgl_rbm.encoders.common import NeighborMean, encoder_output
from dgl_rbm.registry import encoders
from dgl_rbm.training.context import RunContext, Stage

__all__ = ["DeepWalkConfig", "DeepWalkEncoder"]

# Bounds the memory that walks take at a time, and is what a progress bar moves by.
_NODES_AT_ONCE = 1_000_000
_FIRST_RATE, _LAST_RATE = 0.025, 0.0001


class _Walks:
    """Random walks in batches; the same walks each time they are asked for, without keeping them.

    Parameters
    ----------
    graph : dgl.DGLGraph
        Walks follow its edges, source to destination, self-loops excepted.
    walk_length : int
        Nodes on a walk.
    walks_per_node : int
        Walks from each node that an edge leaves.
    """

    def __init__(self, graph: Any, walk_length: int, walks_per_node: int) -> None:
        self.graph = dgl.remove_self_loop(graph)
        self.starts = (self.graph.out_degrees() > 0).nonzero().squeeze(1).to(self.graph.idtype)
        self.walk_length, self.walks_per_node = walk_length, walks_per_node
        self.batch_size = max(1, _NODES_AT_ONCE // walk_length)

    def __len__(self) -> int:
        return self.walks_per_node * -(-len(self.starts) // self.batch_size)

    def batches(self, seed: int) -> Iterator[npt.NDArray[np.int64]]:
        """Yield node ids ``[B, walk_length]``, −1 after the end of a walk that came to a node without exit.

        DGL's walks are the same for the same seed and number of threads.
        """
        if not len(self.starts):
            return
        dgl.seed(seed)
        generator = torch.Generator().manual_seed(seed)
        for _ in range(self.walks_per_node):
            order = self.starts[torch.randperm(len(self.starts), generator=generator)]
            for batch in order.split(self.batch_size):
                walks, _ = dgl.sampling.random_walk(self.graph, batch, length=self.walk_length - 1)
                yield walks.numpy().astype(np.int64)


class DeepWalkEncoder(Encoder):
    """Vectors of skip-gram with negative sampling, trained on random walks as on sentences.

    One worker trains, because several would race. Nodes that are on no walk with another node have zeros.

    Parameters
    ----------
    dim : int
        P.
    walk_length, walks_per_node : int
        Nodes on a walk; walks from each node.
    window : int
        Most steps between two nodes of a walk that count as meeting.
    epochs : int
        Passes over the walks.
    negative : int
        Noise nodes drawn for each pair.
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
        """Walk the observed graph and learn one vector per node."""
        walks = _Walks(observed.graph, self.walk_length, self.walks_per_node)
        with context.stage("encoder", (1 + self.epochs) * len(walks), unit="walk batches") as stage:
            vectors = self._skip_gram(walks, len(observed), stage)
            return encoder_output(NeighborMean(observed.graph), vectors, consistent=self.consistent)

    def _skip_gram(self, walks: _Walks, num_nodes: int, stage: Stage) -> Tensor:
        seed = int(torch.randint(2**31 - 1, ()))
        vectors = torch.zeros(num_nodes, self.dim)
        visits = np.zeros(num_nodes, dtype=np.int64)
        for done, batch in enumerate(walks.batches(seed), 1):
            visits += np.bincount(batch[batch >= 0], minlength=num_nodes)
            stage.step(done)
        met = visits.nonzero()[0]
        if not len(met):
            return vectors
        # The empty name at index -1 stands for the end of a walk; it is not in the vocabulary.
        names = np.append(np.arange(num_nodes).astype(str).astype(object), "")
        model = Word2Vec(
            vector_size=self.dim,
            window=self.window,
            negative=self.negative,
            sg=1,
            min_count=1,
            # Thinning out frequent words is for texts; here it would drop the hubs, and in small graphs all nodes.
            sample=0,
            workers=1,
            seed=seed,
        )
        model.build_vocab_from_freq(dict(zip(names[met].tolist(), visits[met].tolist(), strict=True)))
        rates = np.linspace(_FIRST_RATE, _LAST_RATE, self.epochs * len(walks) + 1)
        done = 0
        for _ in range(self.epochs):
            for batch in walks.batches(seed):
                # One call per batch, rather than one for all, keeps the callbacks out of gensim's threads.
                model.train(
                    names[batch].tolist(),
                    total_examples=len(batch),
                    epochs=1,
                    start_alpha=float(rates[done]),
                    end_alpha=float(rates[done + 1]),
                )
                done += 1
                stage.step(len(walks) + done)
        vectors[torch.from_numpy(np.array(model.wv.index_to_key, dtype=np.int64))] = torch.from_numpy(model.wv.vectors)
        return vectors


@encoders.register
class DeepWalkConfig(EncoderConfig):
    """Skip-gram vectors of nodes that meet on random walks."""

    kind: Literal["deepwalk"] = "deepwalk"
    dim: int = Field(default=64, ge=1, description="Columns of the encoding.")
    walk_length: int = Field(default=50, ge=2, description="Nodes on a random walk.")
    walks_per_node: int = Field(default=5, ge=1, description="Random walks that start at each node.")
    window: int = Field(default=5, ge=1, description="Most steps between two nodes of a walk that count as meeting.")
    epochs: int = Field(default=1, ge=1, description="Passes over all walks.")
    negative: int = Field(default=5, ge=1, description="Noise nodes drawn for each pair of nodes that meet.")

    def build(self) -> DeepWalkEncoder:
        """Make the encoder."""
        return DeepWalkEncoder(**self.model_dump(exclude={"kind", "standardize", "weight"}))
